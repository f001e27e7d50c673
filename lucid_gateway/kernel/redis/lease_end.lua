-- Ends a lease that the holder still has. KEYS[1]: the lease. ARGV[1]: the holder.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
