-- Which server of a Sentinel group is the primary. Each worker asks all Sentinels twice a second and believes the answer
-- of the latest failover, as the gateway does (lucid_gateway/kernel/redis/connections.py).

local redis = require "lucid.redis"
local settings = require "lucid.settings"

local sentinel = {}

local EVERY_SECONDS = 0.5
local IDLE_MS, POOL_SIZE = 10000, 1

local epoch = 0 -- of the last failover that is known
local primary -- its address

-- Reads what one Sentinel says of the group: fields and values, and the address of the primary.
local function read_answers(sock)
  local state, address, err
  state, err = redis.read(sock)
  if not state then return nil, err end
  address, err = redis.read(sock)
  return address and state, address or err
end

-- Returns a Sentinel's view, or nil if it does not answer or does not know the group.
local function view_of(at)
  local sock, group = ngx.socket.tcp(), settings.redis.group
  sock:settimeout(settings.redis.timeout_ms)
  if not sock:connect(at.host, at.port) then return nil end
  local sent = sock:send(redis.encode("SENTINEL", "MASTER", group)
                         .. redis.encode("SENTINEL", "GET-MASTER-ADDR-BY-NAME", group))
  local fields, address
  if sent then fields, address = read_answers(sock) end
  if not fields then
    sock:close()
    return nil
  end
  sock:setkeepalive(IDLE_MS, POOL_SIZE)
  local state = {}
  for index = 1, #fields, 2 do state[fields[index]] = fields[index + 1] end
  -- During a failover, the address is already that of the new primary; the flags still describe the old one.
  local moved = address[1] ~= state.ip or address[2] ~= state.port
  return { epoch = tonumber(state["config-epoch"]), host = address[1], port = tonumber(address[2]),
           is_up = moved or not state.flags:find("[so]_down") }
end

local function views()
  local threads, found = {}, {}
  for index, at in ipairs(settings.redis.sentinels) do threads[index] = ngx.thread.spawn(view_of, at) end
  for _, thread in ipairs(threads) do
    local ok, view = ngx.thread.wait(thread)
    if ok and view then found[#found + 1] = view end
  end
  return found
end

-- Asks all Sentinels, because an isolated one still names an earlier primary, and leads connections to the primary. An
-- older epoch than a known one counts only if all Sentinels answer so: then they were set up again.
function sentinel.ask()
  if settings.redis.group == "" then return end
  local found, newest = views(), 0
  for _, view in ipairs(found) do newest = math.max(newest, view.epoch) end
  if newest < epoch and #found < #settings.redis.sentinels then return end
  for _, view in ipairs(found) do
    if view.epoch == newest and view.is_up then
      epoch = newest
      if not primary or view.host ~= primary.host or view.port ~= primary.port then
        if primary then ngx.log(ngx.WARN, "Sentinel names another primary: ", view.host, ":", view.port) end
        primary = view
        redis.lead_to(view.host, view.port)
      end
      return
    end
  end
end

local is_asking = false

local function ask_once()
  if is_asking then return end
  is_asking = true
  local ok, err = pcall(sentinel.ask)
  is_asking = false
  if not ok then ngx.log(ngx.ERR, "asking the Sentinels failed: ", err) end
end

-- Starts to follow the primary in this worker.
function sentinel.start()
  if settings.redis.group == "" then return end
  ngx.timer.at(0, ask_once)
  ngx.timer.every(EVERY_SECONDS, ask_once)
end

return sentinel
