-- The access phase: decides a plain request of a caller that the gateway has taught, or leaves it to the gateway.
--
-- Everything that can send a request to the gateway is looked at before the script counts it. Once it is counted, the
-- edge forwards or refuses it.

local answers = require "lucid.answers"
local cache = require "lucid.cache"
local callers = require "lucid.callers"
local decisions = require "lucid.decisions"
local fields = require "lucid.fields"
local forwarding = require "lucid.forwarding"
local instances = require "lucid.instances"
local lessons = require "lucid.lessons"
local new_table = require "table.new"
local requests = require "lucid.requests"
local routes = require "lucid.routes"
local snapshot = require "lucid.snapshot"
local tunnel = require "lucid.tunnel"

local admission = {}

-- How many facts about a request there may be: with room for all, the table never grows.
local FACTS = 32
local OVER_LIMIT, ADMITTED, OVER_QUOTA = 0, 1, 2
local REFUSALS = { [OVER_LIMIT] = "RateLimited", [OVER_QUOTA] = "QuotaExceeded" }
-- nginx takes a bare line feed for the end of a line (RFC 9112, section 2.2), where another server may see none, and
-- lets control characters pass, which no field may have (RFC 9110, section 5.5).
local WELL_FORMED = [=[^(?:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)++\z]=]
local SPACE, SLASH = 32, 47
local byte, find = string.byte, string.find

-- Returns the facts about a plain request with these fields, nil for any other.
local function read_request(method, target, found)
  local route, path, upstream = routes.find(method, target)
  if not route then return nil end
  local plain, dropped = fields.of_request(found)
  if not plain then return nil end
  local length = found["content-length"]
  if length then
    if #length > 12 or not length:find("^%d+$") or tonumber(length) > route.body_limit then return nil end
  elseif forwarding.NEEDS_LENGTH[method] then
    return nil
  end
  local credential, api_key = found.authorization, found["x-api-key"]
  if credential and api_key then return nil end
  credential = credential or (api_key and "key " .. api_key)
  if not credential then return nil end
  local request = new_table(0, FACTS)
  request.method, request.path, request.route, request.target = method, path, route, upstream
  request.found, request.dropped, request.credential = found, dropped, credential
  request.has_body, request.attempts = length ~= nil and length ~= "0", {}
  return request
end

-- Answers the request with the error, in which staff find where it is explained.
local function refuse(request, error)
  local console = request.caller.console
  error.details.console = console and console:gsub("[^/]+/$", requests.id() .. "/") or nil
  request.refusal = error
  request.cache, request.lookup = nil, nil
  return answers.send(error)
end

local function refuse_address(verdict, found)
  local left = verdict.until_ and math.max(1, math.ceil(verdict.until_ - ngx.now()))
  local details = {}
  for name, value in pairs(verdict.details) do details[name] = value end
  details.retry_after = left
  local error = { status = verdict.status, code = verdict.code, message = verdict.message, reason = verdict.reason,
                  details = details, retry_after = left }
  requests.keep({ refusal = error, rule = verdict.network, found = found })
  return answers.send(error)
end

-- Decides the request. Returns when the edge forwards it; ends it when it is refused. Returns "gateway" if the gateway
-- has to decide, and "lesson" if it has to teach first.
local function decide(request, caller, facts)
  local route = request.route
  local cluster = facts.clusters[route.cluster]
  if not caller.allowed[route.permission] or not cluster or facts.off[""] or facts.off[route.path] then
    return "gateway"
  end
  local is_stored = route.cache and request.method == "GET" and cache.look_up(request, caller)
  if not is_stored and not instances.are_usable(route.cluster, cluster, facts.at) then return "gateway" end
  -- Before the decision, during which others come.
  request.entered = not is_stored and instances.enter(route.cluster, cluster)
  local tier = callers.tier(caller, route.tier)
  local answer = decisions.ask(tier)
  if request.entered and not (answer and answer[1] == ADMITTED) then
    instances.leave(route.cluster)
    request.entered = false
  end
  if not answer or answer[1] > OVER_QUOTA then return "gateway" end
  if answer[1] < 0 then return "lesson" end
  request.caller, request.tier, request.cluster = caller, tier, cluster
  requests.keep(request)
  request.answer = answer
  if answer[1] ~= ADMITTED then
    local details = { tier = tier.name, retry_after = answer[4] }
    return refuse(request, answers.error(REFUSALS[answer[1]], { retry_after = answer[4], details = details }))
  end
  request.admitted = true
  if not is_stored and not request.entered then return refuse(request, answers.busy(route.cluster)) end
  request.instance = instances.choose(route.cluster, cluster, request.attempts)
  forwarding.prepare(request)
  if request.lookup then return ngx.exec("@cached") end
