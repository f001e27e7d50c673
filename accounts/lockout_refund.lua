-- Refunds a charged attempt to each of several subjects in one atomic step: it was right, or nothing was guessed.
--
-- KEYS     as for lockout_charge.lua
-- ARGV     for each subject: its name, 1 to delete all of its failures, else 0
--
-- An active lockout was started by this attempt, because no other attempt is charged during a lockout.

for i = 2, #KEYS do
  local at = (i - 2) * 2
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local left = redis.call('HINCRBY', KEYS[i], 'n', -1)
    if left <= 0 or ARGV[at + 2] == '1' then redis.call('DEL', KEYS[i]) else redis.call('HDEL', KEYS[i], 'u') end
    redis.call('ZREM', KEYS[1], ARGV[at + 1])
  end
end
return 1
