"""Many concurrent clients, each on one connection, and tokens for as many users as a test needs."""

import time
import uuid
from collections.abc import Sequence

import jwt

from conftest import bootstrap_kid
from testing.http.client import RawClient, request_bytes
from testing.http.messages import Message
from testing.parallel import in_parallel
from testing.plugin import JWT_SECRET_KEY


def access_token(role: str = "user", user_id: str = "") -> str:
    """Return the token of a new user, signed as the gateways sign. The user is in no database: workers admit the token
    while Redis has all revocations, because then they ask only Redis.
    """
    now, user_id = int(time.time()), user_id or str(uuid.uuid4())
    claims = {
        "type": "access", "exp": now + 600, "iat": now, "jti": uuid.uuid4().hex, "user_id": user_id, "sub": user_id,
        "role": role, "family": str(uuid.uuid4()), "iss": "lucid-api-gateway", "aud": "lucid-api", "epoch": 0,
    }  # fmt: skip
    return jwt.encode(claims, JWT_SECRET_KEY, headers={"kid": bootstrap_kid(JWT_SECRET_KEY)})


def bearer(token: str) -> str:
    """Return the header field."""
    return f"Authorization: Bearer {token}"


def get(path: str, *fields: str) -> bytes:
    """Return a request for a path below /api/v1."""
    return request_bytes("GET", f"/api/v1{path}", *fields)


def crowd(ports: Sequence[int], requests: Sequence[bytes], *, clients: int = 16, pause: float = 0.0) -> list[Message]:
    """Send the requests with clients that are spread over the ports; return the answers in order.

    Each client pauses for so many seconds between its requests.
    """

    def client(number: int) -> list[Message]:
        return converse(ports[number % len(ports)], requests[number::clients], pause=pause)

    answers: list[Message | None] = [None] * len(requests)
    for number, its in enumerate(in_parallel(clients, client)):
        answers[number::clients] = its
    return [answer for answer in answers if answer is not None]


def converse(port: int, requests: Sequence[bytes], *, pause: float = 0.0) -> list[Message]:
    """Send the requests one after another on one connection; return the answers."""
    with RawClient(port, timeout=30) as connection:
        answers = []
        for request in requests:
            connection.send(request)
            answers.append(connection.read_answer())
            time.sleep(pause)
        return answers
