-- Forwarding an admitted request: the instances that nginx tries, the answer's fields, and what failed.

local balancer = require "ngx.balancer"
local answers = require "lucid.answers"
local cache = require "lucid.cache"
local deadlines = require "lucid.deadlines"
local fields = require "lucid.fields"
local instances = require "lucid.instances"
local requests = require "lucid.requests"
local settings = require "lucid.settings"
local sha256 = require "lucid.sha256"

local forwarding = {}

local SWITCHING, NOT_MODIFIED = 101, 304
local MARGIN_SECONDS = 10 -- a tunnel that lasts as long as it may is ended by `lucid.tunnel`
local DEFAULT = { connect = 2, read = 30 } -- those in the configuration of nginx
-- The gateway sends a length with these methods, even if it is 0 (RFC 9110, section 8.6).
forwarding.NEEDS_LENGTH = { POST = true, PUT = true, PATCH = true }

-- Sets what the configuration of nginx sends to the cluster, for an admitted request with its instance.
function forwarding.prepare(request)
  local var, found, caller = ngx.var, request.found, request.caller
  if request.dropped then fields.drop(request.dropped) end
  local trace, is_clients = fields.trace(found)
  request.trace = trace
  var.lucid_target = request.target
  local instance = request.instance -- none, if a stored answer needs none
  if instance then var.lucid_authority = instance.authority end
  var.lucid_upstream = instance and instance.tls_name and "https://lucid_tls_" .. request.route.cluster
    or "http://lucid_cluster"
  var.lucid_user, var.lucid_role, var.lucid_permissions = caller.user_id, caller.role, caller.permissions
  var.lucid_trace = trace
  if found["content-length"] == "0" and not forwarding.NEEDS_LENGTH[request.method] then
    ngx.req.clear_header("content-length")
  end
  if found.tracestate and not is_clients then ngx.req.clear_header("tracestate") end
  if settings.identity_signing_secret ~= "" then
    local at = ngx.time()
    local message = table.concat({ at, request.method, request.target, caller.user_id, caller.role, caller.permissions,
                                   request.id }, "\n")
    var.lucid_signature = "t=" .. at .. ",v1=" .. sha256.hmac(settings.identity_signing_secret, message)
  end
end

