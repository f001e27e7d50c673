-- WebSockets (RFC 6455). The gateway decides on each handshake as on any other request. If it admits the handshake, it
-- redirects nginx to where the edge forwards, and says who the caller is and what to ask the cluster for. nginx makes the
-- tunnel and moves the bytes. This watches over it: a tunnel ends with the caller's credential.

local answers = require "lucid.answers"
local callers = require "lucid.callers"
local cjson = require "cjson.safe"
local client = require "lucid.client"
local cluster = require "lucid.cluster"
local decisions = require "lucid.decisions"
local fields = require "lucid.fields"
local forwarding = require "lucid.forwarding"
local instances = require "lucid.instances"
local requests = require "lucid.requests"
local routes = require "lucid.routes"
local sentinel = require "lucid.sentinel"
local settings = require "lucid.settings"
local snapshot = require "lucid.snapshot"

local tunnel = {}

local EVERY_SECONDS = 1.5
-- How long a tunnel goes on while Redis cannot say whether the caller's gates are open.
local UNCHECKED_SECONDS = 60
local SNAPSHOT_SECONDS, PAUSE_SECONDS = 4, 0.1
local RETRY_SECONDS = 1
-- Gates of the decision script, by their number: one that says that Redis does not know, and why others are closed. The
-- rest are revisions: the client has to come back, so that the gateway decides anew.
local INCOMPLETE = 1
local REASONS = { [2] = "account_locked", [3] = "token_revoked", [4] = "epoch_over" }

local tunnels = {} -- of this worker, as a set; those whose instance has not answered yet among them

-- Returns the route of the current request, if it may have WebSockets, and the path.
local function route_of_request()
  local path = ngx.var.request:match("^GET (/[^?# ]*)%S* HTTP/1%.1$")
  local route = path and routes.find("GET", path)
  return route and route.websocket and route, path
end

-- Returns whether the current request is a handshake on a route with WebSockets, which is not taken off the edge.
function tunnel.is_handshake()
  local route, facts = route_of_request(), snapshot.latest()
  if not route or (facts and (facts.off[""] or facts.off[route.path])) then return false end
  return fields.of_handshake() ~= nil
end

-- Lets the gateway decide on the handshake. Only with the edge's secret does it take the request for one.
function tunnel.ask()
  local var = ngx.var
  var.lucid_secret, var.lucid_handshake = settings.edge_secret, "1"
  var.lucid_connection, var.lucid_upgrade = "upgrade", "websocket"
  return ngx.exec("@handshake")
end

-- Returns the limits in the gateway's answer.
local function limits_of_answer()
  local var = ngx.var
  return {
    ["X-RateLimit-Limit"] = var.upstream_http_x_ratelimit_limit, ["RateLimit"] = var.upstream_http_ratelimit,
    ["X-RateLimit-Remaining"] = var.upstream_http_x_ratelimit_remaining,
    ["X-RateLimit-Reset"] = var.upstream_http_x_ratelimit_reset,
    ["RateLimit-Policy"] = var.upstream_http_ratelimit_policy,
  }
end

-- Returns the snapshot. Waits for it if there is none, as when this edge has just met its gateway: nobody else could
-- make the tunnel.
local function facts_of(gateway)
  snapshot.belongs_to(gateway)
  local until_ = ngx.now() + SNAPSHOT_SECONDS
  while not snapshot.current() and ngx.now() < until_ do
    snapshot.poll()
    if not snapshot.current() then ngx.sleep(PAUSE_SECONDS) end
  end
  return snapshot.current()
end

-- Chooses an instance; returns an error of the policy if none can be used, or there is no place in the bulkhead.
local function choose(request, gateway)
  local facts, name = facts_of(gateway), request.route.cluster
  request.cluster = facts and facts.clusters[name]
  request.instance = request.cluster and instances.choose(name, request.cluster, request.attempts)
  if not request.instance then return answers.error("ServiceUnavailable", { retry_after = RETRY_SECONDS }) end
  request.entered = instances.enter(name, request.cluster)
  if not request.entered then return answers.busy(name) end
end

-- Watches over the tunnel of a request, which may end at `ends` (epoch seconds) by itself.
local function watch(request, lesson)
  local now = ngx.now()
  local one = callers.gates(lesson, request.route.tier)
  one.request, one.of_nginx, one.checked_at = request, client.request(), now
  one.answer_until = now + request.route.timeouts.read
  one.ends = lesson.ends ~= cjson.null and lesson.ends or math.huge
  one.max_until = now + settings.tunnel_max_seconds
  tunnels[one] = true
end

-- Forwards an admitted handshake.
function tunnel.open()
  local lesson = cjson.decode(ngx.var.upstream_http_x_lucid_caller)
  local route, path = route_of_request()
  local found, dropped = fields.of_handshake()
  local request = {
    method = "GET", path = path, route = route, target = lesson.target, found = found, dropped = dropped,
    attempts = {}, caller = lesson, tier = { name = route.tier }, shown = limits_of_answer(), is_handshake = true,
  }
  requests.keep(request)
  request.refusal = choose(request, lesson.gateway)
  if request.refusal then return answers.send(request.refusal) end
  request.admitted = true
  forwarding.prepare(request)
  ngx.var.lucid_connection, ngx.var.lucid_upgrade = "upgrade", "websocket"
  watch(request, lesson)
end

-- Returns whether the tunnel has to end because of the caller, and the reason if there is one in the policy.
local function is_refused(one)
  local answer = decisions.ask(one)
  local verdict = answer and answer[1] or -INCOMPLETE
  if verdict < -INCOMPLETE then return true, REASONS[-verdict] end
  if verdict ~= -INCOMPLETE then one.checked_at = ngx.now() end
  return ngx.now() - one.checked_at > UNCHECKED_SECONDS, "redis_unavailable"
end

-- Returns whether the tunnel has to end now, and why.
local function is_due(one)
  local now = ngx.now()
  if now >= one.ends then return true, one.request.caller.api_key and "api_key_expired" or "token_expired" end
  if now >= one.max_until then return true end
  return is_refused(one)
end

-- Ends the attempt at an instance that has not answered the handshake in time. nginx cannot: it has one timeout for the
-- answer and for the silence of a tunnel.
local function end_late_attempt(one)
  if ngx.now() >= one.answer_until and not one.request.waited then
    one.request.is_late = true
    client.end_attempt(one.of_nginx)
  end
end

-- Ends the tunnels that are due, and drops those that are over.
local function check()
  local all = {}
  for one in pairs(tunnels) do all[#all + 1] = one end
  for _, one in ipairs(all) do
    local due, reason = false, nil
    if not one.request.is_over then
      end_late_attempt(one)
      due, reason = is_due(one)
    end
    -- Again, as asking Redis took time: the connection may be another client's by now.
    if one.request.is_over then
      tunnels[one] = nil
    elseif due then
      one.request.cut_by = reason
      client.end_connection(one.of_nginx)
    end
  end
end

local is_checking = false

local function check_once()
  is_checking = true
  local ok, err = pcall(check)
  is_checking = false
  if not ok then ngx.log(ngx.ERR, "checking tunnels failed: ", err) end
end

-- Starts to watch over the tunnels of this worker. A worker that ends goes on until the last one is over: its timers do not.
function tunnel.start()
  ngx.timer.every(EVERY_SECONDS, function(is_ending)
    if not is_checking then check_once() end
    while is_ending and next(tunnels) do
      ngx.sleep(EVERY_SECONDS)
      sentinel.ask()
      cluster.ask()
      check_once()
    end
  end)
end

return tunnel
