-- Whether the client of the current request has closed its connection.
--
-- nginx cuts an answer in the same way whether the client or the cluster ended it early, and has no variable for that.

local base = require "resty.core.base"
local ffi = require "ffi"

ffi.cdef [[
typedef struct { uint32_t signature; void *connection; } lucid_request_head;
typedef struct { void *data; void *read; void *write; int fd; } lucid_connection_head;
ssize_t recv(int fd, void *buffer, size_t length, int flags);
]]

local PEEK_WITHOUT_WAITING = 0x42
local EAGAIN = 11
local buffer = ffi.new("char[1]")

local client = {}

-- Returns whether the client has closed or reset its connection, or has sent something after its request.
function client.has_left()
  local request = ffi.cast("lucid_request_head *", base.get_request())
  local connection = ffi.cast("lucid_connection_head *", request.connection)
  return not (ffi.C.recv(connection.fd, buffer, 1, PEEK_WITHOUT_WAITING) < 0 and ffi.errno() == EAGAIN)
end

return client
