-- Stores the outcome of a request with an Idempotency-Key, in one atomic step; only the owner of the record may do so.
--
-- KEYS[1]  the record (see idempotency_claim.lua)
-- ARGV     owner, fingerprint, `stored`, `not_stored`, `unknown` or `released` (nothing was sent: the next request may
--          claim the key), details, lifetime of the record (ms)
--
-- Returns 1 to the owner, else 0. A record that Redis has lost in the meantime is written again.

local owner = redis.call('HGET', KEYS[1], 'o')
if owner and owner ~= ARGV[1] then return 0 end
if ARGV[3] == 'released' then
  redis.call('DEL', KEYS[1])
  return 1
end
redis.call('HSET', KEYS[1], 's', ARGV[3], 'o', ARGV[1], 'f', ARGV[2], 'a', ARGV[4])
if not owner then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
return 1
