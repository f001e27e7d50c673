-- Which master of a Redis Cluster has a key. Each worker asks a node twice a second, and follows MOVED, as the gateway
-- does (lucid_gateway/kernel/redis/cluster.py).

local bit = require "bit"
local redis = require "lucid.redis"
local settings = require "lucid.settings"

local cluster = {}

local SLOTS, EVERY_SECONDS = 16384, 0.5
local band, bxor, lshift, rshift = bit.band, bit.bxor, bit.lshift, bit.rshift
local byte = string.byte

local steps = {} -- of the checksum, by its high byte
local tags -- by slot
local by_slot, known = {}, {} -- servers by slot, and by address
local last = "" -- the answer that the table is from

for high = 0, 255 do
  local crc = lshift(high, 8)
  for _ = 1, 8 do crc = band(crc, 0x8000) ~= 0 and bxor(lshift(crc, 1), 0x1021) or lshift(crc, 1) end
  steps[high] = band(crc, 0xffff)
end

-- Returns the slot of a key: of the text in its first braces, or of all of it (Redis Cluster specification, "Hash tags").
local function slot_of(name)
  local text = name:match("{([^}]+)}", (name:find("{", 1, true))) or name
  if name:match("{(}?)") == "}" then text = name end
  local crc = 0
  for index = 1, #text do
    crc = bxor(band(lshift(crc, 8), 0xffff), steps[bxor(rshift(crc, 8), byte(text, index))])
  end
  return crc % SLOTS
end

-- Returns whether REDIS_URL names a cluster.
function cluster.is_used() return #settings.redis.nodes > 0 end

-- In the master process: finds the smallest number in each slot, which is the slot's tag.
function cluster.load()
  if not cluster.is_used() then return end
  tags = {}
  local number, found = 0, 0
  while found < SLOTS do
    local slot = slot_of(tostring(number))
    if not tags[slot] then tags[slot], found = tostring(number), found + 1 end
    number = number + 1
  end
end

-- Returns the slot of a key, nil without a cluster.
function cluster.slot_of(name) return tags and slot_of(name) end

-- Returns the name of a key in the copy that the slot has of it; without a cluster, the name itself.
function cluster.in_slot(name, slot)
  if not tags then return name end
  return (settings.policy.keys.in_slot:gsub("<name>", name):gsub("<tag>", tags[slot]))
end

local function server_at(host, port)
  local address = host .. ":" .. port
  if not known[address] then known[address] = redis.new_server(host, port) end
  return known[address]
end

-- Serves by this answer to CLUSTER SLOTS; `asked` is the host that was asked.
local function use(ranges, asked)
  local table_of, homes = {}, {}
  for _, range in ipairs(ranges) do
    local host = range[3][1]
    local server = server_at(host and host ~= "" and host or asked, range[3][2])
    homes[server] = math.min(homes[server] or SLOTS, range[1])
    for slot = range[1], range[2] do table_of[slot] = server end
  end
  for server, slot in pairs(homes) do server.home, server.is_lost = slot, false end
  for address, server in pairs(known) do
    if not homes[server] then known[address], server.is_lost = nil, true end
  end
  by_slot = table_of
  redis.serve_slots(by_slot, slot_of)
end

local function signature(ranges)
  local parts = {}
  for index, range in ipairs(ranges) do
    parts[index] = range[1] .. "-" .. range[2] .. " " .. tostring(range[3][1]) .. ":" .. range[3][2]
  end
  table.sort(parts)
  return table.concat(parts, ",")
end

-- Returns the servers to ask, in random order, those that have just failed last.
local function some_nodes()
  local found = {}
  for _, server in pairs(known) do found[#found + 1] = { server = server, at = math.random() } end
  for _, at in ipairs(settings.redis.nodes) do
    if not known[at.host .. ":" .. at.port] then
      found[#found + 1] = { server = redis.new_server(at.host, at.port), at = 1 + math.random() }
    end
  end
  for _, one in ipairs(found) do if redis.is_paused(one.server) then one.at = one.at + 2 end end
  table.sort(found, function(one, other) return one.at < other.at end)
  return found
end

local function read_slots(sock)
  local info, err = redis.call(sock, "CLUSTER", "INFO")
  if not info then return nil, err end
  local ranges
  ranges, err = redis.call(sock, "CLUSTER", "SLOTS")
  return ranges and { ranges = ranges, is_well = info:find("cluster_state:ok", 1, true) }, err
end

-- Asks the nodes which master serves which slot. The word of a node that has lost the majority counts only if no other
-- node answers. If none answers, everything stays as it was.
function cluster.ask()
  if not cluster.is_used() then return end
  local found, asked
  for _, one in ipairs(some_nodes()) do
    local answer = redis.with_server(one.server, read_slots)
    if answer and (answer.is_well or not found) then found, asked = answer, one.server.host end
    if found and found.is_well then break end
  end
  if not found then return end
  local now = signature(found.ranges)
  if now ~= last then
    use(found.ranges, asked)
    last = now
  end
end

-- Notes that a slot has moved, as the error of a server says; returns its new server, nil if the error says otherwise.
function cluster.follow(err, from)
  local slot, host, port = err:match("^MOVED (%d+) (.*):(%d+)$")
  if not slot then return nil end
  local server = server_at(host ~= "" and host or from.host, tonumber(port))
  server.home = server.home or tonumber(slot)
  by_slot[tonumber(slot)], last = server, ""
  return server
end

local is_asking = false

local function ask_once()
  if is_asking then return end
  is_asking = true
  local ok, err = pcall(cluster.ask)
  is_asking = false
  if not ok then ngx.log(ngx.ERR, "asking the cluster failed: ", err) end
end

-- Starts to follow the cluster in this worker.
function cluster.start()
  if not cluster.is_used() then return end
  redis.serve_slots(by_slot, slot_of)
  ngx.timer.at(0, ask_once)
  ngx.timer.every(EVERY_SECONDS, ask_once)
end

return cluster
