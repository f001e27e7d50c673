"""Check the gateway in this container: exit with status 0 while it can serve, otherwise with 1.

The image's HEALTHCHECK. With the argument `live`, as in deploy/kubernetes, it only checks that the gateway runs, also
while the database and Redis are down. It uses the standard library only, because it must work when the installed
packages do not.
"""

import http.client
import json
import os
import socket
import sys

PATH = "/api/v1/meta/health"
TIMEOUT_SECONDS = 5
LIVE = "live"
PASSING = ("healthy", "degraded", "alive")


def host_header() -> str:
    """Return a Host that the gateway accepts: ALLOWED_HOSTS rarely includes 127.0.0.1."""
    return os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip("*.") or "127.0.0.1"


def ask(path: str) -> tuple[int, str]:
    """Return the status code and the body of the gateway's answer."""
    port = int(os.environ.get("HTTP_PORT") or 8080)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    gateway_socket = os.environ.get("GATEWAY_SOCKET")
    try:
        if gateway_socket:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(TIMEOUT_SECONDS)
            connection.sock.connect(gateway_socket)
        connection.request("GET", path, headers={"Host": host_header(), "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def passes(status: int, body: str) -> bool:
    """Return whether the answer is a 200 with such a status."""
    try:
        return status == 200 and json.loads(body)["status"] in PASSING
    except (ValueError, KeyError, TypeError):
        return False


def main(probe: str = "") -> int:
    """Print the gateway's answer; return the exit status."""
    if probe not in ("", LIVE):
        print(f"unknown argument: {probe}; expected {LIVE} or none", file=sys.stderr)
        return 1
    try:
        status, body = ask(f"{PATH}/{LIVE}" if probe else PATH)
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"no answer: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(body)
    return 0 if passes(status, body) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
