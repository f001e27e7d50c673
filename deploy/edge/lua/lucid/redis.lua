-- Connections to the gateway's Redis, in its protocol (RESP2).
--
-- The decision script compares a key with the run id of the server that answers, as a restarted or another server may
-- lack revocations. A connection keeps its server for life. So each new connection asks for the run id, and the pools
-- are named after it: all connections of a pool lead to the run that its name says.
--
-- A server is a table: `host`, its `address` and `port`, the `run_id` that answered last, and `pause_until` (see
-- `is_paused`). There is one, unless REDIS_URL names a cluster: then cluster.lua knows which has a key.

local ssl = require "ngx.ssl"
local settings = require "lucid.settings"

local redis = {}

local POOL_SIZE, WAITING, IDLE_MS = 64, 1024, 60000
local PAUSE_SECONDS = 0.5

local tcp, byte, sub = ngx.socket.tcp, string.byte, string.sub

-- Returns a command as bytes to send.
function redis.encode(...)
  local parts = { "*" .. select("#", ...) }
  for index = 1, select("#", ...) do
    local text = tostring((select(index, ...)))
    parts[#parts + 1] = "$" .. #text .. "\r\n" .. text
  end
  return table.concat(parts, "\r\n") .. "\r\n"
end

-- Reads one answer: a number, a text, false for nothing, or a table of answers. Returns nil and the error if the server
-- refuses the command (third result: true) or the connection fails.
function redis.read(sock)
  local line, err = sock:receive()
  if not line then return nil, err end
  local kind, rest = byte(line), sub(line, 2)
  if kind == 58 then return tonumber(rest) end -- :
  if kind == 43 then return rest end -- +
  if kind == 45 then return nil, rest, true end -- -
  local size = tonumber(rest)
  if size == -1 then return false end
  if kind == 36 then -- $
    local data
    data, err = sock:receive(size + 2)
    return data and sub(data, 1, size), err
  end
  local answers, refusal = {}, nil
  for index = 1, size do
    local answer, problem, refused = redis.read(sock)
    if answer == nil and not refused then return nil, problem end
    answers[index], refusal = answer, refusal or problem
  end
  if refusal then return nil, refusal, true end
  return answers
end

-- Sends a command and reads its answer.
function redis.call(sock, ...)
  local sent, err = sock:send(redis.encode(...))
  if not sent then return nil, err end
  return redis.read(sock)
end

-- The server, unless there is a cluster; of a Sentinel group, it has no address until `lead_to` has said it.
local single
local by_slot, slot_of -- of a cluster: its servers, and the slot of a key
local certificate, key -- of this client, if the server asks for one

-- Returns a new server. nginx asks a name server for names, which may not know this host's own.
function redis.new_server(host, port)
  local address = host == "localhost" and "127.0.0.1" or host
  return { host = host, address = address, port = port, run_id = "", pause_until = 0 }
end

-- Reads the settings, in each worker.
function redis.start()
  local at = settings.redis
  if at.group == "" then single = redis.new_server(at.host, at.port) else single = redis.new_server() end
  if at.certificate ~= "" then
    certificate, key = assert(ssl.parse_pem_cert(at.certificate)), assert(ssl.parse_pem_priv_key(at.key))
  end
end

-- Leads all calls from now on to the servers of a cluster; `of_key` returns the slot of a key.
function redis.serve_slots(servers, of_key) by_slot, slot_of = servers, of_key end

-- Returns the server of a slot, or the only one; nil if no server is known for the slot.
function redis.server_at(slot)
  if by_slot then return by_slot[slot] end
  return single
end

-- Leads all new connections to this server of the group, and uses those to the one before no more.
function redis.lead_to(host, port)
  single.is_lost = true
  single = redis.new_server(host, port)
end

-- Begins TLS on a new connection. The certificate must be for the server's name, or for that in REDIS_URL if the server
-- is a node that the cluster knows by its address.
local function secure(sock, server)
  if certificate then
    local ok, err = sock:setclientcert(certificate, key)
    if not ok then return nil, err end
  end
  local name = server.host
  if not name:find("%a") or name:find(":", 1, true) then name = settings.redis.host end
  return sock:sslhandshake(false, name, true)
end

-- Returns whether the server takes writes; a group's may have been demoted, or not yet promoted.
local function is_primary(sock)
  local info, err = redis.call(sock, "INFO", "replication")
  if info and not info:find("role:master", 1, true) then return nil, "the server is a replica" end
  return info, err
end

-- Logs in on a new connection and returns the server's run id, or nil and the error.
local function introduce(sock, server)
  local at = settings.redis
  if at.tls then
    local ok, err = secure(sock, server)
    if not ok then return nil, err end
  end
  if at.password ~= "" then
    local ok, err
    if at.username ~= "" then ok, err = redis.call(sock, "AUTH", at.username, at.password)
    else ok, err = redis.call(sock, "AUTH", at.password) end
    if not ok then return nil, err end
  end
  if at.database ~= 0 then
    local ok, err = redis.call(sock, "SELECT", at.database)
    if not ok then return nil, err end
  end
  if at.group ~= "" then
    local ok, err = is_primary(sock)
    if not ok then return nil, err end
  end
  local info, err = redis.call(sock, "INFO", "server")
  return info and info:match("run_id:(%w+)"), err
end

local options = { pool_size = POOL_SIZE, backlog = WAITING }

-- Returns a connection, the run id of its server, and whether it may be kept; nil and the error if there is none.
local function connect(server, fresh)
  local at, sock, pool = settings.redis, tcp(), server.run_id
  sock:settimeout(at.timeout_ms)
  options.pool = fresh and "fresh" or pool
  local ok, err
  if at.socket ~= "" then ok, err = sock:connect("unix:" .. at.socket, options)
  elseif server.address then ok, err = sock:connect(server.address, server.port, options)
  else return nil, "no server is known" end
  if not ok then return nil, err end
  if sock:getreusedtimes() > 0 then return sock, pool, true end
  local found
  found, err = introduce(sock, server)
  if found and at.group ~= "" and server ~= single then found, err = nil, "the primary has changed" end
  if not found then
    sock:close()
    return nil, err
  end
  server.run_id = found
  return sock, found, found == pool and not fresh
end

-- Returns a connection for one use and the run id of its server, or nil and the error.
function redis.open(server) return connect(server, true) end

-- Whether the error is about one slot of a cluster, which has moved or is being moved.
function redis.is_redirection(err)
  local kind = err and err:match("^(%u+) ")
  return kind == "MOVED" or kind == "ASK" or kind == "TRYAGAIN"
end

-- Notes that the server did not answer: see `is_paused`.
function redis.note_failure(server, err)
  ngx.log(ngx.WARN, "Redis: ", err)
  ngx.update_time()
  server.pause_until = ngx.now() + PAUSE_SECONDS
end

local function attempt(server, fresh, work)
  local sock, of_server, keep = connect(server, fresh)
  if not sock then return nil, of_server end
  local result, err, refused = work(sock)
  if result == nil and not refused then
    local reused = sock:getreusedtimes() > 0
    sock:close()
    return nil, err, reused and err ~= "timeout"
  end
  -- A late answer must not be read as that to the next command: only after a whole one is the connection kept.
  if keep then sock:setkeepalive(IDLE_MS, POOL_SIZE) else sock:close() end
  return result, err
end

-- Runs `work(sock)` on a server. The function returns nil and an error (and true if the server has refused) when it
-- fails. It runs once more if an idle connection had been closed. Returns its result, or nil and the error. After an
-- error, requests do not wait for the server for a moment: see `is_paused`.
function redis.with_server(server, work)
  local result, err, again = attempt(server, false, work)
  if again then result, err = attempt(server, true, work) end
  if result == nil and not redis.is_redirection(err) then redis.note_failure(server, err) end
  return result, err
end

-- Runs `work(sock)` on the server that has a key, as `with_server`. In a cluster, a slot that has moved is asked for again
-- soon.
function redis.with(name, work)
  local server = redis.server_at(slot_of and slot_of(name))
  if not server then return nil, "no server is known" end
  return redis.with_server(server, work)
end

-- Whether the server has just failed.
function redis.is_paused(server) return ngx.now() < server.pause_until end

return redis
