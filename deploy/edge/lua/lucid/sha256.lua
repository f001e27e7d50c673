-- SHA-256 and HMAC-SHA-256 from the libcrypto that nginx is linked with.

local ffi = require "ffi"

ffi.cdef [[
unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);
const void *EVP_sha256(void);
unsigned char *HMAC(const void *evp_md, const void *key, int key_len, const unsigned char *d, size_t n,
                    unsigned char *md, unsigned int *md_len);
]]

local C = ffi.C
local digest = ffi.new("unsigned char[32]")
local HEX = {}
for byte = 0, 255 do HEX[byte] = string.format("%02x", byte) end

local sha256 = {}

-- Returns the 32 bytes of the hash.
function sha256.bytes(text)
  C.SHA256(text, #text, digest)
  return ffi.string(digest, 32)
end

-- Returns the message authentication code (RFC 2104) in hexadecimal digits.
function sha256.hmac(secret, text)
  C.HMAC(C.EVP_sha256(), secret, #secret, text, #text, digest, nil)
  local digits = {}
  for index = 0, 31 do digits[index + 1] = HEX[digest[index]] end
  return table.concat(digits)
end

return sha256
