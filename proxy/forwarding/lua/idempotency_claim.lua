-- Gives the record of an Idempotency-Key to one of all requests with that key, in one atomic step.
--
-- KEYS[1]  the record: a hash of state (s), owner (o), fingerprint of the request (f), end of the owner's lease (l, ms
--          since the epoch), and details (a): the encrypted answer, or the status of an answer that was not stored
-- ARGV     owner, fingerprint, lease (ms), lifetime of the record (ms)
--
-- Returns {'claimed'} to the owner, which may claim again if it missed the reply. Others get {'conflict'} for another
-- fingerprint, else {'under_way'}, {'unknown'}, {'not_stored', status} or {'stored', answer}.

local record = redis.call('HMGET', KEYS[1], 's', 'o', 'f', 'l', 'a')
local state, owner, fingerprint, lease, answer = unpack(record)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if not state then
  redis.call('HSET', KEYS[1], 's', 'claimed', 'o', ARGV[1], 'f', ARGV[2], 'l', now + ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {'claimed'}
end
if fingerprint ~= ARGV[2] then return {'conflict'} end
if state ~= 'claimed' then return {state, answer or ''} end
if owner == ARGV[1] then return {'claimed'} end
return {tonumber(lease) > now and 'under_way' or 'unknown'}
