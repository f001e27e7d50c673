-- What the configuration of nginx calls at the start.

local edge = {}

-- The modules by name, each loaded when it is first used.
edge.modules = setmetatable({}, {
  __index = function(known, name)
    known[name] = require("lucid." .. name)
    return known[name]
  end,
})

-- In the master process, whose memory the workers share. Modules with sockets or timers are loaded by the workers.
function edge.load(folder)
  require("lucid.settings").load(folder)
  require("lucid.routes").load()
  require("lucid.answers").load()
  require("lucid.fields").load()
  require("lucid.cluster").load()
  require("lucid.callers").load()
end

-- Returns 52 random bits, as many as a number of Lua holds, in hexadecimal digits.
local function read_seed()
  local file = assert(io.open("/dev/urandom", "rb"))
  local bytes = file:read(7)
  file:close()
  return (bytes:gsub(".", function(one) return string.format("%02x", one:byte()) end):sub(1, 13))
end

-- In each worker.
function edge.start()
  collectgarbage("setpause", 400)
  math.randomseed(tonumber(read_seed(), 16))
  require("lucid.redis").start()
  require("lucid.sentinel").start()
  require("lucid.cluster").start()
  require("lucid.snapshot").start()
  require("lucid.reports").start()
  require("lucid.deadlines").start()
  require("lucid.tunnel").start()
end

-- Reads what the gateway teaches with its answer.
function edge.learn()
  require("lucid.answers").hide_server()
  require("lucid.lessons").learn(require("lucid.requests").current())
end

return edge
