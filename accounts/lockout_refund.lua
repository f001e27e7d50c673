-- Refunds a charge to one subject in one atomic step, and ends the lockout that the charge began: the attempt was right,
-- or nothing was guessed.
--
-- KEYS[1]  the failures of the subject (see lockout_charge.lua)
-- ARGV[1]  id of the charge
--
-- Returns 1, or 0 if the charge is unknown: it was never applied, or was already refunded or forgotten.

local charge = 'c:' .. ARGV[1]
local begun = redis.call('HGET', KEYS[1], charge)
if not begun then return 0 end
redis.call('HDEL', KEYS[1], charge)
if redis.call('HGET', KEYS[1], 'u') == begun then redis.call('HDEL', KEYS[1], 'u') end
local left = redis.call('HINCRBY', KEYS[1], 'n', -1)
if left <= 0 and redis.call('HEXISTS', KEYS[1], 'u') == 0 then redis.call('DEL', KEYS[1]) end
return 1
