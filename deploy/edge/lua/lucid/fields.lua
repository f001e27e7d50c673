-- The header fields of requests and answers, by the rules of the policy.

local settings = require "lucid.settings"

local fields = {}

local MAX_FIELDS, MAX_NAMES = 100, 2000
local WORD = 0xffffffff
local random = math.random
-- What happens with a field of a request.
local FORWARD, DROP, REPLACED, ASK = 1, 2, 3, 4
-- The configuration of nginx sets or drops these for a cluster.
local REPLACED_NAMES = {
  ["authorization"] = true, ["x-api-key"] = true, ["x-request-id"] = true, ["via"] = true, ["host"] = true,
  ["connection"] = true, ["keep-alive"] = true, ["content-length"] = true, ["expect"] = true, ["upgrade"] = true,
  ["x-forwarded-for"] = true, ["x-forwarded-proto"] = true, ["x-forwarded-host"] = true, ["traceparent"] = true,
  ["tracestate"] = true, ["origin"] = false,
}
local TRUNCATED = "" -- no field has this name
-- Only the gateway knows what these mean.
local ASK_NAMES = { ["transfer-encoding"] = true, ["idempotency-key"] = true, [TRUNCATED] = true }
local TRACEPARENT = [[^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}]]
local TRACEPARENT_LENGTH = 55
-- The options in Connection with which a client opens a WebSocket.
local UPGRADES = { ["upgrade"] = true, ["keep-alive,upgrade"] = true, ["upgrade,keep-alive"] = true }
local KEY_LENGTH = 24 -- 16 bytes as base64

local kinds, kind_count, returned, returned_count = {}, 0, {}, 0
local not_forwarded, owned_prefixes, not_returned, not_returned_prefixes, own_cookies = {}, {}, {}, {}, {}

local function set_of(list)
  local found = {}
  for _, name in ipairs(list) do found[name] = true end
  return found
end

