-- Charges one attempt to each of several subjects in one atomic step, before the attempt is checked.
--
-- KEYS[1]     the subjects that are locked out now: a sorted set by the end of the lockout
-- KEYS[2..]   a hash for each subject: failures (n), locked out until (u)
-- ARGV[1]     seconds after the last failure until the failures of a subject expire
-- ARGV[2..]   for each subject: its name, failures that are free, first lockout (s), longest lockout (s)
--
-- Returns {seconds to wait, indexes of the subjects whose lockout this attempt began...}. If there are seconds to wait,
-- nothing was charged. After the free failures, each one locks out for twice as long as the last.

local now = tonumber(redis.call('TIME')[1])
local wait = 0
for i = 2, #KEYS do
  local ends = tonumber(redis.call('HGET', KEYS[i], 'u')) or 0
  if ends - now > wait then wait = ends - now end
end
if wait > 0 then return {wait} end

local answer = {0}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for i = 2, #KEYS do
  local at = 2 + (i - 2) * 4
  local name, free, first, longest = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local failures = redis.call('HINCRBY', KEYS[i], 'n', 1)
  if failures >= free then
    local seconds = math.min(longest, first * 2 ^ math.min(failures - free, 30))
    redis.call('HSET', KEYS[i], 'u', now + seconds)
    redis.call('ZADD', KEYS[1], now + seconds, name)
    redis.call('EXPIRE', KEYS[1], ARGV[1])
    table.insert(answer, i - 2)
  end
  redis.call('EXPIRE', KEYS[i], ARGV[1])
end
return answer
