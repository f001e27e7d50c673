"""A real gateway whose Redis is slow, stalled, stopped, full, read-only, restarted or flushed."""

import contextlib
import json
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import jwt
import pytest
from redis import Redis

from demo.launch import running_clusters
from lucid_gateway.policy import keys
from ratelimit.tests.crowd import bearer, converse, crowd, get
from ratelimit.tests.relay import Relay, running_relay
from testing.gateway import Gateway, at_edge, running_gateway
from testing.http.client import RawClient, request_bytes
from testing.minutes import TRIES, early_in_the_minute, in_one_minute
from testing.parallel import in_parallel
from testing.servers import RedisServer, free_port, running_redis

pytestmark = [pytest.mark.quiet, pytest.mark.planes]

T = TypeVar("T")
LIMIT, BURST, WORKERS = 30, 15, 2
RECOVERED_WITHIN = 3.0  # seconds: one is promised, and a busy machine gets three
INFO, DEMO = "/chain/info", "demo@lucid.test"
MAKE_TOKENS = """
import json
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from sessions_api.models import Session
users = [User.objects.create_user(f"user-{n}@example.org", f"user-{n}") for n in range(%d)]
for user in users:
    Session.objects.create(pk=user.pk, user=user, name="the only one")
print(json.dumps([issue_tokens(user).access for user in users]))
"""


@dataclass(frozen=True)
class Timed:
    """An answer's status and error code, and how long it took in seconds."""

    status: int
    code: str
    seconds: float


def timed(port: int, requests: Sequence[bytes], *, pause: float) -> list[Timed]:
    """Send the requests one after another on one connection, with a pause before each."""
    found = []
    with RawClient(port, timeout=30) as connection:
        for request in requests:
            time.sleep(pause)
            started = time.monotonic()
            connection.send(request)
            answer = connection.read_answer()
            found.append(Timed(answer.status, answer.code if answer.status >= 400 else "", time.monotonic() - started))
    return found


class Disturbed(Exception):
    """Redis did not answer in time, which can happen on a busy machine; the workers then count on their own."""


def undisturbed(count: Callable[[], T]) -> T:
    """Return what `count` returns once it runs undisturbed; it must use a new user each time."""
    for _ in range(TRIES):
        with contextlib.suppress(Disturbed):
            return in_one_minute(count)
        time.sleep(RECOVERED_WITHIN)
    raise AssertionError("Redis was given up each time")


