-- Checks one guess at a login code in one atomic step.
--
-- KEYS[1]  the challenge: a hash of `hash` and `guesses`
-- ARGV[1]  the hash of the guessed code
-- ARGV[2]  guesses allowed
--
-- Returns 1 (right: the challenge is used up), 0 (wrong), -1 (no challenge: used, expired or guessed at too often).

local challenge = redis.call('HMGET', KEYS[1], 'hash', 'guesses')
if not challenge[1] then return -1 end
if challenge[1] == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return 1
end
if redis.call('HINCRBY', KEYS[1], 'guesses', 1) >= tonumber(ARGV[2]) then redis.call('DEL', KEYS[1]) end
return 0