local function begin(request, facts)
  instances.begin(request.route.cluster, facts, #request.attempts == 0)
  request.attempts[#request.attempts + 1] = { facts = facts, began_at = ngx.now(), outcome = false, first_byte_ms = false }
end

-- Ends the last attempt, unless it is over. `outcome` is as in the gateway's records: `answered`, or a reason of the
-- policy.
function forwarding.finish(request, outcome)
  local attempt = request.attempts[#request.attempts]
  if attempt and not attempt.outcome then
    attempt.outcome = outcome
    instances.finish(request.route.cluster, attempt.facts)
  end
end

-- Returns the last of nginx's values for several attempts, nil for one that it does not have ("-"). An attempt that
-- has not come as far as an address has none, and ends the list with a colon.
function forwarding.last_of(values)
  if values and values:find("[,:]") then values = values:match("([^,:%s]+)[:%s]*$") end
  return values ~= "-" and values or nil
end

-- Returns whether nginx had a connection in the attempt that has just failed.
local function was_connected() return forwarding.last_of(ngx.var.upstream_connect_time) ~= nil end

local function outcome_of(connected, timed_out)
  if not connected then return timed_out and "instance_connect_timeout" or "instance_unreachable" end
  return timed_out and "instance_timeout" or "instance_no_answer"
end

local function next_instance(request, code)
  local timed_out, connected = code == 504 or request.is_late, was_connected()
  forwarding.finish(request, outcome_of(connected, timed_out))
  local route = request.route
  if #request.attempts >= route.attempts
    or not instances.may_retry(route.cluster, request.method, request.has_body, connected, timed_out) then
    return nil
  end
  -- The only instance may be a load balancer, or may have closed an idle connection just before its use.
  local found = instances.choose(route.cluster, request.cluster, request.attempts)
  if not found and connected and #request.attempts == 1 then found = request.instance end
  return found
end

-- Chooses the instance of the first attempt, or of one after a failed one. Retries if the gateway would.
function forwarding.balance()
  local request = requests.current()
  local facts, timeouts = request.instance, request.route.timeouts
  if not facts then return ngx.exit(502) end -- nginx no longer had the stored answer
  if #request.attempts > 0 then
    local _, code = balancer.get_last_failure()
    facts = next_instance(request, code)
    if not facts then return ngx.exit(code or 502) end
    if facts.authority ~= ngx.var.lucid_authority then
      ngx.var.lucid_authority = facts.authority
      balancer.recreate_request()
    end
  end
  if facts.tls_name then ngx.var.lucid_tls_name = facts.tls_name end
  begin(request, facts)
  local silence = request.is_handshake and settings.tunnel_max_seconds + MARGIN_SECONDS or timeouts.read
  if timeouts.connect ~= DEFAULT.connect or silence ~= DEFAULT.read then
    balancer.set_timeouts(timeouts.connect, timeouts.read, silence)
  end
  balancer.set_current_peer(facts.host, facts.port)
  balancer.set_more_tries(1)
end

-- Cleans the cluster's answer, and adds the fields of the gateway to any.
function forwarding.filter()
  local request = requests.current()
  if not request then return end
  if request.refusal or (#request.attempts == 0 and not cache.is_stored(request)) then
    return answers.add_fields(request, {})
  end
  answers.hide_server()
  local attempt = request.attempts[#request.attempts]
  if attempt then attempt.first_byte_ms = math.floor((ngx.now() - attempt.began_at) * 1000 + 0.5) end
  forwarding.finish(request, "answered")
  if request.cache then cache.mark(request) end
  local status = ngx.status
  local upgrade = request.is_handshake and status == SWITCHING and ngx.header["Upgrade"]
  local found = fields.clean_answer()
  if not request.lookup then
    -- For the log, without asking nginx again. The cluster's answer to a lookup may be about the stored one.
    request.upstream_status = status
    request.length = status ~= NOT_MODIFIED and tonumber(found["content-length"]) or nil
  end
  answers.add_fields(request, found)
  if upgrade then
    -- What follows is no answer, which could be cut, but the tunnel.
    ngx.header["Upgrade"] = upgrade
    request.ended = true
  end
  -- nginx passes no end of a body where there is none.
  if request.method == "HEAD" or status == NOT_MODIFIED then request.ended = true end
  local kind = found["content-type"]
  deadlines.begin(request, upgrade or (kind and kind:lower():find("text/event-stream", 1, true)))
end

-- Notes that the last piece of the answer has been passed on.
function forwarding.end_answer()
  local request = requests.current()
  if not request or not request.waited then return end
  request.ended = true
  if request.lookup then cache.finish(request) end
end

-- Sends the answer to a request that was refused before it was read.
function forwarding.refuse() return answers.send(requests.current().refusal) end

-- Answers in place of an instance that did not.
function forwarding.fail()
  local request = requests.current()
  -- `balance` has ended the attempt, unless nginx tries no other one, as after an invalid answer.
  forwarding.finish(request, outcome_of(was_connected(), ngx.status == 504))
  -- Without any, nginx no longer had the stored answer, and no instance is usable.
  local attempt = request.attempts[#request.attempts]
  local outcome = attempt and attempt.outcome or "instance_unreachable"
  local name = ({ instance_unreachable = "UpstreamUnreachable", instance_connect_timeout = "UpstreamTimeout",
                  instance_timeout = "UpstreamTimeout", instance_no_answer = "BadUpstreamAnswer" })[outcome]
  request.refusal = answers.error(name, { reason = outcome })
  return answers.send(request.refusal)
end

return forwarding