end

-- The gateway reads which fields the client names as hop-by-hop, and refuses WebSockets; the connection to it stays open.
local function pass_connection_options()
  local found = ngx.req.get_headers(0)
  local options = fields.joined(found.connection)
  if options and options ~= "keep-alive" and options ~= "close" then
    ngx.var.lucid_connection = options:gsub("[Cc][Ll][Oo][Ss][Ee]", "keep-alive")
  end
  if found.upgrade then ngx.var.lucid_upgrade = fields.joined(found.upgrade):match("^%s*(.-)%s*$") end
end

local function leave_to_gateway(request, known)
  pass_connection_options()
  if request and known ~= nil then
    request.is_left = true
    requests.keep(request)
    lessons.begin(request, known)
  end
  return ngx.exec("@gateway")
end

-- Refuses a request that two servers could read in different ways, and ends the connection.
local function refuse_as_malformed(message, status)
  requests.keep({ refusal = answers.error("BadRequest", { message = message, status = status }) })
  return ngx.exec("@malformed")
end

-- Whether the head begins with a method, a path and the version, as almost all do.
local function has_plain_line(head, method, target)
  local before, after = #method + 1, #method + #target + 2
  return byte(head, before) == SPACE and byte(head, before + 1) == SLASH and byte(head, after) == SPACE
    and find(head, "HTTP/1.1\r\n", after + 1, true) == after + 1
end

-- Whether the target has no authority or that of the Host field (RFC 9112, section 3.2). nginx passes on the path alone.
local function is_target_of_host()
  local request = ngx.var.request
  if request:find("^%u+ /") then return true end
  local target = request:match("^%u+ (%S+) ")
  if not target or target == "*" then return true end
  local scheme, authority = target:match("^(%a+)://([^/?#]*)")
  scheme = scheme and scheme:lower()
  return (scheme == "http" or scheme == "https") and authority:lower() == (ngx.var.http_host or ""):lower()
end

-- Handles a request.
function admission.run()
  if ngx.req.is_internal() then return tunnel.open() end
  local id = requests.id()
  -- HTTP/2 has no lines, and nginx refuses line ends in its fields.
  local head = ngx.req.http_version() ~= 2 and ngx.req.raw_header()
  if head and not ngx.re.find(head, WELL_FORMED, "jo") then return refuse_as_malformed("Malformed HTTP request") end
  local method, target, found = ngx.req.get_method(), ngx.var.request_uri, fields.read()
  local is_plain = head and has_plain_line(head, method, target)
  -- nginx takes more spaces (RFC 9112, section 3). A later minor version counts as 1.1 (RFC 9110, section 2.5).
  if not is_plain and not ngx.var.request:find("^%S+ %S+ HTTP/[12]%.%d$") then
    return refuse_as_malformed("Malformed HTTP request", 505)
  end
  local expectation = fields.joined(found.expect)
  if expectation and expectation:lower() ~= "100-continue" then -- RFC 9110, section 10.1.1
    return refuse_as_malformed("Malformed HTTP request", 417)
  end
  if not is_plain and not is_target_of_host() then
    return refuse_as_malformed("Bad request: the target and the Host field differ")
  end
  local facts = snapshot.current()
  if facts then
    local verdict = snapshot.verdict(ngx.var.binary_remote_addr)
    if verdict then
      local over = verdict.until_ and verdict.until_ <= ngx.now()
      if verdict.ask or over then return leave_to_gateway() end
      return refuse_address(verdict, found)
    end
  end
  if found.upgrade and tunnel.is_handshake() then return tunnel.ask() end
  local request = is_plain and read_request(method, target, found)
  if not request then return leave_to_gateway() end
  request.id = id
  local caller = callers.find(request.credential)
  if not caller and lessons.wait(request.credential) then caller = callers.find(request.credential) end
  if not caller or not lessons.knows_host(request.found.host) then return leave_to_gateway(request, false) end
  if not facts then
    snapshot.poll()
    facts = snapshot.current()
  end
  if not facts then return leave_to_gateway() end
  local why = decide(request, caller, facts)
  if why == "lesson" then
    callers.forget(request.credential)
    if not lessons.wait(request.credential) then return leave_to_gateway(request, true) end
    caller = callers.find(request.credential)
    if not caller then return leave_to_gateway() end
    why = decide(request, caller, facts)
  end
  if why == "gateway" or why == "lesson" then return leave_to_gateway() end
end

return admission
