"""The signature over what the gateway says of a caller, by which a cluster knows that the gateway said it.

`X-Gateway-Signature: t=<seconds>,v1=<hex>` holds the HMAC-SHA256 (RFC 2104), with IDENTITY_SIGNING_SECRET, over time,
method, target, X-User-Id, X-User-Role, X-User-Permissions and X-Request-ID, joined by line feeds.
"""

import hmac
import time
from collections.abc import Mapping

from lucid_gateway.policy.headers import IDENTITY


def signature(secret: str, method: str, target: str, fields: Mapping[str, str], now: int | None = None) -> str:
    """Return the field's value for a request; `fields` hold what the gateway says of the caller, by lower-case name."""
    at = str(int(time.time()) if now is None else now)
    message = "\n".join([at, method, target, *(fields[name] for name in IDENTITY)])
    return f"t={at},v1={hmac.digest(secret.encode(), message.encode(), 'sha256').hex()}"
