-- Marks the revocations in Redis as complete, unless the server was emptied since the rebuild began.
-- KEYS: the rebuild, which exists as long as nobody empties the server; the marker. ARGV[1]: the server's run id.
-- Returns 1 if it was marked.
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1
