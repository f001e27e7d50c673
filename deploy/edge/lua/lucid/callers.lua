-- What the gateway has taught about callers, by their credentials.
--
-- The workers share the lessons; a worker keeps the parsed ones that it has used lately. A lesson that is out of date
-- does no harm: the script compares the revisions and the epoch that it rests on with those in Redis, in each request.

local cjson = require "cjson.safe"
local lrucache = require "resty.lrucache"
local redis = require "lucid.redis"
local settings = require "lucid.settings"
local sha256 = require "lucid.sha256"

local callers = {}

local LEASE_MS = 15000 -- unused: callers with a limit on concurrent requests are not taught
local RECENT, MAX_SETS = 5000, 1000
local lessons = ngx.shared.lucid_callers
local recent = assert(lrucache.new(RECENT))
local of_roles = {} -- the permissions of each role
local sets, set_count = {}, 0 -- permissions as a set, by their list
local sha

-- Returns the name of a key, given its name in the policy and the values of its parameters.
local function key(name, values)
  return (settings.policy.keys[name]:gsub("<([a-z_]+)>", values))
end

-- Returns the decision script's command for a tier, in two parts: the run id of the server belongs between them. With
-- `look` 1 it counts nothing.
local function question(lesson, tier, limits, quota, look)
  local values = {
    user_id = lesson.user_id, key_id = lesson.credential, credential_id = lesson.credential, tier = tier,
    shard = lesson.shard,
  }
  values.subject = key(lesson.api_key and "api_key" or "user", values)
  local before = {
    "EVALSHA", sha, 9,
    key("rate", values), key("quota", values), key("concurrent", values),
    key("revocations_complete", values), key("locked", values), key("revoked", values), key("epoch", values),
    key("keyring_revision", values), key("limits_revision", values),
    limits[1], limits[2], "", quota, 0, "", LEASE_MS, 0, 0, look,
  }
  local after = { 0, 0, lesson.epoch, lesson.keyring, lesson.limits }
  local head = redis.encode(unpack(before)):gsub("^%*%d+", "*" .. #before + 1 + #after)
  return head, (redis.encode(unpack(after)):gsub("^%*%d+\r\n", ""))
end

-- Returns what the edge needs to know of a tier for a caller. Most use one or two of their tiers.
function callers.tier(caller, tier)
  local known = caller.known_tiers[tier]
  if known then return known end
  local limits = caller.tiers[tier]
  local head, tail = question(caller, tier, limits, caller.quota, 0)
  local windows = settings.policy.windows
  known = {
    name = tier, limit = limits[1], burst = limits[2], quota = caller.quota, head = head, tail = tail,
    -- draft-ietf-httpapi-ratelimit-headers, as `Decision.headers` of the gateway.
    policy = string.format('"%s";q=%d;w=%d, "%s-burst";q=%d;w=%d', tier, limits[1], windows.seconds, tier, limits[2],
                           windows.burst_renews_after_seconds),
    before = string.format('"%s";r=', tier), between = string.format(', "%s-burst";r=', tier),
    after = ";t=" .. windows.burst_renews_after_seconds,
  }
  caller.known_tiers[tier] = known
  return known
end

-- Returns a list of permissions as a set, which callers of a role share.
local function set_of(permissions)
  local found = sets[permissions]
  if not found then
    if set_count >= MAX_SETS then sets, set_count = {}, 0 end
    found = {}
    for permission in permissions:gmatch("[^,]+") do found[permission] = true end
    sets[permissions], set_count = found, set_count + 1
  end
  return found
end

-- Returns the caller that a lesson describes.
local function parse(text)
  local caller = cjson.decode(text)
  caller.permissions = caller.permissions or of_roles[caller.role]
  caller.allowed, caller.known_tiers = set_of(caller.permissions), {}
  return caller
end

-- Returns the command, in two such parts, that asks only whether the gates of the caller are open.
function callers.gates(lesson, tier) return question(lesson, tier, { 0, 0 }, 0, 1) end

function callers.load()
  for _, role in ipairs(settings.policy.roles) do of_roles[role.name] = table.concat(role.permissions, ",") end
  sha = ngx.sha1_bin(settings.script):gsub(".", function(one) return string.format("%02x", one:byte()) end)
end

-- Returns the caller of a credential, nil if it is unknown or the lesson has ended.
function callers.find(credential)
  local caller = recent:get(credential)
  if not caller then
    local text = lessons:get(sha256.bytes(credential))
    if not text then return nil end
    caller = parse(text)
    recent:set(credential, caller)
  end
  if caller["until"] <= ngx.time() then return nil end
  return caller
end

-- Keeps a lesson until it ends.
function callers.learn(credential, text)
  local lesson = cjson.decode(text)
  local seconds = lesson and lesson["until"] - ngx.time() or 0
  if seconds <= 0 then return nil end
  local gateway = lesson.gateway
  -- What is the same for many callers is left out: a hundred thousand fit into 64 MiB.
  lesson.gateway = nil
  if lesson.permissions == of_roles[lesson.role] then lesson.permissions = nil end
  text = cjson.encode(lesson)
  lessons:set(sha256.bytes(credential), text, seconds)
  recent:set(credential, parse(text))
  return gateway
end

-- Drops what was taught: a gate has closed, so the next answer of the gateway teaches anew.
function callers.forget(credential)
  recent:delete(credential)
  lessons:delete(sha256.bytes(credential))
end

return callers
