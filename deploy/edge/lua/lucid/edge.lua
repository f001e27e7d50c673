-- What the configuration of nginx calls at the start.

local edge = {}

-- In the master process, whose memory the workers share. Modules with sockets or timers are loaded by the workers.
function edge.load(folder)
  require("lucid.settings").load(folder)
  require("lucid.routes").load()
  require("lucid.answers").load()
  require("lucid.fields").load()
  require("lucid.callers").load()
end

-- In each worker.
function edge.start()
  collectgarbage("setpause", 400)
  math.randomseed(ngx.worker.pid() * 1000003 + ngx.now() * 1000 % 1000003)
  require("lucid.redis").start()
  require("lucid.sentinel").start()
  require("lucid.snapshot").start()
  require("lucid.reports").start()
  require("lucid.tunnel").start()
end

-- Reads what the gateway teaches with its answer.
function edge.learn()
  require("lucid.answers").hide_server()
  require("lucid.lessons").learn(require("lucid.requests").current())
end

return edge
