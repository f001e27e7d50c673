-- Starts a login in one atomic step: at most so many in a window for an account, whether it exists or not.
--
-- KEYS[1]  the logins of an email: a hash of the newest `code` (its hash), `guesses` at it, the newest `wallet`
--          challenge, and for each link `l:<hash>` (when it ends) and `g:<hash>` (guesses at the second factor)
-- KEYS[2]  how many were started in this window
-- ARGV     hash of the code, hash of the link's token, wallet challenge, lifetime (s), starts allowed, window (s)
--
-- Returns 0, or the seconds to wait. A new login replaces the code, but no link: whoever else asks for logins does
-- not take the owner's link away.

local starts = redis.call('INCR', KEYS[2])
if starts == 1 then redis.call('EXPIRE', KEYS[2], ARGV[6]) end
if starts > tonumber(ARGV[5]) then return math.max(1, redis.call('TTL', KEYS[2])) end

local now = tonumber(redis.call('TIME')[1])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, 2) == 'l:' and tonumber(redis.call('HGET', KEYS[1], field)) <= now then
    redis.call('HDEL', KEYS[1], field, 'g:' .. field:sub(3))
  end
end
redis.call('HSET', KEYS[1], 'code', ARGV[1], 'guesses', 0, 'wallet', ARGV[3], 'l:' .. ARGV[2], now + ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 0
