-- Takes a ticket: returns what it stands for, and removes it, so that no other request gets it.
--
-- KEYS[1]  the ticket

local stored = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return stored
