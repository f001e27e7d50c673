"""The claims of a token, and the rules for accepting one (RFC 7519; RFC 7515, section 4.1)."""

ISSUER = "lucid-api-gateway"
AUDIENCE = "lucid-api"
ACCESS, REFRESH = "access", "refresh"
REQUIRED = ("exp", "iat", "iss", "aud", "jti", "type", "user_id", "role", "family", "epoch")
# Header fields that point at keys or change what is signed; this gateway never puts one into a token.
FOREIGN_HEADERS = frozenset({"jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip"})
# How far in the future `iat` may be. `exp` has no leeway.
CLOCK_SKEW_SECONDS = 60
# Algorithm with a shared secret -> the minimum key length in bytes (RFC 7518, section 3.2).
HMAC_KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
ALGORITHMS = (*HMAC_KEY_BYTES, "RS256", "ES256", "EdDSA")
MIN_RSA_BITS = 2048
