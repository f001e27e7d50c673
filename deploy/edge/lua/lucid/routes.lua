-- Finds the route of a request in the exported policy.
--
-- Only paths that need no interpretation get one: what the gateway would decode, refuse or redirect, it gets as it is.

local cjson = require "cjson.safe"
local settings = require "lucid.settings"

local routes = {}

local BASE = "/api/v1/"
-- Segments of unreserved and harmless characters (RFC 3986, section 3.3), none of which is a dot segment. The query may
-- have any visible character but "#", which a request line must not contain.
local PLAIN = [=[^(?:/(?!\.{1,2}(?:[/?]|\z))[A-Za-z0-9\-._~!$&'()*+,=:@]++)++(?:\?[!"$-~]*+)?\z]=]
local SLASH = 47
local byte, find, sub = string.byte, string.find, string.sub

-- Path -> method -> route, for paths of the table and for everything below them.
local exact, below = {}, {}

-- Returns the cache rule of a row, nil if its answers are not cached.
local function cache_rule(row)
  local rule = settings.has_cache and row.cache
  if not rule or rule == cjson.null then return nil end
  return { shared = rule.shared, seconds = rule.seconds ~= cjson.null and rule.seconds or nil }
end

local function add(row)
  local prefix = row.path:match("^(.*)/{rest%*}$")
  local path = BASE .. (prefix or row.path)
  local route = {
    -- As in the log of the gateway.
    name = "api/v1/" .. row.path:gsub("{rest%*}", "<path:rest>"),
    path = row.path,
    cluster = row.cluster,
    upstream = row.upstream:gsub("/{rest%*}$", ""),
    cut = prefix and #path or nil,
    permission = row.permission,
    tier = row.tier,
    body_limit = row.body_limit,
    timeouts = row.timeouts,
    attempts = row.attempts,
    websocket = row.websocket,
    cache = cache_rule(row),
  }
  local place = prefix and below or exact
  place[path] = place[path] or {}
  for _, method in ipairs(row.methods) do place[path][method] = route end
end

function routes.load()
  for _, row in ipairs(settings.policy.routes) do
    if row.edge then add(row) end
  end
  for _, path in ipairs(settings.policy.own_paths) do exact[BASE .. path] = {} end
end

-- Returns the routes of the longest prefix of a path, by method.
local function find_below(path)
  for at = #path, #BASE, -1 do
    if byte(path, at) == SLASH then
      local methods = below[sub(path, 1, at - 1)]
      if methods then return methods end
    end
  end
end

-- Returns the route of a request, its path, and the target at the cluster; nil if the gateway has to decide.
function routes.find(method, target)
  if not ngx.re.find(target, PLAIN, "jo") then return nil end
  local mark = find(target, "?", 1, true)
  local path = mark and sub(target, 1, mark - 1) or target
  local methods = exact[path] or find_below(path)
  local route = methods and methods[method]
  if not route then return nil end
  local upstream = route.cut and route.upstream .. sub(path, route.cut + 1) or route.upstream
  if mark and mark < #target then upstream = upstream .. sub(target, mark) end
  return route, path, upstream
end

return routes
