-- Which instance of a cluster gets a request: that with the fewest requests in progress in this worker, as the
-- gateway's `proxy.choosing.balancer` chooses. How requests end is reported to the gateway, whose breakers decide.

local instances = {}

local SAFE = { GET = true, HEAD = true, OPTIONS = true }
-- The gateway's retry budget (proxy/choosing/retries.py).
local SHARE, RESERVE = 0.2, 20

local clusters = {} -- what this worker knows of each cluster: requests in progress, retries left, and of its instances
local turns = 0

local function cluster_state(name)
  local state = clusters[name]
  if not state then
    state = { in_flight = 0, retries_left = RESERVE, probed = nil, instances = {} }
    clusters[name] = state
  end
  return state
end

local function instance_state(cluster, facts)
  local state = cluster.instances[facts.url]
  if not state then
    state = { in_flight = 0, last_turn = 0 }
    cluster.instances[facts.url] = state
  end
  return state
end

-- Returns whether a recovering instance may take this request, which it may at random only.
local function passes_slow_start(facts, among)
  return facts.share >= 1 or math.random() < facts.share / among
end

local function was_tried(facts, attempts)
  for index = 1, #attempts do
    if attempts[index].facts.url == facts.url then return true end
  end
  return false
end

local function best(cluster, candidates, attempts, all)
  local found, found_state
  for index = 1, #candidates do
    local facts = candidates[index]
    if not was_tried(facts, attempts) and (all or passes_slow_start(facts, #candidates)) then
      local state = instance_state(cluster, facts)
      if not found or state.in_flight < found_state.in_flight
        or (state.in_flight == found_state.in_flight and state.last_turn < found_state.last_turn) then
        found, found_state = facts, state
      end
    end
  end
  return found
end

-- Returns an instance that none of the attempts was at, or nil.
function instances.choose(name, facts, attempts)
  local cluster = cluster_state(name)
  return best(cluster, facts.instances, attempts, false) or best(cluster, facts.instances, attempts, true)
end

-- Returns whether requests to the cluster are for the edge now: not if no instance can be used, or if the gateway waits
-- for one to try an instance again (one in each second goes there).
function instances.are_usable(name, facts, at)
  local cluster = cluster_state(name)
  if facts.probe and cluster.probed ~= at then
    cluster.probed = at
    return false
  end
  return facts.instances[1] ~= nil
end

-- Takes a place in this worker's share of the bulkhead; returns false if all are taken.
function instances.enter(name, facts)
  local cluster = cluster_state(name)
  if cluster.in_flight >= facts.places / ngx.worker.count() then return false end
  cluster.in_flight = cluster.in_flight + 1
  return true
end

-- Gives a place back.
function instances.leave(name)
  local cluster = cluster_state(name)
  cluster.in_flight = cluster.in_flight - 1
end

-- Notes that an attempt at an instance begins or ends. The first of a request adds to the budget for retries.
function instances.begin(name, facts, is_first)
  local cluster = cluster_state(name)
  local state = instance_state(cluster, facts)
  if is_first then cluster.retries_left = math.min(RESERVE, cluster.retries_left + SHARE) end
  turns = turns + 1
  state.in_flight, state.last_turn = state.in_flight + 1, turns
end

function instances.finish(name, facts)
  local state = instance_state(cluster_state(name), facts)
  state.in_flight = state.in_flight - 1
end

-- Returns whether a request may go to another instance after a failed attempt, and takes it from the budget: always if
-- nothing was sent, else only if it changes nothing and its connection ended without an answer.
function instances.may_retry(name, method, has_body, was_sent, timed_out)
  if was_sent and (timed_out or has_body or not SAFE[method]) then return false end
  local cluster = cluster_state(name)
  if cluster.retries_left < 1 then return false end
  cluster.retries_left = cluster.retries_left - 1
  return true
end

-- Returns how many requests to each cluster are in progress in this worker, by name.
function instances.in_flight()
  local found = {}
  for name, cluster in pairs(clusters) do found[name] = cluster.in_flight end
  return found
end

return instances
