-- The response cache (RFC 9111): a shared cache in front of the clusters, for requests that the edge has admitted.
--
-- nginx keeps the answers, each under the id of the request that brought it. The index here says which of them is fresh,
-- and for whom; the workers share it. What it names and nginx no longer has, the cluster is asked for again.

local answers = require "lucid.answers"
local cache_control = require "lucid.cache_control"
local fields = require "lucid.fields"
local instances = require "lucid.instances"
local requests = require "lucid.requests"
local semaphore = require "ngx.semaphore"

local cache = {}

local NAME = "lucid-api-gateway"
local MAX_LENGTH = 256 * 1024 -- bytes of a body
local MAX_SECONDS = 3600
local ROUNDS = 2 -- after the first one it may only be known by which request fields the answer varies
local UNSTORED, UNSTORED_SECONDS = "-", 10 -- requests for such an answer do not wait for each other
-- The cache does not answer these, and could not answer others with what they bring.
local BYPASS = { "range", "if-range", "if-match", "if-unmodified-since" }

local index = ngx.shared.lucid_answers
local flights = {} -- of this worker: those that others wait for, by variant

-- nginx would hold an event stream back until a buffer is full.
local function bypasses(request)
  local found = request.found
  for _, name in ipairs(BYPASS) do
    if found[name] then return true end
  end
  local accept = found.accept and fields.joined(found.accept):lower()
  return request.has_body or (accept and accept:find("text/event-stream", 1, true)) ~= nil
end

-- Returns the request as far as Vary plays no part: cluster, target, scheme and host, and the caller's rights unless the
-- answer is shared. No part contains a NUL.
local function key_of(request, caller)
  local route = request.route
  local who = route.cache.shared and "" or
    table.concat({ caller.user_id, caller.api_key and caller.credential or "", caller.role, caller.permissions }, "\0")
  return table.concat({ who, route.cluster, ngx.var.lucid_scheme, request.found.host, request.target }, "\0")
end

