-- Settles a right guess in one atomic step.
--
-- KEYS[1]  the logins of the email (see login_start.lua)
-- ARGV[1]  `code` or `link`
-- ARGV[2]  the hash of the code or of the link's token
-- ARGV[3]  `use` (end all logins of the email) or `refund` (do not count the guess)
--
-- Returns 1 to the first caller, 0 to later ones.

local field = ARGV[1] == 'link' and 'l:' .. ARGV[2] or 'code'
local value = redis.call('HGET', KEYS[1], field)
if not value or (ARGV[1] == 'code' and value ~= ARGV[2]) then return 0 end
if ARGV[3] == 'use' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HINCRBY', KEYS[1], ARGV[1] == 'link' and 'g:' .. ARGV[2] or 'guesses', -1)
end
return 1
