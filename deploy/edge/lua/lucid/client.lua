-- The connections of a request: that of its client, and that to the instance.
--
-- nginx cuts an answer in the same way whether the client or the cluster ended it early, and has no variable for that.
-- It has no function to end a request from outside, either.

local base = require "resty.core.base"
local ffi = require "ffi"

ffi.cdef [[
typedef struct { void *data; void *read; void *write; int fd; } lucid_connection_head;
typedef struct { void *read_handler; void *write_handler; lucid_connection_head *connection; } lucid_upstream_head;
typedef struct {
  uint32_t signature; lucid_connection_head *connection; void *contexts[4]; void *read_handler; void *write_handler;
  void *cache; lucid_upstream_head *upstream;
} lucid_request_head;
ssize_t recv(int fd, void *buffer, size_t length, int flags);
int shutdown(int fd, int how);
int ioctl(int fd, unsigned long request, int *value);
]]

local PEEK_WITHOUT_WAITING = 0x42
local EAGAIN = 11
local BOTH_WAYS = 2
local SIOCOUTQ = 0x5411
local buffer, count = ffi.new("char[1]"), ffi.new("int[1]")

local client = {}

-- Returns the current request, for use until it is over.
function client.request() return ffi.cast("lucid_request_head *", base.get_request()) end

-- Returns whether the client has closed or reset its connection, or has sent something after its request.
function client.has_left()
  local fd = client.request().connection.fd
  return not (ffi.C.recv(fd, buffer, 1, PEEK_WITHOUT_WAITING) < 0 and ffi.errno() == EAGAIN)
end

-- Returns whether the client has received all that was sent to it.
function client.has_taken_all(request)
  return ffi.C.ioctl(request.connection.fd, SIOCOUTQ, count) ~= 0 or count[0] == 0
end

-- Ends the connection of any request that is not over: nginx finds out as if the client had closed it.
function client.end_connection(request) ffi.C.shutdown(request.connection.fd, BOTH_WAYS) end

-- Ends the connection to the instance, if there is one, in the same way.
function client.end_attempt(request)
  local upstream = request.upstream
  if upstream ~= nil and upstream.connection ~= nil then ffi.C.shutdown(upstream.connection.fd, BOTH_WAYS) end
end

return client
