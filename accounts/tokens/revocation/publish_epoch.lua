-- Writes an epoch that expires, unless Redis has a later one: a slow writer may have read an earlier epoch.
-- KEYS[1]: the key. ARGV: the epoch, its life in seconds.
if (tonumber(redis.call('GET', KEYS[1])) or 0) > tonumber(ARGV[1]) then return end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
