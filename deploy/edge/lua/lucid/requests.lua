-- The facts about each request in progress in this worker.
--
-- `ngx.ctx` is lost when nginx answers with an error page; a variable of nginx that holds a number is not.

local requests = {}

local in_progress, free, last = {}, {}, 0

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
