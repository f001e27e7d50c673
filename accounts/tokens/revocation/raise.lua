-- Sets a number that expires, unless the key holds a higher one: an epoch that a slow writer read earlier never
-- replaces a later one. KEYS[1]: the key. ARGV: the number, its life in seconds.
if (tonumber(redis.call('GET', KEYS[1])) or 0) > tonumber(ARGV[1]) then return end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
