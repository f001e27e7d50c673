-- What the gateway has taught about callers, by their credentials.
--
-- The workers share the lessons; a worker keeps the parsed ones that it has used lately. A lesson that is out of date
-- does no harm: the script compares the revisions and the epoch that it rests on with those in Redis, in each request.

local cjson = require "cjson.safe"
local cluster = require "lucid.cluster"
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

-- Returns the question whether a caller may pass in a tier, as `decisions.ask` expects it: with the decision script's
-- command in two parts, as the run id of the server belongs between them. With `look` 1 it counts nothing.
local function question(lesson, tier, limits, quota, look)
  local values = {
    user_id = lesson.user_id, key_id = lesson.credential, credential_id = lesson.credential, tier = tier,
    shard = lesson.shard,
  }
  values.subject = key(lesson.api_key and "api_key" or "user", values)
  local slot = cluster.slot_of(values.subject)
  local names = {
    key("rate", values), key("quota", values), key("concurrent", values),
    cluster.in_slot(key("revocations_complete", values), slot), key("locked", values), key("revoked", values),
    key("epoch", values),
  }
  local after = { 0, 0, lesson.epoch }
  if not slot then -- in a cluster, `decisions` compares the revisions
    names[8], names[9] = key("keyring_revision", values), key("limits_revision", values)
    after[4], after[5] = lesson.keyring, lesson.limits
  end
  local before = { "EVALSHA", sha, #names }
  for _, name in ipairs(names) do before[#before + 1] = name end
  for _, value in ipairs({ limits[1], limits[2], "", quota, 0, "", LEASE_MS, 0, 0, look }) do
    before[#before + 1] = value
  end
  local head = redis.encode(unpack(before)):gsub("^%*%d+", "*" .. #before + 1 + #after)
  return { head = head, tail = redis.encode(unpack(after)):gsub("^%*%d+\r\n", ""), slot = slot, keyring = lesson.keyring,
           limits = lesson.limits, shard = lesson.shard }
end

-- Returns what the edge needs to know of a tier for a caller. Most use one or two of their tiers.
function callers.tier(caller, tier)
  local known = caller.known_tiers[tier]
  if known then return known end
  local limits = caller.tiers[tier]
  local windows = settings.policy.windows
  known = question(caller, tier, limits, caller.quota, 0)
  known.name, known.limit, known.burst, known.quota = tier, limits[1], limits[2], caller.quota
  -- draft-ietf-httpapi-ratelimit-headers, as `Decision.headers` of the gateway.
  known.policy = string.format('"%s";q=%d;w=%d, "%s-burst";q=%d;w=%d', tier, limits[1], windows.seconds, tier, limits[2],
                               windows.burst_renews_after_seconds)
  known.before, known.between = string.format('"%s";r=', tier), string.format(', "%s-burst";r=', tier)
  known.after = ";t=" .. windows.burst_renews_after_seconds
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

-- Returns the question that asks only whether the gates of the caller are open.
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
