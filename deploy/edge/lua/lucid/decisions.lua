-- The decisions of all requests of this worker, over one connection to each Redis server.
--
-- A request puts its question into a queue and waits. All that came in with the same turn of nginx's event loop are sent
-- together, without waiting for earlier answers, which Redis gives in the order of the questions. So the more requests
-- there are, the fewer system calls one costs, here and in Redis.

local cluster = require "lucid.cluster"
local redis = require "lucid.redis"
local semaphore = require "ngx.semaphore"
local settings = require "lucid.settings"

local decisions = {}

-- How long an unused connection may take to notice that it is of no more use.
local IDLE_SECONDS = 0.25
local READ_BYTES = 65536
local MAX_SPARE = 1000
local ASTERISK, COLON, DOLLAR, HYPHEN, RETURN, ZERO = 42, 58, 36, 45, 13, 48
local KEYRING_CLOSED = { -5 } -- the answer of the script to other revisions
local byte, find, sub = string.byte, string.find, string.sub

local spare = {} -- questions that are over, to be used again

-- Reads a whole number that ends with CR LF at a place in the data; returns it and the place after it, nil if it is not
-- all there.
local function read_number(data, at)
  local negative = byte(data, at) == HYPHEN
  if negative then at = at + 1 end
  local digit, value = byte(data, at), 0
  while digit and digit ~= RETURN do
    value = value * 10 + digit - ZERO
    at = at + 1
    digit = byte(data, at)
  end
  if not byte(data, at + 1) then return nil end
  return negative and -value or value, at + 2
end

-- Reads an answer of the script, which consists of whole numbers, at a place in the data (RESP2): many come at once, and
-- `redis.read` would ask the socket for each line. Returns the answer, or nil and the server's error, and the place after
-- it: nil if it is not all there, 0 if it is something else.
local function read_answer(data, at)
  local kind = byte(data, at)
  if kind == HYPHEN then
    local stop = find(data, "\r\n", at, true)
    return nil, stop and sub(data, at + 1, stop - 1), stop and stop + 2
  end
  if kind ~= ASTERISK then return nil, nil, kind and 0 end
  local size
  size, at = read_number(data, at + 1)
  local answer = {}
  for index = 1, size or 0 do
    kind = byte(data, at)
    if kind and kind ~= COLON then return nil, nil, 0 end
    answer[index], at = read_number(data, at + 1)
    if not at then return nil, nil, nil end
  end
  return answer, nil, at
end

-- Reads an answer that is a list of texts in the same way.
local function read_texts(data, at)
  if byte(data, at) ~= ASTERISK then return read_answer(data, at) end
  local size, length
  size, at = read_number(data, at + 1)
  local answer = {}
  for index = 1, size or 0 do
    local kind = byte(data, at)
    if kind and kind ~= DOLLAR then return nil, nil, 0 end
    length, at = read_number(data, at + 1)
    if not at then return nil, nil, nil end
    if length >= 0 then
      if #data < at + length + 1 then return nil, nil, nil end
      answer[index], at = sub(data, at, at + length - 1), at + length + 2
    end
  end
  return answer, nil, at
end

local function finish(question, answer, err, refused)
  question.answer, question.err, question.refused = answer, err, refused
  if not question.is_abandoned then question.done:post(1) end
end

-- Ends the stream: whoever waits for an answer gets the error.
local function fail(of, err)
  of.is_broken = true
  if of.server.stream == of then of.server.stream = nil end
  for index = of.first, of.last do
    if of.asked[index].done then finish(of.asked[index], nil, err) end
  end
  for _, question in ipairs(of.queue) do finish(question, nil, err) end
  of.first, of.last, of.queue = 1, 0, {}
  of.work:post(1)
end

-- Whether what was taught about the caller rests on the revisions that this stream has read just before.
local function is_current(of, gates)
  local revisions = of.revisions
  return revisions[1] == gates.keyring and revisions[of.shards[gates.shard]] == gates.limits
end

-- Hands out the answers that are complete; returns the rest of the data, nil if it makes no sense.
local function hand_out(of, data)
  local at = 1
  while at <= #data do
    local question = of.asked[of.first]
    if not question then return nil end
    local read = question.shards and read_texts or read_answer
    local answer, refusal, after = read(data, at)
    if not after then break end
    if after == 0 then return nil end
    of.asked[of.first] = nil
    of.first, at = of.first + 1, after
    if question.shards then
      of.revisions, of.shards = answer or {}, question.shards
    else
      if answer and of.revisions and not is_current(of, question.gates) then answer = KEYRING_CLOSED end
      finish(question, answer, refusal, answer == nil)
    end
  end
  return sub(data, at)
end

-- Returns whether the first question has waited too long for its answer.
local function is_overdue(of)
  return of.first <= of.last and ngx.now() >= of.asked[of.first].sent_at + settings.redis.timeout_ms / 1000
end

