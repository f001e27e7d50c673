-- Charges an attempt to one subject in one atomic step, before the attempt is checked.
--
-- KEYS[1]  the failures of the subject: a hash of their number (`n`), the end of its last lockout (`u`), and for each
--          charge that may still be refunded `c:<id>` (the end of the lockout that the charge began, else 0)
-- ARGV     id of the charge, seconds after the last failure until the failures expire, failures that are free, first
--          lockout (s), longest lockout (s)
--
-- Returns {seconds to wait, end of the lockout that the charge began, else 0}. If there are seconds to wait, nothing was
-- charged. A charge that is sent twice counts once. After the free failures, each one locks out for twice as long as the
-- last.

local charge = 'c:' .. ARGV[1]
local free, first, longest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local known = redis.call('HGET', KEYS[1], charge)
if known then return {0, tonumber(known)} end

local now = tonumber(redis.call('TIME')[1])
local ends = tonumber(redis.call('HGET', KEYS[1], 'u')) or 0
if ends > now then return {ends - now, 0} end
if ends > 0 then
  -- A lockout has passed, and the attempts from before it with it: without this, guesses that never stop would add ids
  -- for as long as they keep the hash from expiring.
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if field ~= 'n' then redis.call('HDEL', KEYS[1], field) end
  end
end

local failures = redis.call('HINCRBY', KEYS[1], 'n', 1)
local begun = 0
if failures >= free then
  begun = now + math.min(longest, first * 2 ^ math.min(failures - free, 30))
  redis.call('HSET', KEYS[1], 'u', begun)
end
redis.call('HSET', KEYS[1], charge, begun)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {0, begun}
