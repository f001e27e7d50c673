"""The name of this gateway among all gateways of an installation."""

import socket
from functools import cache

from lucid_gateway.kernel.env import environment


@cache
def gateway_name() -> str:
    """Return `host:port`; all workers of a gateway have the same name."""
    return f"{socket.gethostname()}:{environment().HTTP_PORT}"
