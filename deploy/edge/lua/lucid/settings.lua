-- The settings of the edge and the policy that it enforces, read once by the master process.

local cjson = require "cjson.safe"

local settings = {}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- Reads the files that `manage.py configure_edge` has written into the folder.
function settings.load(folder)
  -- HEAD requests could be smuggled through older versions (CVE-2024-33452). Debian has mended its 0.10.23; the command
  -- has checked the version of the package.
  local values = assert(cjson.decode(read(folder .. "/edge.json")))
  local module = ngx.config.ngx_lua_version
  if module < 10027 and not (module == 10023 and values.checked_module) then
    error("the Lua module of this nginx is too old: expected 0.10.27, or Debian's 1:0.10.23-1+deb12u1")
  end
  for name, value in pairs(values) do settings[name] = value end
  settings.policy = assert(cjson.decode(read(folder .. "/policy.json")))
  settings.script = read(folder .. "/admit.lua")
end

return settings
