-- Answers that the edge gives itself: the error envelope of the gateway, and the fields that each answer has.

local add = require("ngx.resp").add_header
local cjson = require "cjson.safe"
local requests = require "lucid.requests"
local settings = require "lucid.settings"

local answers = {}

local errors, steps = {}, {}
local as_json = setmetatable({}, {
  __index = function(known, text)
    known[text] = cjson.encode(text)
    return known[text]
  end,
}) -- the few texts that errors have
local origins, security = {}, {}

function answers.load()
  for _, row in ipairs(settings.policy.errors) do errors[row.name] = row end
  for _, row in ipairs(settings.policy.reasons) do steps[row.name] = row.step end
  for _, origin in ipairs(settings.cors_origins) do origins[origin] = true end
  for scheme, list in pairs(settings.security_fields) do
    security[scheme] = {}
    for name, value in pairs(list) do
      table.insert(security[scheme], { name = name, key = name:lower(), value = value })
    end
  end
end

-- Removes the name of the server, which tells attackers what to try.
function answers.hide_server() ngx.header["Server"] = nil end

local function add_limits(tier, answer)
  if tier.limit == 0 then return end
  add("X-RateLimit-Limit", tier.limit)
  add("X-RateLimit-Remaining", answer[2])
  add("X-RateLimit-Reset", answer[4] + answer[5])
  add("RateLimit-Policy", tier.policy)
  add("RateLimit", tier.before .. answer[2] .. ";t=" .. answer[4] .. tier.between .. answer[3] .. tier.after)
end

-- Adds the fields that the gateway adds to an answer: what is left, origins, and the security fields that the answer
-- lacks; `has` are its own fields by lower-case name. nginx adds those that are always the same, and the request's name.
function answers.add_fields(request, has)
  local var = ngx.var
  if request.answer then add_limits(request.tier, request.answer) end
  if request.shown then
    for name, value in pairs(request.shown) do add(name, value) end
  end
  if request.caller and request.caller.staff then add("X-Lucid-Plane", "edge") end
  local origin = request.found and request.found.origin
  if origin and origins[origin] then
    add("Access-Control-Allow-Origin", origin)
    add("Access-Control-Allow-Credentials", "true")
    add("Access-Control-Expose-Headers", settings.cors_exposed)
  end
  local list = security[var.lucid_scheme]
  for index = 1, #list do
    local field = list[index]
    if not has[field.key] then add(field.name, field.value) end
  end
end

local second, second_text

-- Returns the time in UTC with milliseconds (RFC 3339), and with `more` digits after them.
function answers.timestamp(more)
  local now = ngx.now()
  local whole = math.floor(now)
  if whole ~= second then second, second_text = whole, os.date("!%Y-%m-%dT%H:%M:%S", whole) end
  return second_text .. string.format(".%03d", math.floor(now * 1000) % 1000) .. (more or "") .. "Z"
end

-- Returns the error of the policy with this name, as `send` takes it: with the reason, and with changes.
function answers.error(name, changes)
  local row = errors[name]
  local found = {
    status = row.status, code = string.format("LUCID_ERR_%d", row.code), message = row.text, reason = row.reason,
    step = steps[row.reason], details = {},
  }
  for field, value in pairs(changes or {}) do found[field] = value end
  return found
end

-- Returns the error for a request that finds no place in the bulkhead of the cluster.
function answers.busy(cluster)
  return answers.error("ServiceUnavailable", {
    message = "Cluster is busy", reason = "cluster_busy", step = "bulkhead", retry_after = 1,
    details = { cluster = cluster, reason = "too many requests in progress" },
  })
end

-- What nginx itself refuses, by its status: the error of the policy, and a message where the error's own says less.
-- 494 and 497 are nginx's own numbers.
local OF_NGINX = {
  [404] = { "NotFound" },
  [408] = { "RequestTimeout", "The request did not arrive in time" },
  [413] = { "RequestTooLarge" },
  [414] = { "BadRequest", "The request target is too long", 414 },
  [494] = { "BadRequest", "The request headers are too large", 431 },
  [497] = { "BadRequest", "Plain HTTP was sent to the HTTPS port", 400 },
  [500] = { "InternalError" },
  [501] = { "BadRequest", "The transfer coding is not supported", 501 },
  [502] = { "ServiceUnavailable", "The gateway is not available" },
  [503] = { "ServiceUnavailable", "The gateway is not available" },
  [504] = { "UpstreamTimeout", "The gateway did not answer in time" },
  [505] = { "BadRequest", "The HTTP version is not supported", 505 },
}
-- An unknown coding is 501. These are known, but not accepted.
local KNOWN_CODINGS = { chunked = true, gzip = true, deflate = true, compress = true, identity = true }
local UNAVAILABLE_SECONDS = 5

-- Answers for nginx in the envelope; for requests that it refuses, and for the gateway if it is not there.
function answers.send_own_error()
  local name, message, status = unpack(OF_NGINX[ngx.status] or { "BadRequest", "Malformed HTTP request", 400 })
  if (ngx.var.request or ""):find("^CONNECT ") then
    name, message, status = "UpgradeRefused", "The gateway does not support CONNECT", nil
  end
  if ngx.status == 501 then
    local coding = (ngx.var.http_transfer_encoding or ""):lower():match("^[a-z]+")
    if not coding or KNOWN_CODINGS[coding] then status = 400 end
  end
  local error = answers.error(name, { message = message })
  error.status = status or error.status
  if error.status == 503 then error.retry_after = UNAVAILABLE_SECONDS end
  local request = requests.current()
  if request then request.refusal = error end
  return answers.send(error)
end

-- Sends the error as the answer to this request, and ends it. `details` may be any table of JSON.
function answers.send(error)
  local before = string.format('{"error":{"code":%s,"message":%s,"details":%s,"request_id":"', as_json[error.code],
                               as_json[error.message], cjson.encode(error.details))
  -- In two parts, because the second begins with what differs: see the lines of the log in `lucid.reports`.
  local after = string.format('%s","timestamp":"%s","service":%s,"version":%s}}\n', requests.id(), answers.timestamp(),
                              as_json[settings.service_name], as_json[settings.api_version])
  local header = ngx.header
  ngx.status = error.status
  answers.hide_server()
  header["Content-Type"] = "application/json"
  header["Content-Length"] = #before + #after
  header["Cache-Control"] = "no-store"
  if error.retry_after then header["Retry-After"] = error.retry_after end
  if ngx.req.get_method() ~= "HEAD" then ngx.print(before, after) else ngx.send_headers() end
  return ngx.exit(ngx.HTTP_OK)
end

return answers
