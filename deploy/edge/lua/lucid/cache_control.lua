-- Caching rules from the header fields of requests and answers (RFC 9111, sections 4.2 and 5).
--
-- Fields are tables as of `ngx.resp.get_headers`: by lower-case name, and a table of values for a repeated field.

local fields = require "lucid.fields"

local cache_control = {}

local MAX_SECONDS = 3600 -- the longest lifetime, even if the cluster allows more; nginx forgets the answer then
-- RFC 9110, section 5.6.2
local TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
local MEMBER = '[ \\t]*(?:(' .. TOKEN .. ')(?:[ \\t]*=[ \\t]*("(?:[^"\\\\]|\\\\.)*"|' .. TOKEN .. '))?[ \\t]*)?(?:,|\\z)'
local NOT_STORED = { "no-store", "no-cache", "private", "must-understand" }
-- Fields that depend only on the caller: an answer stored for one caller may vary by them.
local OF_CALLER = {
  ["authorization"] = true, ["x-api-key"] = true, ["x-user-id"] = true, ["x-user-role"] = true,
  ["x-user-permissions"] = true,
}
local ANYTHING = { store = true, reuse = true, min_fresh = 0 }
local NO_REUSE = { store = true, reuse = false, min_fresh = 0 }

local function list(value) return type(value) == "table" and value or { value } end

-- Returns the arguments by lower-case name of directive, "" for one without an argument; nil for what is no such list.
local function directives(value)
  local found = {}
  for _, text in ipairs(list(value)) do
    local at = { pos = 1 }
    while at.pos <= #text do
      local member = ngx.re.match(text, MEMBER, "ajo", at)
      if not member then return nil end
      if member[1] then
        local name = member[1]:lower()
        found[name] = found[name] or {}
        table.insert(found[name], ((member[2] or ""):gsub('^"(.*)"$', "%1")))
      end
    end
  end
  return found
end

-- Returns a number of seconds (RFC 9111, section 1.2.2), nil for anything else.
local function seconds(text) return text:find("^%d+$") and tonumber(text) end

local function has_no_cache(pragma) return table.concat(list(pragma), ","):lower():find("no-cache", 1, true) ~= nil end

-- Returns the answer's Date in epoch seconds, or `now` if it has no valid one.
local function date_of(headers, now) return ngx.parse_http_time(list(headers.date)[1] or "") or now end

-- Returns the seconds from the first that is present: s-maxage, max-age, Expires, `default`. What is there twice, or is
-- not valid, means 0 (section 4.2.1).
local function explicit_lifetime(headers, control, default, now)
  local given = control["s-maxage"] or control["max-age"]
  if given then return #given == 1 and seconds(given[1]) or 0 end
  if headers.expires then
    local until_ = type(headers.expires) == "string" and ngx.parse_http_time(headers.expires)
    return until_ and until_ - date_of(headers, now) or 0
  end
  return default or 0
end

-- Returns for how many seconds after its generation an answer may be reused; 0 if it must not be stored. `default`
-- applies if the cluster sets no lifetime; `now` is in epoch seconds.
function cache_control.lifetime(headers, default, now)
  local control = directives(headers["cache-control"])
  if not control or headers["set-cookie"] or headers["content-range"] then return 0 end
  for _, name in ipairs(NOT_STORED) do
    if control[name] then return 0 end
  end
  if not next(control) and headers.pragma and has_no_cache(headers.pragma) then return 0 end
  return math.max(0, math.min(explicit_lifetime(headers, control, default, now), MAX_SECONDS))
end

-- Returns an answer's age in seconds on arrival, `delay` seconds after the request was sent (section 4.2.3).
function cache_control.age(headers, delay, now)
  local value = (list(headers.age)[1] or ""):match("^[^,]*"):match("^%s*(.-)%s*$")
  return math.max(0, math.floor(now) - date_of(headers, math.floor(now)), (seconds(value) or 0) + delay)
end

-- Returns the lower-case names of the request fields in Vary, in order, or nil if the answer cannot be reused. That is so
-- for `*`, and for fields that the edge does not forward from the client.
function cache_control.vary(headers, shared)
  local names, seen = {}, { host = true }
  for name in table.concat(list(headers.vary), ","):lower():gmatch("[^%s,]+") do
    if not seen[name] and (shared or not OF_CALLER[name]) then
      if name == "*" or not fields.is_forwarded(name) then return nil end
      seen[name] = true
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

-- Returns the client's terms (section 5.2.1): whether its answer may be stored or come from the store, the greatest age
-- and the least remaining lifetime of a stored one (in seconds), and whether the cluster must not be asked. A field that
-- is malformed is read as no-cache.
function cache_control.terms(found)
  local value = found["cache-control"]
  if not value then return found.pragma and has_no_cache(found.pragma) and NO_REUSE or ANYTHING end
  local control = directives(value)
  if not control then return NO_REUSE end
  local terms = { store = not control["no-store"], min_fresh = 0, only_if_cached = control["only-if-cached"] ~= nil }
  for _, text in ipairs(control["max-age"] or {}) do
    terms.max_age = math.min(seconds(text) or 0, terms.max_age or math.huge)
  end
  for _, text in ipairs(control["min-fresh"] or {}) do
    terms.min_fresh = math.max(seconds(text) or 0, terms.min_fresh)
  end
  terms.reuse = terms.store and not control["no-cache"] and terms.max_age ~= 0
  return terms
end

-- Returns whether the client accepts a stored answer of this age that stays fresh for `left` more seconds.
function cache_control.accepts(terms, age, left)
  return terms.reuse and left > 0 and left >= terms.min_fresh and (not terms.max_age or age <= terms.max_age)
end

return cache_control
