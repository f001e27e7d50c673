"""A client of a run: it asks a gateway on a raw connection, and notes in the history what it knows afterwards."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from testing.hammer import api, outcome
from testing.history.operations import Kind, Outcome, Pending
from testing.history.world import World
from testing.http.client import RawClient
from testing.http.messages import Cut, Ended, Message

PATIENCE = 5.0  # seconds in which an answer must have come
Note = Callable[[Pending, Message], None]


@dataclass
class Client:
    """Makes each random choice with `rng`; `address` is from where the gateways see it come."""

    name: str
    world: World
    rng: Random
    address: str = ""

    def __post_init__(self) -> None:
        self.address = self.address or ".".join(["10", *(str(self.rng.randrange(1, 255)) for _ in range(3))])

    def ask(
        self,
        kind: Kind,
        subject: str,
        request: bytes,
        *,
        note: Note | None = None,
        **facts: Any,
    ) -> Message | None:
        """Send the request to a random gateway as one operation; return the answer, if one came.

        `note` adds what the answer says to the operation.
        """
        gateway = self.gateway()
        with self.world.history.operation(self.name, kind, subject, gateway, **facts) as pending:
            answer = exchange(self.world.gateways[gateway].port, request)
            if answer is not None:
                judge(pending, answer)
                if note is not None:
                    note(pending, answer)
            return answer

    def gateway(self) -> str:
        """Return the name of a random gateway."""
        return self.rng.choice(list(self.world.gateways))

    def request(self, method: str, path: str, data: object = None, *fields: str, token: str = "") -> bytes:
        """Return a request below /api/v1 from the client's address."""
        return api(method, path, data, f"X-Forwarded-For: {self.address}", *fields, token=token)

    def from_elsewhere(self, suffix: str) -> "Client":
        """Return a second client with another address."""
        return Client(f"{self.name}-{suffix}", self.world, Random(self.rng.random()))

    def pause(self, most: float) -> bool:
        """Wait for a random time of at most that many seconds; return whether the run goes on."""
        return not self.world.stop.wait(self.rng.uniform(0, most))


def exchange(port: int, request: bytes) -> Message | None:
    """Return the answer to the request, None if none comes."""
    try:
        with RawClient(port, timeout=PATIENCE) as connection:
            connection.send(request)
            return connection.read_answer()
    except (OSError, Ended, Cut):
        return None


def judge(pending: Pending, answer: Message) -> None:
    """Note what the status says of the operation: after a 5xx it may have been applied all the same."""
    pending.answered = True
    if answer.status < 300:
        pending.outcome = Outcome.OK
        return
    pending.outcome = Outcome.UNKNOWN if answer.status >= 500 else Outcome.REFUSED
    pending.facts["code"] = outcome(answer)


def succeeded(answer: Message | None) -> bool:
    """Return whether an answer came that says so."""
    return answer is not None and answer.status < 300


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a token."""
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims
