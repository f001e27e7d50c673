-- Starts a login in one atomic step. An email may start so many in a window, whether it has an account or not.
--
-- KEYS[1]  the logins of an email: a hash of the newest `code` (its hash), `guesses` at it, the newest `wallet`
--          challenge, and for each link `l:<hash>` (when it ends), `g:<hash>` (guesses at the second factor) and
--          `w:<hash>` (the wallet challenge of the same login)
-- KEYS[2]  the number of logins started in this window
-- ARGV     hash of the code, hash of the link's token, wallet challenge, lifetime (s), starts allowed, window (s),
--          1 to count the start or 0 to check whether one more would be allowed
--
-- Returns 0, or the seconds to wait. A new login replaces the code, but neither an earlier link nor the challenge that
-- belongs to it: somebody else who starts logins cannot void the owner's link.

local counted = ARGV[7] == '1'
local starts = counted and redis.call('INCR', KEYS[2]) or (tonumber(redis.call('GET', KEYS[2])) or 0) + 1
if counted and starts == 1 then redis.call('EXPIRE', KEYS[2], ARGV[6]) end
if starts > tonumber(ARGV[5]) then return math.max(1, redis.call('TTL', KEYS[2])) end

local now = tonumber(redis.call('TIME')[1])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, 2) == 'l:' and tonumber(redis.call('HGET', KEYS[1], field)) <= now then
    redis.call('HDEL', KEYS[1], field, 'g:' .. field:sub(3), 'w:' .. field:sub(3))
  end
end
redis.call('HSET', KEYS[1], 'code', ARGV[1], 'guesses', 0, 'wallet', ARGV[3])
redis.call('HSET', KEYS[1], 'l:' .. ARGV[2], now + ARGV[4], 'w:' .. ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 0
