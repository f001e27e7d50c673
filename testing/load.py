"""A light load on one gateway: forwarded requests, reads of the database, new sessions and logouts."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import jwt

from testing.gateway import Gateway
from testing.http.client import RawClient
from testing.http.messages import Message
from testing.waiting import wait_until

FORWARDED, READ, SESSION, LOGOUT = "forwarded", "read", "session", "logout"
KINDS = (FORWARDED, READ, SESSION, LOGOUT)
PAUSE_SECONDS = 0.1
CLIENTS = 6  # threads
EACH = 100  # requests as one user, who may have as many active sessions

USERS, TOKENS = 20, 16
MAKE_USERS = f"""
import json
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
users = [User.objects.create(email=f"load-{{n}}@lucid.test", username=f"load-{{n}}") for n in range({USERS})]
print(json.dumps([[issue_tokens(user).access for _ in range({TOKENS})] for user in users]))
"""


@dataclass(frozen=True)
class Asked:
    """A request and its answer: when (seconds of the monotonic clock), and the id of what it wrote if it succeeded."""

    kind: str
    started: float
    ended: float
    status: int
    code: str
    has_retry_after: bool
    written: str

    @property
    def succeeded(self) -> bool:
        return self.status < 400

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass
class Load:
    """The requests so far. All tokens but the first of each user are logged out in the course of the load."""

    gateway: Gateway
    tokens: Sequence[Sequence[str]]
    asked: list[Asked] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def of(self, *kinds: str, after: float = 0.0) -> list[Asked]:
        """Return the requests of these kinds that ended after the moment, in the order of their answers."""
        return [one for one in list(self.asked) if one.kind in kinds and one.ended > after]

    def written(self, kind: str) -> set[str]:
        """Return the ids of what was acknowledged."""
        return {one.written for one in self.of(kind) if one.succeeded}

    def wait_until_served(self) -> None:
        """Return when a request of each kind that begins after this call has succeeded."""
        now = time.monotonic()
        wait_until(lambda: {one.kind for one in self.of(*KINDS) if one.succeeded and one.started > now} == {*KINDS})

    def ask(self, client: RawClient, kind: str) -> int:
        """Send a request of that kind; return the status of the answer."""
        started = time.monotonic()
        answer = send(client, kind)
        ended, succeeded = time.monotonic(), answer.status < 400
        code = "" if succeeded else answer.code
        written = written_by(kind, client.token, answer) if succeeded else ""
        retries = answer.header("Retry-After") is not None
        self.asked.append(Asked(kind, started, ended, answer.status, code, retries, written))
        return answer.status

    def repeat(self, kind: str, first: int) -> None:
        """Send requests as the first user, and later as the next but one, who has no sessions yet."""
        with RawClient(self.gateway.port) as client:
            for tokens in self.tokens[first::2]:
                client.token = tokens[0]
                for _ in range(EACH):
                    if self.stopped.wait(PAUSE_SECONDS):
                        return
                    self.ask(client, kind)

    def log_out(self) -> None:
        """Log out one token after the other, each until it is refused."""
        with RawClient(self.gateway.port) as client:
            for client.token in (token for tokens in self.tokens for token in tokens[1:]):
                while not self.stopped.wait(PAUSE_SECONDS) and self.ask(client, LOGOUT) not in (200, 401):
                    pass


def send(client: RawClient, kind: str) -> Message:
    if kind == SESSION:
        return client.ask("POST", "/sessions", "Content-Type: application/json", body=b'{"name": "s"}')
    if kind == LOGOUT:
        return client.ask("POST", "/auth/logout")
    return client.ask("GET", "/chain/info" if kind == FORWARDED else "/users/me")


def written_by(kind: str, token: str, answer: Message) -> str:
    """Return the id of the session that was created, or of the token that was revoked."""
    if kind == SESSION:
        return str(json.loads(answer.body)["session_id"])
    return str(jwt.decode(token, options={"verify_signature": False})["jti"]) if kind == LOGOUT else ""


@contextlib.contextmanager
def under_load(gateway: Gateway) -> Iterator[Load]:
    """Load the gateway, which reaches a cluster at /chain, until the block ends."""
    load = Load(gateway, json.loads(gateway.manage("shell", "-c", MAKE_USERS).splitlines()[-1]))
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [(FORWARDED, 0), (FORWARDED, 1), (READ, 0), (SESSION, 0), (SESSION, 1)]
        running = [threads.submit(load.repeat, *client) for client in clients] + [threads.submit(load.log_out)]
        try:
            load.wait_until_served()
            yield load
        finally:
            load.stopped.set()
        for one in running:
            one.result()
