-- Takes one guess at a login in one atomic step. It is counted before it is checked, so that no more parallel guesses
-- are checked than are allowed; `login_settle.lua` refunds it if nothing was guessed.
--
-- KEYS[1]  the logins of the email (see login_start.lua)
-- ARGV[1]  `code` or `link`
-- ARGV[2]  the hash of the code or of the link's token
-- ARGV[3]  guesses allowed
--
-- Returns {verdict, wallet challenge}: 1 (right), 0 (wrong), -1 (no login: it was used, has expired or had its guesses).

local allowed = tonumber(ARGV[3])
if ARGV[1] == 'link' then
  local ends = tonumber(redis.call('HGET', KEYS[1], 'l:' .. ARGV[2]))
  if not ends or ends <= tonumber(redis.call('TIME')[1]) then return {-1, ''} end
  if redis.call('HINCRBY', KEYS[1], 'g:' .. ARGV[2], 1) > allowed then return {-1, ''} end
  return {1, redis.call('HGET', KEYS[1], 'w:' .. ARGV[2]) or ''}
end

local code = redis.call('HGET', KEYS[1], 'code')
if not code then return {-1, ''} end
local guesses = redis.call('HINCRBY', KEYS[1], 'guesses', 1)
if guesses > allowed then return {-1, ''} end
if code == ARGV[2] then return {1, redis.call('HGET', KEYS[1], 'wallet') or ''} end
if guesses == allowed then redis.call('HDEL', KEYS[1], 'code') end
return {0, ''}
