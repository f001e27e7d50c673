-- Forwarding an admitted request: the instances that nginx tries, the answer's fields, and what failed.

local balancer = require "ngx.balancer"
local answers = require "lucid.answers"
local fields = require "lucid.fields"
local instances = require "lucid.instances"
local requests = require "lucid.requests"

local forwarding = {}

local PAUSE_SECONDS = 0.05 -- shorter ones are not worth a look
local DEFAULT = { connect = 2, read = 30 } -- those in the configuration of nginx

local function begin(request, facts)
  instances.begin(request.route.cluster, facts)
  request.attempts[#request.attempts + 1] = { facts = facts }
  request.tried[facts.url] = true
end

-- Ends the last attempt. `outcome` is as in the gateway's records: `answered`, or a reason of the policy.
local function finish(request, outcome)
  local attempt = request.attempts[#request.attempts]
  if attempt and not attempt.outcome then
    attempt.outcome = outcome
    instances.finish(request.route.cluster, attempt.facts)
  end
end

-- Returns whether nginx had a connection in the attempt before the one that begins now.
local function was_connected()
  local times = ngx.var.upstream_connect_time or ""
  local before = times:match("([^,%s]+), [^,]*$")
  return before ~= nil and before ~= "-"
end

local function outcome_of(connected, timed_out)
  if not connected then return timed_out and "instance_connect_timeout" or "instance_unreachable" end
  return timed_out and "instance_timeout" or "instance_no_answer"
end

local function next_instance(request, code)
  local timed_out, connected = code == 504, was_connected()
  finish(request, outcome_of(connected, timed_out))
  local route = request.route
  if #request.attempts >= route.attempts
    or not instances.may_retry(route.cluster, request.method, request.has_body, connected, timed_out) then
    return nil
  end
  -- The only instance may be a load balancer, or may have closed an idle connection just before its use.
  local found = instances.choose(route.cluster, request.cluster, request.tried)
  if not found and connected and #request.attempts == 1 then found = request.instance end
  return found
end

-- Chooses the instance of the first attempt, or of one after a failed one. Retries if the gateway would.
function forwarding.balance()
  local request = requests.current()
  local facts, timeouts = request.instance, request.route.timeouts
  if #request.attempts > 0 then
    local _, code = balancer.get_last_failure()
    facts = next_instance(request, code)
    if not facts then return ngx.exit(code or 502) end
    if facts.authority ~= ngx.var.lucid_authority then
      ngx.var.lucid_authority = facts.authority
      balancer.recreate_request()
    end
  end
  begin(request, facts)
  if timeouts.connect ~= DEFAULT.connect or timeouts.read ~= DEFAULT.read then
    balancer.set_timeouts(timeouts.connect, timeouts.read, timeouts.read)
  end
  balancer.set_current_peer(facts.host, facts.port)
  balancer.set_more_tries(1)
end

-- Cleans the cluster's answer; that of the edge itself has no attempts.
function forwarding.filter()
  local request = requests.current()
  if not request or request.refusal or #request.attempts == 0 then return end
  answers.hide_server()
  finish(request, "answered")
  fields.clean_answer()
  local now, kind = ngx.now(), ngx.header["Content-Type"]
  request.waited, request.last_at, request.passed = now - ngx.req.start_time(), now, 0
  request.is_stream = kind ~= nil and kind:lower():find("text/event-stream", 1, true) ~= nil
end

-- Adds the time since the last piece of the answer to the time spent waiting for the cluster, unless the client, who had
-- not yet taken all before, was waited for.
local function note_pause(request)
  local now, var = ngx.now(), ngx.var
  if now - request.last_at >= PAUSE_SECONDS then
    if tonumber(var.body_bytes_sent) >= request.passed then request.waited = request.waited + now - request.last_at end
    request.passed = tonumber(var.upstream_response_length) or 0
  end
  request.last_at = now
end

-- Passes a piece of the answer. Notes the end, and cuts an answer that the cluster takes longer for than the route
-- allows; an event stream may last.
function forwarding.pass()
  local request = requests.current()
  if not request or not request.waited then return end
  if ngx.arg[2] then request.ended = true end
  note_pause(request)
  if request.waited > request.route.timeouts.total and not request.is_stream then return ngx.ERROR end
end

-- Sends the answer to a request that was refused before it was read.
function forwarding.refuse() return answers.send(requests.current().refusal) end

-- Answers in place of an instance that did not.
function forwarding.fail()
  local request, status = requests.current(), ngx.status
  local last = tostring(ngx.var.upstream_connect_time):match("([^,%s]+)$")
  local outcome = outcome_of(last ~= nil and last ~= "-", status == 504)
  finish(request, outcome)
  local name = ({ instance_unreachable = "UpstreamUnreachable", instance_connect_timeout = "UpstreamTimeout",
                  instance_timeout = "UpstreamTimeout", instance_no_answer = "BadUpstreamAnswer" })[outcome]
  request.refusal = answers.error(name, { reason = outcome })
  return answers.send(request.refusal)
end

return forwarding
