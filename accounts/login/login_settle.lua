-- Ends a guess that was right in one atomic step.
--
-- KEYS[1]  the logins of the email (see login_start.lua)
-- ARGV[1]  `code` or `link`
-- ARGV[2]  the hash of the code or of the link's token
-- ARGV[3]  `use` (the logins of the email are used up, all of them) or `return` (nothing was guessed)
--
-- Returns 1 to the one that used it up, 0 to those that came later.

local field = ARGV[1] == 'link' and 'l:' .. ARGV[2] or 'code'
local value = redis.call('HGET', KEYS[1], field)
if not value or (ARGV[1] == 'code' and value ~= ARGV[2]) then return 0 end
if ARGV[3] == 'use' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HINCRBY', KEYS[1], ARGV[1] == 'link' and 'g:' .. ARGV[2] or 'guesses', -1)
end
return 1
