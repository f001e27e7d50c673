-- Gives a charged attempt back to each of several subjects in one atomic step: it was right, or nothing was guessed.
--
-- KEYS     as for lockout_charge.lua
-- ARGV     for each subject: its name, 1 to forget its failures altogether or 0
--
-- A lockout that is in force began with this attempt: while it was in force no other could be charged.

for i = 2, #KEYS do
  local at = (i - 2) * 2
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local left = redis.call('HINCRBY', KEYS[i], 'n', -1)
    if left <= 0 or ARGV[at + 2] == '1' then redis.call('DEL', KEYS[i]) else redis.call('HDEL', KEYS[i], 'u') end
    redis.call('ZREM', KEYS[1], ARGV[at + 1])
  end
end
return 1
