-- The connection of the current request's client.
--
-- nginx cuts an answer in the same way whether the client or the cluster ended it early, and has no variable for that.
-- It has no function to end a request from outside, either.

local base = require "resty.core.base"
local ffi = require "ffi"

ffi.cdef [[
typedef struct { uint32_t signature; void *connection; } lucid_request_head;
typedef struct { void *data; void *read; void *write; int fd; } lucid_connection_head;
ssize_t recv(int fd, void *buffer, size_t length, int flags);
int shutdown(int fd, int how);
]]

local PEEK_WITHOUT_WAITING = 0x42
local EAGAIN = 11
local BOTH_WAYS = 2
local buffer = ffi.new("char[1]")

local client = {}

-- Returns the connection, which exists until the request is over.
function client.connection()
  local request = ffi.cast("lucid_request_head *", base.get_request())
  return ffi.cast("lucid_connection_head *", request.connection)
end

-- Returns whether the client has closed or reset its connection, or has sent something after its request.
function client.has_left()
  return not (ffi.C.recv(client.connection().fd, buffer, 1, PEEK_WITHOUT_WAITING) < 0 and ffi.errno() == EAGAIN)
end

-- Ends the connection of any request that is not over: nginx finds out as if the client had closed it.
function client.end_connection(connection) ffi.C.shutdown(connection.fd, BOTH_WAYS) end

return client
