-- Takes bytes out of a bucket that fills at a steady rate, in one atomic step.
--
-- KEYS[1]  the bucket: a hash of its level in bytes (l), which is negative while bytes are owed, and its time (t, ms)
-- ARGV[1]  bytes per second
-- ARGV[2]  burst in bytes
-- ARGV[3]  bytes to take
-- ARGV[4]  longest wait (ms)
-- ARGV[5]  ms since the epoch, or '' to ask the server
-- ARGV[6]  1: look only: answer the same, but take nothing and change no key
--
-- Returns {ms to wait before the bytes may pass, level} or, with nothing taken, {-ms until a retry can pass, level}.

local rate, burst, bytes, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(ARGV[5]) or tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local bucket = redis.call('HMGET', KEYS[1], 'l', 't')
local level, at = tonumber(bucket[1]) or burst, tonumber(bucket[2]) or now
level = math.min(burst, level + math.max(0, now - at) * rate / 1000)

local left = level - bytes
local wait = math.max(0, math.ceil(-left * 1000 / rate))
if wait > longest then return {-math.max(1, wait - longest), math.floor(level)} end
if ARGV[6] ~= '1' then
  redis.call('HSET', KEYS[1], 'l', string.format('%.3f', left), 't', now)
  redis.call('EXPIRE', KEYS[1], math.ceil((burst - left) / rate) + 1)
end
return {wait, math.floor(left)}
