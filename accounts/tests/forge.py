"""Tokens that an attacker, or a bug of ours, could make."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

from accounts.models import User
from accounts.tokens.keyring import keyring
from testing.plugin import JWT_SECRET_KEY

LEFT_OUT = object()


def encode(part: bytes) -> str:
    """Return base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def right_claims(user: User) -> dict[str, Any]:
    """Return the claims of a valid access token."""
    now = int(time.time())
    return {
        "type": "access", "exp": now + 600, "iat": now, "jti": uuid.uuid4().hex, "user_id": str(user.pk),
        "sub": str(user.pk), "role": "user", "family": str(uuid.uuid4()), "iss": "lucid-api-gateway",
        "aud": "lucid-api", "epoch": 0,
    }  # fmt: skip


def forge(
    user: User,
    *,
    claims: dict[str, Any] | None = None,
    header: dict[str, Any] | None = None,
    secret: str = JWT_SECRET_KEY,
    digest: str = "sha256",
) -> str:
    """Return an access token like ours, except for the given claims and header fields; LEFT_OUT omits one."""
    fields = {"alg": "HS256", "typ": "JWT", "kid": keyring().active.kid} | (header or {})
    parts = [
        encode(json.dumps({name: value for name, value in part.items() if value is not LEFT_OUT}).encode())
        for part in (fields, right_claims(user) | (claims or {}))
    ]
    signature = hmac.digest(secret.encode(), ".".join(parts).encode(), getattr(hashlib, digest)) if digest else b""
    return ".".join([*parts, encode(signature)])
