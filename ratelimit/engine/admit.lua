-- Decides one request in one atomic step, or looks at what it would decide and writes nothing.
--
-- KEYS[1]    the bucket: a hash of window start (w), requests in it (n), burst used (b), last use of the burst (t),
--            requests refused in the window (r)
-- KEYS[2]    a hash of a day since the epoch (d), and how many requests were admitted in it (n)
-- KEYS[3]    the requests in progress: a sorted set of leases by their end (ms)
-- KEYS[4..]  gates: keys that can refuse the request before it is counted
-- ARGV[1]    requests per minute; 0: not counted
-- ARGV[2]    burst size
-- ARGV[3]    seconds since the epoch, or '' to ask the server (one clock for all gateways)
-- ARGV[4]    requests per day; 0: no quota
-- ARGV[5]    concurrent requests; 0: no limit
-- ARGV[6]    the lease of this request
-- ARGV[7]    how long a lease lasts unless it is renewed (ms)
-- ARGV[8]    1: shadow mode for the rate: a request over it gets verdict 0, but is counted as admitted
-- ARGV[9]    1: shadow mode for quota and concurrent requests
-- ARGV[10]   1: look only: decide, but count nothing, take no lease and change no key
-- ARGV[11..] for each gate: a number (closed if the value is above it) or this server's run id, which is not a number
--            (closed unless the value is the same, because an earlier run or another server wrote it)
--
-- Returns {verdict, window left, burst left, seconds until it changes, now, refused in this window}. Verdicts:
-- 1 admitted, 0 over the limit, 2 over the quota, 3 too many concurrent requests; or {-i} when gate i is closed.
-- A look answers the same, followed by what was used before: requests of the window, of the burst and of the day, and
-- requests in progress. Of a limit that does not apply (0), nothing is used.

local WINDOW, BURST_RENEWS_AFTER, DAY = 60, 300, 86400
local FIXED_KEYS, FIXED_ARGUMENTS = 3, 10

if #KEYS > FIXED_KEYS then
  local values = redis.call('MGET', unpack(KEYS, FIXED_KEYS + 1))
  for i = 1, #KEYS - FIXED_KEYS do
    local rule = ARGV[FIXED_ARGUMENTS + i]
    local above = #rule < 40 and tonumber(rule)
    if above then
      if values[i] and tonumber(values[i]) > above then return {-i} end
    elseif values[i] ~= rule then
      return {-i}
    end
  end
end

local time = redis.call('TIME')
local now = tonumber(ARGV[3]) or tonumber(time[1])
local start = now - now % WINDOW
local resets_in = start + WINDOW - now
local limit, burst, quota, at_once = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local rate_observes, totals_observe = ARGV[8] == '1', ARGV[9] == '1'
local look = ARGV[10] == '1'
local verdict, place, day, spent, in_progress = 1, at_once > 0, math.floor(now / DAY), 0, 0
local refusal

-- Notes the first refusal. Returns whether it is the answer at once: a look reads on, to say what is used.
local function refuse(code, seconds, number)
  refusal = refusal or {code, 0, 0, seconds, now, number}
  return not look
end

if at_once > 0 then
  local now_ms = now * 1000 + math.floor(tonumber(time[2]) / 1000)
  if not look then redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now_ms) end
  in_progress = redis.call('ZCOUNT', KEYS[3], '(' .. now_ms, '+inf')
  if in_progress >= at_once then
    if not totals_observe and refuse(3, 1, 0) then return refusal end
    verdict, place = 3, false
  end
end
if quota > 0 then
  local counted = redis.call('HMGET', KEYS[2], 'd', 'n')
  spent = tonumber(counted[1]) == day and tonumber(counted[2]) or 0
  if spent >= quota and verdict == 1 then
    if not totals_observe and refuse(2, DAY - now % DAY, 0) then return refusal end
    verdict = 2
  end
end

local count, used, refused, in_window, of_burst = 0, 0, 0, 0, 0
if limit > 0 then
  local bucket = redis.call('HMGET', KEYS[1], 'w', 'n', 'b', 't', 'r')
  -- A clock that was set back must not open a second window for the same minute.
  if bucket[1] and tonumber(bucket[1]) > start and tonumber(bucket[1]) - start <= WINDOW then
    start = tonumber(bucket[1])
    resets_in = start + WINDOW - now
  end
  local same_window = bucket[1] and tonumber(bucket[1]) == start
  count = same_window and tonumber(bucket[2]) or 0
  refused = same_window and tonumber(bucket[5]) or 0
  local used_at = tonumber(bucket[4]) or 0
  used = tonumber(bucket[3]) or 0
  -- A clock that ran ahead for a while must not keep the burst from renewing.
  if math.abs(now - used_at) >= BURST_RENEWS_AFTER then used = 0 end

  in_window, of_burst = count, used
  if count < limit then
    count = count + 1
  elseif used < burst then
    used, used_at = used + 1, now
  else
    verdict, refused = 0, refused + 1
    if not look then
      redis.call('HSET', KEYS[1], 'w', start, 'n', count, 'r', refused)
      local ends = used > 0 and math.max(resets_in + 1, used_at + BURST_RENEWS_AFTER - now) or resets_in + 1
      redis.call('EXPIRE', KEYS[1], ends)
    end
    if not rate_observes and refuse(0, resets_in, refused) then return refusal end
  end
  if not look then
    if same_window and used == of_burst and verdict == 1 then
      -- The rest, and when the bucket expires, is as the last request has left it.
      redis.call('HSET', KEYS[1], 'n', count)
    else
      redis.call('HSET', KEYS[1], 'w', start, 'n', count, 'b', used, 't', used_at, 'r', refused)
      redis.call('EXPIRE', KEYS[1], used > 0 and BURST_RENEWS_AFTER or resets_in + 1)
    end
  end
end

if quota > 0 and not look then
  redis.call('HSET', KEYS[2], 'd', day, 'n', spent + 1)
  redis.call('EXPIRE', KEYS[2], DAY - now % DAY + 1)
end
if place and not look then
  redis.call('ZADD', KEYS[3], now * 1000 + math.floor(tonumber(time[2]) / 1000) + ARGV[7], ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[7])
end
local answer = refusal
  or verdict == 0 and {0, 0, 0, resets_in, now, refused}
  -- The limit may have been lowered since the bucket was used.
  or {verdict, math.max(0, limit - count), math.max(0, burst - used), resets_in, now, 0}
if look then
  for _, number in ipairs({in_window, of_burst, spent, in_progress}) do answer[#answer + 1] = number end
end
return answer