@dataclass
class Stage:
    """A gateway, its Redis behind a relay, a client of that Redis, and tokens that nobody has used yet."""

    gateway: Gateway
    relay: Relay
    redis: Redis
    tokens: list[str]
    revoked: str
    server: RedisServer
    running: contextlib.ExitStack

    def stop_redis(self) -> None:
        """Stop the server; its data is lost."""
        self.running.close()

    def start_redis(self) -> None:
        """Start an empty server on the same port."""
        self.server = self.running.enter_context(running_redis(self.server.port))

    def fresh_token(self) -> str:
        """Return the token of a user who has not sent a request yet and is in the database."""
        return self.tokens.pop()

    def timed(self, lines: Sequence[Sequence[bytes]], *, pause: float = 0.0) -> list[Timed]:
        """Send each sequence of requests on its own connection, all at the same time."""
        found = in_parallel(len(lines), lambda number: timed(self.gateway.port, lines[number], pause=pause))
        return [one for line in found for one in line]

    def admitted(self, token: str, requests: int = LIMIT + BURST + 20) -> int:
        """Return how many of the user's parallel requests are served; all others are refused by the limit."""
        found = Counter(
            answer.status for answer in crowd([self.gateway.port], [get(INFO, bearer(token))] * requests, clients=8)
        )
        assert set(found) <= {200, 429}, found
        return found[200]

    def counted(self, token: str) -> int:
        """Return how many of the user's parallel requests are served by workers that have Redis."""
        with self.having_redis():
            return self.admitted(token)

    @contextlib.contextmanager
    def having_redis(self) -> Iterator[None]:
        """Raise Disturbed if a worker has noticed an outage of Redis meanwhile."""
        outages = self.outages()
        yield
        if self.outages() != outages:
            raise Disturbed

    def outages(self) -> int:
        """Return how many outages of Redis the workers, and those of the edge, have noticed so far."""
        return self.gateway.logged().count("Redis is unavailable") + self.gateway.edge_errors().count(" Redis: ")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The gateway, with small limits, and with quota and concurrency, so that it writes every kind of key. In front of
    an edge it has no limit on concurrency, with which the edge would leave every request to it.
    """
    concurrency = {} if at_edge() else {"RATE_LIMIT_CONCURRENT_REQUESTS": "100"}
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(contextlib.ExitStack())
        clusters, server = stack.enter_context(running_clusters()), running.enter_context(running_redis())
        relay = stack.enter_context(running_relay(server.port))
        gateway = stack.enter_context(
            running_gateway(
                REDIS_URL=f"redis://127.0.0.1:{relay.port}/0",
                REDIS_TIMEOUT_SECONDS="0.3",
                BLOCKCHAIN_CORE_URL=clusters.blockchain_core,
                SESSION_MANAGEMENT_URL=clusters.session_management,
                TRON_PAYMENT_URL=clusters.tron_payment,
                RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE=str(LIMIT),
                RATE_LIMIT_AUTHENTICATED_BURST_SIZE=str(BURST),
                RATE_LIMIT_REQUESTS_PER_MINUTE="100000",
                RATE_LIMIT_DAILY_QUOTA="100000",
                **concurrency,
            )
        )
        tokens = json.loads(gateway.manage("shell", "-c", MAKE_TOKENS % 60).splitlines()[-1])
        revoked = tokens.pop()
        assert converse(gateway.port, [request_bytes("POST", "/api/v1/auth/logout", bearer(revoked))])[0].status == 200
        redis = stack.enter_context(Redis(port=server.port))
        yield Stage(gateway, relay, redis, tokens, revoked, server, running)


KINDS_OF_KEYS = ("}:rate:", "}:quota", "}:bandwidth:", "}:revoked:", "lockout:", "lockouts", "}:waiting", "}:starts")


def post(path: str, *fields: str, **data: str) -> bytes:
    """Return a request with a JSON body."""
    return request_bytes(
        "POST", f"/api/v1{path}", "Content-Type: application/json", *fields, body=json.dumps(data).encode()
    )


def all_kinds(token: str, logins: int = 1) -> list[bytes]:
    """Return requests that write all kinds of keys; three logins have enough wrong codes for a lockout."""
    wrong = [post("/auth/login", email=DEMO), *[post("/auth/verify", email=DEMO, code="000000")] * 5]
    # The session of a user has the user's id.
    target = f"/api/v1/sessions/{jwt.decode(token, options={'verify_signature': False})['user_id']}/chunks"
    kind, place = "Content-Type: application/octet-stream", "X-Chunk-Index: 0"
    upload = request_bytes("POST", target, bearer(token), kind, place, body=bytes(1000))
    # The upload comes last: its key is the first to expire.
    return [get(INFO, bearer(token)), get("/meta/version"), *wrong * logins, upload]


@contextlib.contextmanager
def slow(stage: Stage) -> Iterator[None]:
    stage.relay.delay = 1.0
    try:
        yield
    finally:
        stage.relay.delay = 0.0


@contextlib.contextmanager
def stalled(stage: Stage) -> Iterator[None]:
    os.kill(stage.server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stage.server.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def down(stage: Stage) -> Iterator[None]:
    stage.stop_redis()
    try:
        yield
    finally:
        stage.start_redis()


@contextlib.contextmanager
def full(stage: Stage) -> Iterator[None]:
    stage.redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        stage.redis.config_set("maxmemory", 0)


@contextlib.contextmanager
def read_only(stage: Stage) -> Iterator[None]:
    stage.redis.replicaof("127.0.0.1", free_port())
    try:
        yield
    finally:
        stage.redis.replicaof("NO", "ONE")


@pytest.mark.parametrize("fault", ["restarted", "flushed"])
def test_after_redis_lost_everything_counts_start_at_zero_and_revoked_tokens_stay_revoked(
    stage: Stage, fault: str
) -> None:
    def forget() -> None:
        if fault == "restarted":
            stage.stop_redis()
            stage.start_redis()
            time.sleep(RECOVERED_WITHIN)  # a worker may have noticed the outage
        else:
            stage.redis.flushall()

    def count_before_and_after() -> tuple[int, int]:
        token = stage.fresh_token()
        before = stage.counted(token)
        forget()
        return before, stage.counted(token)

    assert undisturbed(count_before_and_after) == (LIMIT + BURST, LIMIT + BURST)
    assert {one.code for one in stage.timed([[get(INFO, bearer(stage.revoked))] * 2] * 4)} == {"2003"}


def test_a_redis_that_takes_50_ms_costs_only_that_and_counts_exactly(stage: Stage) -> None:
    stage.relay.delay = 0.05
    try:
        answers = stage.timed([[get(INFO, bearer(stage.fresh_token()))] * 5])
        counted = undisturbed(lambda: stage.counted(stage.fresh_token()))
    finally:
        stage.relay.delay = 0.0

    assert counted == LIMIT + BURST
    assert 0.05 <= statistics.median(one.seconds for one in answers) < 0.2


@pytest.mark.parametrize("fault", [down, slow, stalled, full, read_only])
def test_requests_are_answered_in_time_during_a_fault_of_redis_and_counted_exactly_a_second_after_it(
    stage: Stage, fault: Callable[[Stage], AbstractContextManager[None]]
) -> None:
    early_in_the_minute(15)
    tokens = [stage.fresh_token() for _ in range(4)]
    for token in tokens:
        stage.gateway.warm(token, INFO)
    live, revoked = [get(INFO, bearer(token)) for token in tokens], get(INFO, bearer(stage.revoked))
    with fault(stage):
        answers = stage.timed([[request, request, revoked] * 8 for request in live], pause=0.05)
        assert Counter((one.status, one.code) for one in answers) == {(200, ""): 64, (401, "2003"): 32}
        assert max(one.seconds for one in answers) < 1.5  # Redis has 0.3 s to connect and 0.3 s to answer
        assert statistics.mean(one.seconds for one in answers) < 0.1
        assert LIMIT + BURST <= stage.admitted(stage.fresh_token(), requests=110) <= WORKERS * (LIMIT + BURST)

        served_or_503 = stage.timed([all_kinds(stage.fresh_token())])
        assert {one.status for one in served_or_503} <= {200, 201, 401, 429, 503}

    time.sleep(RECOVERED_WITHIN)
    assert undisturbed(lambda: stage.counted(stage.fresh_token())) == LIMIT + BURST
    assert {one.code for one in stage.timed([[revoked] * 2] * 4)} == {"2003"}


@pytest.mark.django_plane  # as above
def test_every_key_has_an_expiry_except_the_marker_of_complete_revocations_and_revisions(stage: Stage) -> None:
    def ask_for_all_kinds() -> list[int]:
        stage.redis.flushall()  # so that no wrong code has been counted
        with stage.having_redis():
            return [one.status for one in stage.timed([all_kinds(stage.fresh_token(), logins=3)])]

    statuses = undisturbed(ask_for_all_kinds)
    assert (statuses.count(401), statuses.count(429), statuses[-1]) == (10, 5, 201)  # locked out

    expiries = {key.decode(): stage.redis.ttl(key) for key in stage.redis.scan_iter()}

    assert [kind for kind in KINDS_OF_KEYS if not any(kind in key for key in expiries)] == []
    assert expiries.pop(keys.REVOCATIONS_COMPLETE) == -1
    # The revisions of keys and limits hold as long as the marker.
    assert [key for key, seconds in expiries.items() if seconds == -1 and not key.startswith("revisions:")] == []
    assert max(expiries.values()) <= 86_401
