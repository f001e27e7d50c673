-- Extends a lease if the holder still has it, and returns 1, otherwise 0. KEYS[1]: the lease. ARGV: holder, milliseconds.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