local function read_answers(of)
  local data = ""
  repeat
    local more, err = of.sock:receiveany(READ_BYTES)
    if more then
      data = hand_out(of, data .. more)
      if not data then fail(of, "unexpected answer") end
    elseif not of.is_broken and (err ~= "timeout" or is_overdue(of)) then
      fail(of, err)
    end
  until of.is_broken
end

-- Returns the script's command for the server with this run id.
local function command_for(gates, run_id)
  if gates.run_id ~= run_id then
    gates.command = gates.head .. "$" .. #run_id .. "\r\n" .. run_id .. "\r\n" .. gates.tail
    gates.run_id = run_id
  end
  return gates.command
end

-- Asks a master of a cluster for the revisions that concern the callers of these questions. The answer comes before
-- those to the questions. On a single server, the script itself compares them.
local function ask_for_revisions(of, questions, now)
  local names, keys = { settings.policy.keys.keyring_revision }, settings.policy.keys
  local shards = {}
  for _, question in ipairs(questions) do
    local shard = question.gates.shard
    if not shards[shard] then
      names[#names + 1] = keys.limits_revision:gsub("<shard>", shard)
      shards[shard] = #names
    end
  end
  of.last = of.last + 1
  of.asked[of.last] = { shards = shards, sent_at = now }
  return redis.encode("HMGET", cluster.in_slot(keys.revisions, of.server.home), unpack(names))
end

-- Sends the questions that have come in.
local function send_questions(of)
  local questions, commands, now = of.queue, {}, ngx.now()
  of.queue, of.is_awake = {}, false
  if of.server.home and #questions > 0 then commands[1] = ask_for_revisions(of, questions, now) end
  for _, question in ipairs(questions) do
    if not question.is_abandoned then
      of.last, question.sent_at = of.last + 1, now
      of.asked[of.last] = question
      commands[#commands + 1] = command_for(question.gates, of.run_id)
    end
  end
  if #commands == 0 then return end
  local sent, err = of.sock:send(commands)
  if not sent and not of.is_broken then fail(of, err) end
end

-- Whether no more questions will come: another stream or server is in use, or the worker ends.
local function is_retired(of) return of ~= of.server.stream or of.server.is_lost or ngx.worker.exiting() end

-- Connects, and sends and receives until the connection fails or is of no more use.
local function serve(of)
  local err
  of.sock, err = redis.open(of.server)
  if not of.sock then return fail(of, err) end
  of.run_id = err
  local reader = ngx.thread.spawn(read_answers, of)
  repeat
    send_questions(of)
    if not of.work:wait(IDLE_SECONDS) and is_retired(of) and of.first > of.last then fail(of, "ended") end
  until of.is_broken
  ngx.thread.kill(reader)
  of.sock:close()
end

local function serve_until_it_fails(_, of)
  local ok, problem = pcall(serve, of)
  if ok then return end
  ngx.log(ngx.ERR, "asking Redis failed: ", problem)
  fail(of, "failed")
end

local function open_stream(server)
  local stream = { server = server, queue = {}, asked = {}, first = 1, last = 0, work = semaphore.new(0) }
  server.stream = stream
  local ok, err = ngx.timer.at(0, serve_until_it_fails, stream)
  if not ok then fail(stream, err) end
end

local function ask_once(server, gates)
  if not server.stream then open_stream(server) end
  local of = server.stream
  if not of then return nil, "no timer" end
  local question = table.remove(spare) or { done = semaphore.new(0) }
  question.gates, question.answer, question.err, question.refused = gates, nil, nil, nil
  of.queue[#of.queue + 1] = question
  if not of.is_awake then
    of.is_awake = true
    of.work:post(1)
  end
  if not question.done:wait(settings.redis.timeout_ms / 1000) then
    question.is_abandoned = true
    return nil, "timeout"
  end
  if #spare < MAX_SPARE then spare[#spare + 1] = question end
  return question.answer, question.err, question.refused
end

local function load_script(sock) return redis.call(sock, "SCRIPT", "LOAD", settings.script) end

-- Asks a server once, which may not know the script yet.
local function ask_server(server, gates)
  local answer, err, refused = ask_once(server, gates)
  if refused and sub(err, 1, 8) == "NOSCRIPT" then
    answer, err = redis.with_server(server, load_script)
    if answer then answer, err = ask_once(server, gates) end
  end
  return answer, err
end

-- Runs the decision script; `gates` has its command in two parts, `head` and `tail`, with the run id of the server
-- between them, in a cluster also the `slot` of its keys, and what the caller's lesson rests on: `keyring`, `limits` and
-- `shard`. Returns the list of numbers that the script returns, nil if it did not answer.
function decisions.ask(gates)
  local server = redis.server_at(gates.slot)
  if not server or redis.is_paused(server) then return nil end
  local answer, err = ask_server(server, gates)
  if not answer and gates.slot then
    local other = cluster.follow(err, server)
    if other then
      server = other
      answer, err = ask_server(server, gates)
    end
  end
  if not answer and not redis.is_redirection(err) then redis.note_failure(server, err) end
  return answer
end

return decisions
