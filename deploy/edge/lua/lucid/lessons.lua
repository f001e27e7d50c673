-- Learning who a caller is: one request at a time for a credential shows the secret of the edge to the gateway, whose
-- answer teaches. Others with the same credential wait for it for a moment, and at most a few credentials are taught at
-- a time, so that new revisions do not move all requests to the gateway at once.

local callers = require "lucid.callers"
local lrucache = require "resty.lrucache"
local settings = require "lucid.settings"
local semaphore = require "ngx.semaphore"
local snapshot = require "lucid.snapshot"

local lessons = {}

local AT_A_TIME, PLACE_SECONDS, MAX_HOSTS = 32, 1, 1000
-- The lesson comes with an answer that may be slow, and the others need not be.
local LESSON_SECONDS = 0.3

local places = semaphore.new(AT_A_TIME)
local flights = {}
-- Credentials that the gateway does not teach, such as those of callers with a limit on concurrent requests.
local untaught, UNTAUGHT_SECONDS = lrucache.new(1000), 60
-- The values of Host that the gateway has accepted.
local hosts, host_count = {}, 0

-- Returns whether the gateway has accepted this Host.
function lessons.knows_host(host) return hosts[host] end

-- Waits while another request with the credential is being taught; returns whether it was.
function lessons.wait(credential)
  local flight = flights[credential]
  if not flight or untaught:get(credential) then return false end
  flight.waiting = flight.waiting + 1
  return flight.done:wait(LESSON_SECONDS)
end

-- Makes this request, which goes to the gateway, bring back a lesson. If too many are under way, one for a caller who
-- was known before waits; any other request goes without.
function lessons.begin(request, known)
  if flights[request.credential] or not places:wait(known and PLACE_SECONDS or 0) then return end
  flights[request.credential] = { done = semaphore.new(0), waiting = 0 }
  request.is_lesson = true
  ngx.var.lucid_secret = settings.edge_secret
end

-- Reads the gateway's answer.
function lessons.learn(request)
  local text = ngx.var.upstream_http_x_lucid_caller
  if not (request and request.is_lesson) then return end
  if text then
    local gateway = callers.learn(request.credential, text)
    if gateway then
      if host_count >= MAX_HOSTS then hosts, host_count = {}, 0 end
      if not hosts[request.found.host] then hosts[request.found.host], host_count = true, host_count + 1 end
      snapshot.belongs_to(gateway)
    end
    untaught:delete(request.credential)
  else
    untaught:set(request.credential, true, UNTAUGHT_SECONDS)
  end
  lessons.finish(request)
end

-- Lets the waiting requests go on; called in any case, at the end of the request at the latest.
function lessons.finish(request)
  if not request.is_lesson then return end
  request.is_lesson = false
  local flight = flights[request.credential]
  flights[request.credential] = nil
  if flight.waiting > 0 then flight.done:post(flight.waiting) end
  places:post(1)
end

return lessons
