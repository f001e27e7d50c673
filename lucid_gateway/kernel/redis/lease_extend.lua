-- Extends a lease that the holder still has. KEYS[1]: the lease. ARGV: the holder, milliseconds. Returns 1 if it has it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