-- Returns the key of an answer, given the fields by which it varies, as far as they are known.
local function variant_of(key, found)
  local names = index:get("vary " .. key)
  if not names then return "answer " .. key end
  local parts = { "answer " .. key, names }
  for name in names:gmatch("[^,]+") do parts[#parts + 1] = fields.joined(found[name]) or "\1" end
  return table.concat(parts, "\0")
end

-- Returns the entry of a fresh answer that the client accepts, or nil.
local function fresh(request)
  local lookup = request.lookup
  lookup.variant = variant_of(lookup.key, request.found)
  local file, born, until_ = (index:get(lookup.variant) or ""):match("^(%x+) (%S+) (%S+)$")
  if not file then return nil end
  local entry = { file = file, born = tonumber(born), until_ = tonumber(until_) }
  local now = ngx.now()
  return cache_control.accepts(lookup.terms, now - entry.born, entry.until_ - now) and entry or nil
end

-- Prepares the look-up of a GET request of this caller, and returns whether a fresh answer is stored for it.
function cache.look_up(request, caller)
  request.lookup = nil
  if bypasses(request) then
    request.cache = "bypass"
    return false
  end
  local terms = cache_control.terms(request.found)
  request.cache = terms.reuse and "miss" or "request"
  request.lookup = { key = key_of(request, caller), terms = terms }
  return terms.reuse and fresh(request) ~= nil
end

-- Lets the requests that wait for this one go on.
local function end_flight(lookup)
  local flight = lookup.leads and flights[lookup.leads]
  if not flight then return end
  flights[lookup.leads], lookup.leads = nil, nil
  if flight.waiting > 0 then flight.done:post(flight.waiting) end
end

-- Returns the entry of a fresh answer, and how it was found. Of requests that find none, one in each worker asks the
-- cluster, and the others wait for its answer; if that is not stored, each asks on its own.
local function find(request)
  local lookup = request.lookup
  local entry = fresh(request)
  if entry or lookup.terms.only_if_cached then return entry, "hit" end
  for _ = 1, ROUNDS do
    local variant = lookup.variant
    if index:get(variant) == UNSTORED then return nil end
    local flight = flights[variant]
    if not flight then
      flights[variant], lookup.leads = { done = semaphore.new(0), waiting = 0 }, variant
      return nil
    end
    flight.waiting = flight.waiting + 1
    flight.done:wait(request.route.timeouts.total)
    entry = fresh(request)
    if entry then return entry, "collapsed" end
    if lookup.variant == variant then return nil end
  end
end

-- Says where nginx finds the answer to an admitted request, or where it keeps the cluster's.
function cache.answer()
  local request = requests.current()
  local lookup, how = request.lookup, nil
  if lookup.terms.reuse then lookup.entry, how = find(request) end
  lookup.asked_at = ngx.now()
  if lookup.entry then
    request.cache = how
    ngx.var.lucid_file = lookup.entry.file
    return
  end
  if lookup.terms.only_if_cached then
    request.cache = nil
    request.refusal = answers.error("UpstreamTimeout",
                                    { message = "No answer is stored, and the request has only-if-cached" })
    return answers.send(request.refusal)
  end
  -- Without a place, its answer was fresh before the decision.
  request.entered = request.entered or instances.enter(request.route.cluster, request.cluster)
  if not request.entered then
    request.cache, request.refusal = nil, answers.busy(request.route.cluster)
    return answers.send(request.refusal)
  end
  lookup.file = ngx.var.request_id
  ngx.var.lucid_file = lookup.file
end

-- Returns the length of the cluster's answer if it can be stored: a 200, not too long, and no event stream. nginx cannot
-- drop an answer that only turns out to be too long, so one without a length is not stored.
local function storable_length()
  local var = ngx.var
  local length = tonumber(var.upstream_http_content_length)
  local kind = (var.upstream_http_content_type or ""):lower()
  if not (var.upstream_status or ""):find("200$") or kind:find("text/event-stream", 1, true) then return nil end
  return length and length <= MAX_LENGTH and length
end

-- Returns whether the cluster's answer will be stored.
local function keep(request)
  local lookup, headers, rule, now = request.lookup, ngx.resp.get_headers(0), request.route.cache, ngx.now()
  local names = cache_control.vary(headers, rule.shared)
  local seconds = cache_control.lifetime(headers, rule.seconds, now)
  local age = cache_control.age(headers, now - lookup.asked_at, now)
  local length = storable_length()
  if names and seconds > age and length then
    local born = now - age
    lookup.answer = { names = table.concat(names, ","), born = born, until_ = born + seconds, length = length }
    return true
  end
  local variant = variant_of(lookup.key, request.found)
  if lookup.entry then index:delete(variant) end -- nginx no longer had that answer
  index:add(variant, UNSTORED, UNSTORED_SECONDS)
  end_flight(lookup)
  return false
end

-- Returns what Cache-Status says (RFC 9211) of an answer from nginx's store.
local function status_of_stored(request, entry, now)
  ngx.header["Age"] = math.max(0, math.floor(now - entry.born))
  if request.cache == "collapsed" then return "fwd=miss; collapsed" end
  return "hit; ttl=" .. math.max(0, math.floor(entry.until_ - now))
end

-- Returns the same of the cluster's answer, after deciding whether nginx stores it.
local function status_of_clusters(request)
  local lookup, kept = request.lookup, false
  if lookup then
    if lookup.entry then request.cache = "miss" end
    kept = lookup.terms.store and keep(request)
    ngx.var.lucid_unstored = kept and "" or "1"
  end
  return "fwd=" .. request.cache .. (kept and "; stored" or "")
end

-- Returns whether the head of the answer is one that nginx had stored.
function cache.is_stored(request)
  return request.lookup ~= nil and request.lookup.entry ~= nil and #request.attempts == 0
end

-- Writes into the head of an answer how the cache dealt with the request.
function cache.mark(request)
  local stored = cache.is_stored(request)
  local status = stored and status_of_stored(request, request.lookup.entry, ngx.now()) or status_of_clusters(request)
  local earlier = ngx.header["Cache-Status"] or {}
  if type(earlier) == "string" then earlier = { earlier } end
  earlier[#earlier + 1] = NAME .. "; " .. status
  ngx.header["Cache-Status"] = earlier
end

-- Returns whether all of the body has come from the cluster.
local function is_whole(answer)
  return tonumber((ngx.var.upstream_response_length or ""):match("%d+$")) == answer.length
end

-- Ends the look-up when nginx has stored the answer, which the index names from now on, or will not.
function cache.finish(request)
  local lookup = request.lookup
  local answer, now = lookup.answer, ngx.now()
  lookup.answer = nil
  if answer and is_whole(answer) and answer.until_ > now then
    if answer.names == "" then index:delete("vary " .. lookup.key)
    else index:set("vary " .. lookup.key, answer.names, MAX_SECONDS) end
    local entry = string.format("%s %.3f %.3f", lookup.file or lookup.entry.file, answer.born, answer.until_)
    index:set(variant_of(lookup.key, request.found), entry, answer.until_ - now)
  end
  end_flight(lookup)
end

return cache
