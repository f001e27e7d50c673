-- The name of each request, and the facts about those in progress in this worker.
--
-- `ngx.ctx` is lost when nginx answers with an error page. The address of nginx's own structure is not, and it is cheaper
-- to read than a variable.

local base = require "resty.core.base"
local ffi = require "ffi"
local settings = require "lucid.settings"

local requests = {}

local WORD, HALF = 0xffffffff, 0xffff
local UUID = "%08x-%04x-4%03x-%04x-%04x%08x"
local random = math.random
local cast, get_request = ffi.cast, base.get_request

local in_progress = {} -- by address; the log phase, which every request comes to, removes them

-- Returns the name of the current request: that of a trusted proxy, or a new UUID (RFC 9562, version 4).
function requests.id()
  local var = ngx.var
  local id = var.lucid_request_id
  if id ~= "" then return id end
  id = settings.has_proxies and var.id_of_proxy or ""
  if id == "" then
    id = string.format(UUID, random(0, WORD), random(0, HALF), random(0, 0xfff), random(0x8000, 0xbfff), random(0, HALF),
                       random(0, WORD))
  end
  var.lucid_request_id = id
  return id
end

local function address() return tonumber(cast("uintptr_t", get_request())) end

-- Keeps the facts until `finish`. They get the name of the request, as `id`.
function requests.keep(request)
  request.id = request.id or requests.id()
  in_progress[address()] = request
end

-- Returns the facts about the current request, nil if none were kept.
function requests.current() return in_progress[address()] end

-- Returns the facts about all requests in progress in this worker.
function requests.all() return in_progress end

-- Returns the facts for the last time, and notes in them that the request is over.
function requests.finish()
  local at = address()
  local request = in_progress[at]
  if request then
    request.is_over = true
    in_progress[at] = nil
  end
  return request
end

return requests
