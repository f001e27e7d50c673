"""Check the gateway in this container: exit with status 0 while it can serve, otherwise with 1.

The image's HEALTHCHECK. It uses the standard library only, because it must work when the installed packages do not.
"""

import http.client
import json
import os
import socket
import sys

PATH = "/api/v1/meta/health"
TIMEOUT_SECONDS = 5
ABLE_TO_SERVE = ("healthy", "degraded")


def host_header() -> str:
    """Return a Host that the gateway accepts: ALLOWED_HOSTS rarely includes 127.0.0.1."""
    return os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip("*.") or "127.0.0.1"


def ask() -> tuple[int, str]:
    """Return the status code and the body of the gateway's answer."""
    port = int(os.environ.get("HTTP_PORT") or 8080)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    path = os.environ.get("GATEWAY_SOCKET")
    try:
        if path:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(TIMEOUT_SECONDS)
            connection.sock.connect(path)
        connection.request("GET", PATH, headers={"Host": host_header(), "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def is_able_to_serve(status: int, body: str) -> bool:
    """Return whether the answer is a 200 that says healthy or degraded."""
    try:
        return status == 200 and json.loads(body)["status"] in ABLE_TO_SERVE
    except (ValueError, KeyError, TypeError):
        return False


def main() -> int:
    """Print the gateway's answer; return the exit status."""
    try:
        status, body = ask()
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"no answer: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(body)
    return 0 if is_able_to_serve(status, body) else 1


if __name__ == "__main__":
    sys.exit(main())
