-- The end of each request: the line of the access log, and the counts that the gateway gets each second. It adds them to
-- its metrics, its figures and its breakers.

local answers = require "lucid.answers"
local cache = require "lucid.cache"
local cjson = require "cjson.safe"
local client = require "lucid.client"
local forwarding = require "lucid.forwarding"
local instances = require "lucid.instances"
local lessons = require "lucid.lessons"
local redis = require "lucid.redis"
local requests = require "lucid.requests"
local settings = require "lucid.settings"
local snapshot = require "lucid.snapshot"

local reports = {}

local EVERY_SECONDS = 1
-- Ten minutes without a gateway; then the oldest reports are lost.
local MAX_REPORTS = 600
-- As in the gateway (server/kept_requests.py): requests to keep for the explorer in a second, and of one caller.
local KEPT_A_SECOND, KEPT_OF_ONE = 200, 20

-- A line after `{"request_id":"`: it begins with what differs, because LuaJIT finds equal strings by a few of their bytes,
-- the first four among them, and compares those whose bytes there are equal.
local LINE = '%s","path":"%s","duration_ms":%d,"response_bytes":%d,"client":"%s","user_id":"%s",'
  .. '"trace_id":%s,"upstream_status":%s,"upstream_ms":%s,"reason":%s,"steps":%s,%s,"timestamp":"%s"}'
-- What the lines of requests with one row have in common.
local COMMON = '"method":"%s","route":"%s","status":%d,"outcome":"%s","cluster":%s,"instance":%s,"attempts":%s,'
  .. '"cache":%s,"error_code":%s,"plane":"edge","event":"request","level":"info"'

-- Steps of an admitted request.
local BEFORE_BULKHEAD = '"rate_limit","maintenance",'
local BEFORE_ATTEMPT = BEFORE_BULKHEAD .. '"bulkhead",'

local last_of = forwarding.last_of
-- Requests of a row are counted by their times, in one number: `ms * SPAN + first_byte_ms`.
local SPAN, NO_FIRST_BYTE = 2 ^ 24, 2 ^ 24 - 1
local SWITCHING = 101
local IN_FLIGHT_SECONDS = 10
local MAX_NAMED = 250 -- clients named in a report
local rows, commons, early, limited, crowds, kept, kept_by, left_out

local function begin()
  rows, commons, early, limited, crowds, kept, kept_by, left_out = {}, {}, {}, {}, {}, {}, {}, 0
  early.count, limited.count, crowds.count = 0, 0, 0
end

begin()

local function is_busy(refusal) return refusal and refusal.step == "bulkhead" end

local function quoted(text) return text and '"' .. text .. '"' or "null" end

local function add(counts, name) counts[name] = (counts[name] or 0) + 1 end

