-- Decides one request in one atomic step.
--
-- KEYS[1]    the bucket: a hash of window start (w), requests in it (n), burst used (b), last use of the burst (t)
-- KEYS[2..]  gates: keys of other owners that can close the door before anything is counted
-- ARGV[1]    requests a minute; 0 counts nothing
-- ARGV[2]    burst size
-- ARGV[3]    seconds since the epoch, or '' to ask the server (one clock for all gateways)
-- ARGV[4..]  for each gate: a number (closed when the value is above it) or this server's run id, which is no number
--            (closed unless the value is the same: what an earlier run or another server wrote does not count)
--
-- Returns {admitted, window left, burst left, seconds to the next window, now}, or {-i} when gate i is closed.

local WINDOW, BURST_RENEWS_AFTER = 60, 300

if #KEYS > 1 then
  local values = redis.call('MGET', unpack(KEYS, 2))
  for i = 1, #KEYS - 1 do
    local rule = ARGV[3 + i]
    local above = #rule < 40 and tonumber(rule)
    if above then
      if values[i] and tonumber(values[i]) > above then return {-i} end
    elseif values[i] ~= rule then
      return {-i}
    end
  end
end

local now = tonumber(ARGV[3]) or tonumber(redis.call('TIME')[1])
local start = now - now % WINDOW
local resets_in = start + WINDOW - now
local limit, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
if limit == 0 then return {1, 0, 0, resets_in, now} end

local bucket = redis.call('HMGET', KEYS[1], 'w', 'n', 'b', 't')
-- A clock that was set back never opens a second window for the same minute.
if bucket[1] and tonumber(bucket[1]) > start and tonumber(bucket[1]) - start <= WINDOW then
  start = tonumber(bucket[1])
  resets_in = start + WINDOW - now
end
local count = (bucket[1] and tonumber(bucket[1]) == start) and tonumber(bucket[2]) or 0
local used, used_at = tonumber(bucket[3]) or 0, tonumber(bucket[4]) or 0
if now - used_at >= BURST_RENEWS_AFTER then used = 0 end

if count < limit then
  count = count + 1
elseif used < burst then
  used, used_at = used + 1, now
else
  return {0, 0, 0, resets_in, now}
end

redis.call('HSET', KEYS[1], 'w', start, 'n', count, 'b', used, 't', used_at)
redis.call('EXPIRE', KEYS[1], used > 0 and BURST_RENEWS_AFTER or resets_in + 1)
return {1, limit - count, burst - used, resets_in, now}
