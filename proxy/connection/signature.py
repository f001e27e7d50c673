"""The signature by which a cluster verifies that the identity headers come from the gateway.

`X-Gateway-Signature: t=<seconds>,v1=<hex>` is an HMAC-SHA256 (RFC 2104) with the key IDENTITY_SIGNING_SECRET. It covers
time, method, target, X-User-Id, X-User-Role, X-User-Permissions and X-Request-ID, joined by line feeds.
"""

import hmac
import time
from collections.abc import Mapping

from lucid_gateway.policy.headers import IDENTITY


def signature(secret: str, method: str, target: str, fields: Mapping[str, str], now: int | None = None) -> str:
    """Return the value of the field; `fields` has the signed headers by lower-case name, `now` is in epoch seconds."""
    at = str(int(time.time()) if now is None else now)
    message = "\n".join([at, method, target, *(fields[name] for name in IDENTITY)])
    return f"t={at},v1={hmac.digest(secret.encode(), message.encode(), 'sha256').hex()}"
