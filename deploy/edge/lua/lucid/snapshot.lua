-- What the gateway tells its edge each second: usable instances, address rules, settings. Each worker polls it.

local cjson = require "cjson.safe"
local redis = require "lucid.redis"
local settings = require "lucid.settings"

local snapshot = {}

local EVERY_SECONDS, STALE_SECONDS = 1, 10
local MAX_REMEMBERED = 10000
-- Survives the end of a worker: the name of the gateway, the last snapshot and rules, and when they were new.
local kept = ngx.shared.lucid_edge

local facts, facts_text, new_at
local networks, remembered, remembered_count = nil, {}, 0
local gateway_answers = true

-- Returns the name of one of the gateway's keys, nil while the gateway is unknown.
function snapshot.key(name)
  local gateway = kept:get("gateway")
  return gateway and (settings.policy.keys[name]:gsub("<gateway>", gateway))
end

-- Prepares the networks for look-ups: those with the most fixed bits first.
local function use_networks(text)
  local decoded = cjson.decode(text)
  local lists = { ["4"] = {}, ["6"] = {} }
  for name, entries in pairs(decoded.networks) do
    local version, bits = name:match("^(%d)/(%d+)$")
    for _, verdict in pairs(entries) do
      if verdict ~= cjson.null then verdict.until_ = verdict["until"] ~= cjson.null and verdict["until"] or nil end
    end
    table.insert(lists[version], { bits = tonumber(bits), entries = entries })
  end
  for _, list in pairs(lists) do
    table.sort(list, function(one, other) return one.bits > other.bits end)
  end
  networks, remembered, remembered_count = { version = decoded.version, lists = lists }, {}, 0
end

-- Takes over a snapshot; returns false if the address rules that it names are not here.
local function use(text, addresses)
  local decoded = cjson.decode(text)
  local off = {}
  for _, path in ipairs(decoded.off) do off[path] = true end
  decoded.off = off
  if addresses and (not networks or networks.version ~= decoded.addresses) then use_networks(addresses) end
  if not networks or networks.version ~= decoded.addresses then return false end
  facts, facts_text = decoded, text
  return true
end

local function read()
  return redis.with(snapshot.key("edge_snapshot"), function(sock)
    local text, err, refused = redis.call(sock, "GET", snapshot.key("edge_snapshot"))
    if not text then return text, err, refused end
    local found = { text = text }
    if not networks or networks.version ~= text:match('"addresses": ?"(%w+)"') then
      found.addresses, err, refused = redis.call(sock, "GET", snapshot.key("edge_addresses"))
      if found.addresses == nil then return nil, err, refused end
    end
    return found
  end)
end

-- Reads the snapshot now.
function snapshot.poll()
  if not kept:get("gateway") then return end
  local found = read()
  if not found or found.text == facts_text then return end
  if use(found.text, found.addresses or nil) then
    new_at = ngx.now()
    kept:set("snapshot", found.text)
    kept:set("new_at", new_at)
    if found.addresses then kept:set("addresses", found.addresses) end
  end
end

-- Notes whether the gateway accepts connections.
local function knock()
  local sock = ngx.socket.tcp()
  sock:settimeout(1000)
  gateway_answers = sock:connect("unix:" .. settings.gateway_socket) and true or false
  if gateway_answers then sock:close() end
end

-- Starts polling in this worker, with what an earlier one knew.
function snapshot.start()
  local text, addresses = kept:get("snapshot"), kept:get("addresses")
  if text and addresses and use(text, addresses) then new_at = kept:get("new_at") end
  ngx.timer.every(EVERY_SECONDS, function(ending)
    if ending then return end
    knock()
    snapshot.poll()
  end)
end

-- Notes which gateway this edge belongs to, and reads its snapshot if that is news.
function snapshot.belongs_to(gateway)
  if kept:get("gateway") == gateway then return end
  kept:set("gateway", gateway)
  ngx.timer.at(0, snapshot.poll)
end

-- Returns the age of the snapshot in seconds, nil without one.
function snapshot.age() return new_at and ngx.now() - new_at end

-- Returns the last snapshot, however old; nil if there was none.
function snapshot.latest() return facts end

-- Returns the snapshot, or nil if the gateway has to decide: there is none, or it is old although the gateway answers.
-- Without the gateway the last one serves.
function snapshot.current()
  if not facts or (ngx.now() - new_at > STALE_SECONDS and gateway_answers) then return nil end
  return facts
end

-- Returns the digits with only the first `bits` bits set.
local function masked(digits, bits)
  local whole, rest = math.floor(bits / 4), bits % 4
  local kept_digits = digits:sub(1, whole)
  if rest > 0 then
    local nibble = tonumber(digits:sub(whole + 1, whole + 1), 16)
    local step = 2 ^ (4 - rest)
    kept_digits = kept_digits .. string.format("%x", nibble - nibble % step)
  end
  return kept_digits .. string.rep("0", #digits - #kept_digits)
end

local function search(address)
  local digits = address:gsub(".", function(one) return string.format("%02x", one:byte()) end)
  for _, list in ipairs(networks.lists[#address == 4 and "4" or "6"]) do
    local found = list.entries[masked(digits, list.bits)]
    if found ~= nil then return found ~= cjson.null and found or false end
  end
  return false
end

-- Returns what the address rules say about a client (the bytes of its address): false if it passes, else a table with
-- the error, or with `ask` if the gateway has to decide.
function snapshot.verdict(address)
  local found = remembered[address]
  if found == nil then
    if remembered_count >= MAX_REMEMBERED then remembered, remembered_count = {}, 0 end
    found = search(address)
    remembered[address], remembered_count = found, remembered_count + 1
  end
  return found
end

return snapshot
