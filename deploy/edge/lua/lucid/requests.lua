-- The name of each request, and the facts about those in progress in this worker.
--
-- `ngx.ctx` is lost when nginx answers with an error page; a variable of nginx that holds a number is not.

local settings = require "lucid.settings"

local requests = {}

local WORD, HALF = 0xffffffff, 0xffff
local UUID = "%08x-%04x-4%03x-%04x-%04x%08x"
local random = math.random

local in_progress, free, last = {}, {}, 0

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

-- Keeps the facts until `finish`.
function requests.keep(request)
  local slot = table.remove(free)
  if not slot then
    last = last + 1
    slot = last
  end
  in_progress[slot] = request
  ngx.var.lucid_slot = slot
end

-- Returns the facts about the current request, nil if none were kept.
function requests.current()
  local slot = tonumber(ngx.var.lucid_slot)
  return slot and in_progress[slot]
end

-- Returns the facts about all requests in progress in this worker.
function requests.all() return in_progress end

-- Returns the facts for the last time, and notes in them that the request is over.
function requests.finish()
  local slot = tonumber(ngx.var.lucid_slot)
  local request = slot and in_progress[slot]
  if request then
    request.is_over = true
    in_progress[slot] = nil
    free[#free + 1] = slot
  end
  return request
end

return requests