-- Returns the attempts as the gateway's records have them; with their times, which are part of no row.
local function attempts_of(request, with_times)
  local found = {}
  for _, attempt in ipairs(request.attempts) do
    found[#found + 1] = { instance = attempt.facts.url, outcome = attempt.outcome,
                          first_byte_ms = with_times and attempt.first_byte_ms or nil }
  end
  local connect = with_times and #found > 0 and last_of(ngx.var.upstream_connect_time)
  if connect then found[#found].connect_ms = tonumber(connect) * 1000 end
  return found
end

-- Copies what the gateway needs to count a refusal by a limit.
local function with_limit(request, found)
  local tier = request.tier
  found.tier, found.limit, found.burst, found.quota = tier.name, tier.limit, tier.burst, tier.quota
  found.answer = request.answer
  return found
end

local function common_of(request, status, outcome)
  local attempts, refusal = request.attempts, request.refusal
  return string.format(
    COMMON, request.method, request.route.name, status, outcome, quoted(request.admitted and request.route.cluster),
    quoted(#attempts > 0 and attempts[#attempts].facts.url), request.admitted and #attempts or "null",
    quoted(request.cache), quoted(refusal and refusal.code)
  )
end

-- Returns the row that counts requests like this one, and the part of their lines in the log that is the same.
local function row_of(request, status, outcome)
  local refusal, attempts = request.refusal, request.attempts
  local key = request.route.name .. request.method .. status .. outcome .. (request.admitted and "+" or "-")
    .. (refusal and refusal.reason or "") .. (request.cache or "")
  for index = 1, #attempts do key = key .. attempts[index].outcome .. attempts[index].facts.url end
  local row = rows[key]
  if not row then
    row = { route = request.route.name, method = request.method, status = status, outcome = outcome,
            cluster = (#attempts > 0 or is_busy(refusal)) and request.route.cluster or nil,
            reason = refusal and refusal.reason,
            code = refusal and refusal.code, cache = request.cache, times = {},
            attempts = #attempts > 0 and attempts_of(request) or nil }
    if refusal then with_limit(request, row) end
    rows[key], commons[key] = row, common_of(request, status, outcome)
  end
  return row, commons[key]
end

-- Counts a refusal under a name. `describe` returns the facts that the name stands for. Of too many names the rest are not
-- told apart.
local function count(list, key, describe, ...)
  local entry = list[key]
  if not entry then
    if list.count >= MAX_NAMED then return end
    list.count = list.count + 1
    entry = describe(...)
    entry.count = 0
    list[key] = entry
  end
  entry.count = entry.count + 1
end

-- Whether the explorer keeps the request: refused and failed ones, and a share of the others.
local function is_kept(request, status, outcome)
  local facts = snapshot.latest()
  if not facts or not facts.explorer then return false end
  if not request.refusal and status < 400 and outcome == "complete" and math.random() >= facts.explorer_share then
    return false
  end
  local who = request.caller and request.caller.user_id or ngx.var.remote_addr
  if #kept >= KEPT_A_SECOND or (kept_by[who] or 0) >= KEPT_OF_ONE then
    left_out = left_out + 1
    return false
  end
  add(kept_by, who)
  return true
end

local function keep(request, status, outcome, ms, size)
  local var, caller, refusal, attempts = ngx.var, request.caller or {}, request.refusal or {}, request.attempts or {}
  local found = {
    request_id = request.id, method = request.method, path = request.path,
    route = request.route and request.route.name, client = var.remote_addr, user_agent = var.http_user_agent,
    user_id = caller.user_id, role = caller.role, credential = caller.credential, api_key = caller.api_key,
    cluster = request.admitted and request.route.cluster or nil, cache = request.cache, status = status, size = size,
    ms = ms, outcome = outcome,
    reason = refusal.reason, code = refusal.code, attempts = #attempts > 0 and attempts_of(request, true) or nil,
    ended_at = ngx.now(), trace = request.trace, network = request.rule,
  }
  kept[#kept + 1] = request.tier and with_limit(request, found) or found
end

local function early_refusal(refusal, rule, client)
  return { reason = refusal.reason, code = refusal.code, status = refusal.status, network = rule, client = client }
end

-- Ends a request that was refused before it was read: by an address rule, or as malformed.
local function finish_early(request)
  local refusal, client = request.refusal, ngx.var.remote_addr
  count(early, refusal.reason .. (request.rule or "") .. client, early_refusal, refusal, request.rule, client)
  request.method, request.path = (ngx.var.request or ""):match("^(%u+) ([^ ?]*)")
  if is_kept(request, refusal.status, "complete") then keep(request, refusal.status, "complete", 0, 0) end
end

-- Returns how the request ended: complete, or who cut the answer.
local function outcome_of(request)
  -- nginx sets 408 for a body that does not go on; it sends nothing, and ends the connection.
  if ngx.status == 499 or (ngx.status == 408 and not request.waited) then return "client_left" end
  if request.is_cut then return "upstream_cut" end
  if request.refusal or request.ended then return "complete" end
  return client.has_left() and "client_left" or "upstream_cut"
end

local function write_line(request, common, ms, size, first_byte_ms)
  local var, refusal = ngx.var, request.refusal
  local steps = "null"
  if refusal then
    local step, before = refusal.step, ""
    if is_busy(refusal) then
      before = BEFORE_BULKHEAD
    elseif request.admitted then
      step, before = "attempt", BEFORE_ATTEMPT
    end
    steps = string.format('["path","route","identity","lock","revocation","epoch","permission",%s"%s:%s"]', before, step,
                          refusal.reason)
  end
  var.lucid_line = string.format(
    LINE, request.id, request.path, ms, size, var.remote_addr, request.caller.user_id,
    quoted(request.trace and request.trace:sub(4, 35)),
    request.upstream_status or last_of(var.upstream_status) or "null", first_byte_ms or "null",
    quoted(refusal and refusal.reason or request.cut_by), steps, common,
    answers.timestamp("000") -- the gateway's lines have microseconds
  )
end

-- Returns the bytes of the answer's body.
local function size_of(request)
  if request.method == "HEAD" then return 0 end
  if request.lookup then return tonumber(ngx.var.body_bytes_sent) end -- that of the cluster may have been stored only
  return request.ended and request.length or tonumber(last_of(ngx.var.upstream_response_length)) or 0
end

local function crowd(client) return { client = client } end

-- Counts a connection that was closed because its address has too many.
local function note_crowd()
  local var = ngx.var
  if var.limit_conn_status == "REJECTED" then count(crowds, var.remote_addr, crowd, var.remote_addr) end
end

local function limited_caller(caller, client, reason, status)
  return { reason = reason, client = client, status = status, user_id = caller.user_id, role = caller.role,
           credential = caller.credential, api_key = caller.api_key }
end

-- Ends a request.
function reports.finish()
  local request = requests.finish()
  if not request then return note_crowd() end
  if request.is_left then return lessons.finish(request) end -- the gateway reports it
  if not request.route then return finish_early(request) end
  if request.entered then instances.leave(request.route.cluster) end
  forwarding.finish(request, "client_left")
  local last = request.attempts[#request.attempts]
  local status, outcome = ngx.status, outcome_of(request)
  if request.lookup then cache.finish(request) end
  local ms = math.floor((ngx.now() - ngx.req.start_time()) * 1000 + 0.5)
  local size = size_of(request)
  local first_byte_ms = last and last.first_byte_ms
  -- How long a tunnel lasted does not say how fast the gateway is.
  local counted_ms = status == SWITCHING and first_byte_ms or ms
  local row, common = row_of(request, status, outcome)
  add(row.times, counted_ms * SPAN + (first_byte_ms or NO_FIRST_BYTE))
  if request.refusal and request.answer and not request.admitted then
    local caller, client = request.caller, ngx.var.remote_addr
    count(limited, caller.credential .. client, limited_caller, caller, client, request.refusal.reason, status)
  end
  write_line(request, common, ms, size, first_byte_ms)
  if is_kept(request, status, outcome) then keep(request, status, outcome, ms, size) end
end

-- Returns the entries as a list, nil if there are none.
local function list(map)
  local found = {}
  for _, one in pairs(map) do
    if type(one) == "table" then found[#found + 1] = one end
  end
  return #found > 0 and found or nil
end

-- Replaces the numbers that stand for times by texts, of which cjson makes no array: "12 3", or "12" without a first byte.
local function spell_times(row)
  local spelt = {}
  for number, n in pairs(row.times) do
    local first = number % SPAN
    spelt[(number - first) / SPAN .. (first ~= NO_FIRST_BYTE and " " .. first or "")] = n
  end
  row.times = spelt
end

-- Sends what has happened since the last report; what Redis does not take is lost.
function reports.send()
  local key = snapshot.key("edge_reports")
  if not key then return end
  for _, row in pairs(rows) do spell_times(row) end
  local report = cjson.encode({
    worker = ngx.worker.pid(), at = ngx.now(), age = snapshot.age(),
    rows = list(rows), early = list(early), limited = list(limited), crowds = list(crowds), kept = list(kept),
    left_out = left_out,
  })
  begin()
  local in_flight = cjson.encode({ at = ngx.now(), clusters = instances.in_flight() })
  redis.with(key, function(sock)
    local done, err = redis.call(sock, "XADD", key, "MAXLEN", "~", MAX_REPORTS, "*", "report", report)
    if done then
      done, err = redis.call(sock, "HSET", snapshot.key("edge_in_flight"), ngx.worker.pid(), in_flight)
      done = done and redis.call(sock, "EXPIRE", snapshot.key("edge_in_flight"), IN_FLIGHT_SECONDS)
    end
    return done, err
  end)
end

-- Starts reporting in this worker.
function reports.start()
  ngx.timer.every(EVERY_SECONDS, function() reports.send() end)
end

return reports
