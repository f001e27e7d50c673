-- Takes the oldest reports out of the stream. KEYS[1]: the stream. ARGV[1]: how many at most.
-- Returns the texts of the reports.
local texts = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])) do
  redis.call('XDEL', KEYS[1], entry[1])
  texts[#texts + 1] = entry[2][2]
end
return texts