local function has_prefix(name, prefixes)
  for _, prefix in ipairs(prefixes) do
    if name:sub(1, #prefix) == prefix then return true end
  end
  return false
end

function fields.load()
  local rules = settings.policy.headers
  not_forwarded, owned_prefixes = set_of(rules.not_forwarded), rules.gateway_owned_prefixes
  not_returned, not_returned_prefixes = set_of(rules.not_returned), rules.not_returned_prefixes
  own_cookies = set_of(rules.own_cookies)
end

local function kind_of(name)
  local kind = kinds[name]
  if kind then return kind end
  if ASK_NAMES[name] then kind = ASK
  elseif REPLACED_NAMES[name] then kind = REPLACED
  elseif not_forwarded[name] or has_prefix(name, owned_prefixes) then kind = DROP
  else kind = FORWARD end
  if kind_count >= MAX_NAMES then kinds, kind_count = {}, 0 end
  kinds[name], kind_count = kind, kind_count + 1
  return kind
end

-- Returns the fields of the request by lower-case name; of several with one name, their values as a list. Of too many
-- fields some are missing: `TRUNCATED` is then among them.
function fields.read()
  local found, err = ngx.req.get_headers(MAX_FIELDS)
  setmetatable(found, nil) -- it tries other spellings of names that are missing
  if err then found[TRUNCATED] = true end
  return found
end

-- Returns whether the edge can judge the fields, and the list of those that no cluster may get, nil if there are none.
local function classified(found)
  local dropped
  for name, value in pairs(found) do
    local kind = kind_of(name)
    if kind == ASK or (type(value) == "table" and (kind == REPLACED or name == "cookie")) then return false end
    if kind == DROP then
      dropped = dropped or {}
      dropped[#dropped + 1] = name
    end
  end
  return found.host ~= nil, dropped
end

-- Returns the value of a field; of one that is there several times, its values as a list (RFC 9110, section 5.3).
function fields.joined(value) return type(value) == "table" and table.concat(value, ", ") or value end

-- Returns whether the edge forwards a client's field with this lower-case name unchanged.
function fields.is_forwarded(name) return kind_of(name) == FORWARD end

-- Returns whether the edge can judge these fields of a request, and the list of those to drop. If not, the gateway has to
-- read them: too many, several where the gateway joins or refuses them, options in Connection, or unknown framing.
function fields.of_request(found)
  local judged, dropped = classified(found)
  local connection = found.connection
  if connection and not (connection == "keep-alive" or connection == "close" or connection == "Keep-Alive") then
    return false
  end
  return judged and not found.upgrade, dropped
end

-- Returns the fields and the list of those to drop, of a WebSocket handshake without a body (RFC 6455, section 4.2.1);
-- nil if it is not one.
function fields.of_handshake()
  local found = fields.read()
  local judged, dropped = classified(found)
  if not judged or not found.upgrade or found.upgrade:lower() ~= "websocket" or found["content-length"] then return nil end
  local connection, key = found.connection, found["sec-websocket-key"]
  if not connection or not UPGRADES[connection:lower():gsub("%s", "")] then return nil end
  if type(key) ~= "string" or #key ~= KEY_LENGTH or not key:find("^[%w+/]+==$") then return nil end
  if found["sec-websocket-version"] ~= "13" then return nil end
  return found, dropped
end

-- Removes fields of the request that no cluster may get.
function fields.drop(names)
  for _, name in ipairs(names) do ngx.req.clear_header(name) end
end

-- Versions after 00 may append more fields.
local function is_traceparent(text)
  if text:find(",", 1, true) or not ngx.re.find(text, TRACEPARENT, "jo") then return false end
  return #text == TRACEPARENT_LENGTH or (text:sub(TRACEPARENT_LENGTH + 1, TRACEPARENT_LENGTH + 1) == "-"
                                         and text:sub(1, 2) ~= "00")
end

-- Returns the traceparent for the cluster (W3C Trace Context, section 3.2) and whether it is the client's.
function fields.trace(found)
  local sent = found.traceparent
  if sent and is_traceparent(sent) then return sent, true end
  return string.format("00-%08x%08x%08x%08x-%08x%08x-00", random(0, WORD), random(0, WORD), random(0, WORD),
                       random(1, WORD), random(0, WORD), random(1, WORD))
end

local function is_returned(name)
  local known = returned[name]
  if known == nil then
    known = not (not_returned[name] or has_prefix(name, not_returned_prefixes))
    if returned_count >= MAX_NAMES then returned, returned_count = {}, 0 end
    returned[name], returned_count = known, returned_count + 1
  end
  return known
end

-- Whether a Set-Cookie field may set a cookie of the operator pages. A browser sends a cookie without a name as its
-- value alone, and Django strips white space, that of Unicode too.
local function sets_own_cookie(value)
  local name = value:match("^[%s=]*([^=;]*)"):gsub("%s+$", "")
  if own_cookies[name] then return true end
  if not name:find("[\128-\255]") then return false end
  return own_cookies[name:gsub("^[^%w]+", ""):gsub("[^%w]+$", "") .. ""] == true
end

local function allowed_cookies(value)
  if type(value) == "string" then value = { value } end
  local kept = {}
  for _, one in ipairs(value) do
    if not sets_own_cookie(one) then kept[#kept + 1] = one end
  end
  return kept
end

-- Removes fields of a cluster's answer that no client may get; returns what it had, by lower-case name.
function fields.clean_answer()
  local header, found = ngx.header, setmetatable(ngx.resp.get_headers(0), nil)
  for name, value in pairs(found) do
    if not is_returned(name) then header[name] = nil
    elseif name == "set-cookie" then header[name] = allowed_cookies(value) end
  end
  local named = ngx.var.upstream_http_connection
  if named and named ~= "keep-alive" and named ~= "close" then
    for name in named:gmatch("[^%s,]+") do
      header[name], found[name:lower()] = nil, nil
    end
  end
  return found
end

return fields
