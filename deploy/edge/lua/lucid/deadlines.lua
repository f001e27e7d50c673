-- The time limit of each answer: how long its route lets the cluster take for all of it. The time in which the client was
-- slow is not the cluster's.
--
-- Looking at all answers a few times a second costs less than looking at each of their pieces.

local client = require "lucid.client"
local requests = require "lucid.requests"

local deadlines = {}

local EVERY_SECONDS = 0.25

-- Adds the time since the last look to that spent waiting for the cluster, unless the client has yet to take something.
local function is_over(request, now)
  if client.has_taken_all(request.of_nginx) then request.waited = request.waited + now - request.looked_at end
  request.looked_at = now
  return request.waited > request.route.timeouts.total
end

local function check()
  local now = ngx.now()
  for _, request in pairs(requests.all()) do
    if request.waited and not request.may_last and is_over(request, now) then
      request.is_cut = true
      -- The end of the cluster's connection alone may be the end of a whole answer.
      client.end_connection(request.of_nginx)
      client.end_attempt(request.of_nginx)
    end
  end
end

-- Notes that the head of an answer has come; one that may last, such as an event stream, has no time limit.
function deadlines.begin(request, may_last)
  request.looked_at = ngx.now()
  request.waited, request.may_last = request.looked_at - ngx.req.start_time(), may_last
  request.of_nginx = client.request()
end

-- Starts to cut answers that take too long in this worker.
function deadlines.start() ngx.timer.every(EVERY_SECONDS, check) end

return deadlines
