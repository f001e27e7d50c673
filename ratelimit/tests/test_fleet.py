"""Two gateways with two workers each, on one Redis and one database: limits apply to all of them together."""

import contextlib
import itertools
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from demo.launch import running_clusters
from ratelimit.tests.crowd import access_token, bearer, converse, crowd, get
from ratelimit.tests.relay import Relay, running_relay
from testing.gateway import Gateway, another, running_gateway
from testing.hammer import connections, front_workers
from testing.http.client import RawClient, request_bytes
from testing.http.messages import Message
from testing.minutes import early_in_the_minute, in_one_minute
from testing.parallel import in_parallel
from testing.servers import running_redis
from testing.waiting import wait_until

pytestmark = pytest.mark.planes
LIMITS = {
    "public": (40, 20), "authenticated": (50, 25), "admin": (60, 30), "blockchain_query": (45, 15),
    "login_attempt": (24, 8),
}  # fmt: skip
PUBLIC = sum(LIMITS["public"])
UPLOAD_RATE, UPLOAD_BURST = 250_000, 1_000_000  # bytes per second, bytes
PIECE = 128 * 1024  # bytes that the gateway reads in one piece
HEAD = 1500  # bytes, more than the head of a request
FOLLOWED_WITHIN = 2.5  # seconds; workers read changed rules within two
LEEWAY = 6.0  # seconds, for a busy machine
OFFENDER = "203.0.113.99"
VERSION = "/meta/version"


newcomers = itertools.count(1)


@dataclass(frozen=True)
class Turn:
    """The statuses that a user and an address got before and during the change of the minute."""

    user: tuple[Counter[int], Counter[int]]
    address: tuple[Counter[int], Counter[int]]
    halved: dict[str, Any]


@dataclass
class Fleet:
    """Two gateways, and the relay that their uploads go through."""

    gateways: list[Gateway]
    uploads: Relay

    @property
    def ports(self) -> list[int]:
        return [gateway.port for gateway in self.gateways]

    def admin(self, method: str, path: str, **data: Any) -> Any:
        """Call the admin API of the first gateway as a super admin; return its JSON."""
        headers = {"Authorization": f"Bearer {access_token('super_admin')}"}
        with requests.request(method, self.gateways[0].url + path, headers=headers, json=data, timeout=20) as response:
            assert response.ok, response.text
            return response.json() if response.content else None

    def rule_for(self, network: str) -> dict[str, Any]:
        """Return the rule for a network as operators see it."""
        (rule,) = self.admin("GET", f"/admin/blocked-addresses?network={network}")["blocked_addresses"]
        return dict(rule)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two gateways that trust the proxy at 127.0.0.1, with small limits and the demo clusters behind them."""
    numbers = {"CHUNK_UPLOAD_BYTES_PER_SECOND": UPLOAD_RATE, "CHUNK_UPLOAD_BURST_BYTES": UPLOAD_BURST}
    for tier, (limit, burst) in LIMITS.items():
        prefix = "" if tier == "public" else f"{tier.upper()}_"
        numbers |= {f"{prefix}REQUESTS_PER_MINUTE": limit, f"{prefix}BURST_SIZE": burst}
    with contextlib.ExitStack() as stack:
        clusters = stack.enter_context(running_clusters())
        uploads = stack.enter_context(running_relay(int(clusters.session_management.rpartition(":")[2])))
        environment = {
            "REDIS_URL": stack.enter_context(running_redis()).url,
            "MONGODB_DATABASE": f"fleet_{uuid.uuid4().hex}",
            "TRUSTED_PROXIES": "127.0.0.1",
            "BLOCKCHAIN_CORE_URL": clusters.blockchain_core,
            "SESSION_MANAGEMENT_URL": f"http://127.0.0.1:{uploads.port}",
            "TRON_PAYMENT_URL": clusters.tron_payment,
            **{f"RATE_LIMIT_{name}": str(number) for name, number in numbers.items()},
        }
        first = stack.enter_context(running_gateway(**environment))
        gateways = [first, stack.enter_context(another(first))]
        for gateway in gateways:
            wait_for_revocations(gateway)
        yield Fleet(gateways, uploads)


def wait_for_revocations(gateway: Gateway) -> None:
    """Return when each worker relies on the revocations in Redis. Until then it asks the database, which has none of
    the users of these tests.
    """
    request = get("/chain/info", bearer(access_token()), client("203.0.113.1"))

    def lets_it_in(connection: RawClient) -> bool:
        connection.send(request)
        return connection.read_answer().status == 200

    with connections(gateway, 2) as opened:
        for _, connection in opened:
            wait_until(lambda connection=connection: lets_it_in(connection), every=0.5)  # type: ignore[misc]


def client(address: str) -> str:
    """Return the header field in which the proxy names the client."""
    return f"X-Forwarded-For: {address}"


def statuses(answers: list[Message]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


@pytest.fixture(scope="module", autouse=True)
def turn(fleet: Fleet) -> Iterator[Callable[[], Turn]]:
    """Beside the other tests, a user and an address send requests until all are refused, and again when the minute
    ends.
    """
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(ask_across_the_turn, fleet).result


def ask_across_the_turn(fleet: Fleet) -> Turn:
    """Exhaust both limits, then send requests from half a second before the end of the minute until it has ended."""
    early_in_the_minute(20)
    user, address = get("/chain/info", bearer(access_token())), get(VERSION, client(OFFENDER))
    before = [statuses(crowd(fleet.ports, [request] * (2 * PUBLIC + 10))) for request in (user, address)]
    halved = fleet.rule_for(OFFENDER)
    time.sleep(60 - time.time() % 60 - 0.5)
    answers = crowd(fleet.ports, [user, address] * 400, clients=8, pause=0.02)
    assert 1 < time.time() % 60 < 59
    return Turn((before[0], statuses(answers[0::2])), (before[1], statuses(answers[1::2])), halved)


def newcomer() -> str:
    """Return an address that has not sent a request yet."""
    return f"198.51.101.{next(newcomers)}"


def requests_of(tier: str, count: int) -> list[bytes]:
    """Return requests of one user or address that the tier counts."""
    if tier == "public":
        return [get(VERSION, client(newcomer()))] * count
    if tier == "login_attempt":
        bodies = [json.dumps({"email": f"{uuid.uuid4()}@example.org"}).encode() for _ in range(count)]
        fields = ("Content-Type: application/json", client(newcomer()))
        return [request_bytes("POST", "/api/v1/auth/login", *fields, body=body) for body in bodies]
    paths = {"authenticated": "/chain/info", "blockchain_query": "/chain/blocks", "admin": "/admin/blocked-addresses"}
    return [get(paths[tier], bearer(access_token("admin" if tier == "admin" else "user")))] * count


@pytest.mark.parametrize("tier", LIMITS)
def test_a_first_minute_admits_exactly_the_limit_and_the_burst(fleet: Fleet, tier: str) -> None:
    allowed, begun = sum(LIMITS[tier]), 0.0

    def ask() -> list[Message]:
        nonlocal begun
        begun = time.time()
        return crowd(fleet.ports, requests_of(tier, allowed + 32))

    answers, ended = in_one_minute(ask), time.time()

    assert statuses(answers) == {200: allowed, 429: 32}
    refused = [answer for answer in answers if answer.status == 429]
    assert {(answer.code, answer.header("X-RateLimit-Limit")) for answer in refused} == {("3001", str(LIMITS[tier][0]))}
    assert all(59 - ended % 60 <= int(answer.header("Retry-After") or 0) <= 61 - begun % 60 for answer in refused)


def test_an_ipv6_client_is_counted_as_its_64_network_on_both_gateways(fleet: Fleet) -> None:
    def ask() -> list[Message]:
        network = f"2001:db8:0:{next(newcomers):x}"
        return crowd(fleet.ports, [get(VERSION, client(f"{network}::{number:x}")) for number in range(PUBLIC + 20)])

    answers = in_one_minute(ask)

    assert statuses(answers) == {200: PUBLIC, 429: 20}


def test_forged_entries_left_of_the_real_address_give_no_new_bucket(fleet: Fleet) -> None:
    def ask() -> list[Message]:
        address = newcomer()
        chains = [f"192.0.2.{number}, 127.0.0.1, {address}" for number in range(PUBLIC + 10)]
        chains += [f"192.0.2.{number}, {address}, 127.0.0.1" for number in range(10)]
        return crowd(fleet.ports, [get(VERSION, client(chain)) for chain in chains])

    answers = in_one_minute(ask)

    assert statuses(answers) == {200: PUBLIC, 429: 20}
    assert converse(fleet.ports[0], [get(VERSION, client("192.0.2.1"))])[0].status == 200


def test_a_client_that_is_not_a_trusted_proxy_cannot_name_another_address(fleet: Fleet) -> None:
    def ask() -> Counter[int]:
        found: Counter[int] = Counter()
        address = f"127.0.1.{next(newcomers)}"
        for number in range(PUBLIC + 10):
            with RawClient(fleet.ports[number % 2], source=address) as connection:
                connection.send(get(VERSION, client(f"192.0.2.{number}"), "Connection: close"))
                found[connection.read_answer().status] += 1
        return found

    found = in_one_minute(ask)

    assert found == {200: PUBLIC, 429: 10}


# Users with one session each, whose id is the user's.
MAKE_UPLOADERS = """
import json
from accounts.models import User
from sessions_api.models import Session
users = [User.objects.create_user(f"uploader-{n}@example.org", f"uploader-{n}") for n in range(4)]
print(json.dumps([str(Session.objects.create(pk=user.pk, user=user, name="the only one").pk) for user in users]))
"""


@pytest.fixture(scope="module")
def uploaders(fleet: Fleet) -> list[str]:
    """The ids of users who have a session with the same id; each test takes one."""
    made: list[str] = json.loads(fleet.gateways[0].manage("shell", "-c", MAKE_UPLOADERS).splitlines()[-1])
    return made


@dataclass(frozen=True)
class Upload:
    """The answer to an upload, and the seconds that it took."""

    answer: Message
    seconds: float


def upload(port: int, session: str, token: str, size: int, *, index: int = 0, chunked: bool = False) -> Upload:
    """Upload a chunk of `size` bytes as fast as the gateway reads it."""
    fields = [bearer(token), f"X-Chunk-Index: {index}", "Content-Type: application/octet-stream"]
    target = f"/api/v1/sessions/{session}/chunks"
    if chunked:
        pieces = [bytes(min(PIECE, size - at)) for at in range(0, size, PIECE)]
        request = request_bytes("POST", target, *fields, "Transfer-Encoding: chunked")
        request += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        request = request_bytes("POST", target, *fields, body=bytes(size))
    started = time.monotonic()
    (answer,) = converse(port, [request])
    return Upload(answer, time.monotonic() - started)


def sizes_at_cluster(fleet: Fleet, session: str) -> list[int]:
    """Return the sizes of the uploads that the cluster has received in full."""
    url = f"http://127.0.0.1:{fleet.uploads.port}/api/v1/sessions/{session}/chunks?limit=100"
    with requests.get(url, timeout=10) as response:
        return [chunk["size"] for chunk in response.json()["chunks"]]


def test_parallel_uploads_share_their_users_bandwidth_and_slow_nobody_else(fleet: Fleet, uploaders: list[str]) -> None:
    session, elsewhere, streams = uploaders.pop(), uploaders.pop(), 8
    token, other = access_token(user_id=session), access_token(user_id=elsewhere)
    fleet.uploads.passed.clear()
    started = time.monotonic()

    def stream(number: int) -> Upload:
        if number < streams:
            return upload(fleet.ports[number % 2], session, token, 3 * PIECE, index=number)
        time.sleep(0.3)
        return upload(fleet.ports[0], elsewhere, other, PIECE)

    *uploads, others = in_parallel(streams + 1, stream)
    passed = list(itertools.accumulate(fleet.uploads.passed, lambda so_far, piece: (piece[0], so_far[1] + piece[1])))

    allowed_beside = PIECE + (streams + 1) * HEAD
    for at, count in passed:
        assert count <= UPLOAD_BURST + UPLOAD_RATE * (at - started) + allowed_beside
    whole = [one for one in uploads if one.answer.status == 201]
    refused = [one for one in uploads if one.answer.status == 429]
    assert (len(whole) + len(refused), bool(whole), bool(refused)) == (streams, True, True)
    assert max(one.seconds for one in whole) > 0.5
    assert {one.answer.code for one in refused} == {"3004"}
    assert sizes_at_cluster(fleet, session) == [3 * PIECE] * len(whole)
    assert (others.answer.status, others.seconds < LEEWAY) == (201, True)


def test_a_refused_upload_passes_after_its_retry_after(fleet: Fleet, uploaders: list[str]) -> None:
    session = uploaders.pop()
    token = access_token(user_id=session)

    def stream(number: int) -> tuple[int, str | None, float]:
        done = upload(fleet.ports[number % 2], session, token, PIECE, index=number)
        return done.answer.status, done.answer.header("Retry-After"), time.monotonic()

    retry_after, refused_at = next((int(after), at) for _, after, at in in_parallel(16, stream) if after)
    assert retry_after <= 1 + PIECE // UPLOAD_RATE
    time.sleep(max(0, refused_at + retry_after - time.monotonic()))

    assert upload(fleet.ports[0], session, token, PIECE, index=99).answer.status == 201


def test_an_upload_without_a_length_is_slowed_too(fleet: Fleet, uploaders: list[str]) -> None:
    session, seconds = uploaders.pop(), 1.5
    size = UPLOAD_BURST + int(seconds * UPLOAD_RATE)

    done = upload(fleet.ports[0], session, access_token(user_id=session), size, chunked=True)

    assert done.answer.status == 201
    assert seconds - 0.1 <= done.seconds < seconds + LEEWAY
    assert sizes_at_cluster(fleet, session) == [size]


def is_blocked(answer: Message) -> bool:
    return answer.status in (403, 429) and answer.error()["message"] == "This address is blocked"


AGREEING_ROUNDS = 5


def seconds_until(fleet: Fleet, address: str, *, blocked: bool) -> float:
    """Return the seconds until all workers block the address, or until none does. Each round has new connections, as
    one worker may accept all those of a round.
    """
    started, agreed_at, rounds = time.monotonic(), 0.0, 0
    while rounds < AGREEING_ROUNDS:
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(RawClient(port)) for port in fleet.ports * 8]
            for connection in connections:
                connection.send(get("/nothing-here", client(address)))
            agree = {is_blocked(connection.read_answer()) for connection in connections} == {blocked}
        agreed_at = (agreed_at if rounds else time.monotonic() - started) if agree else 0.0
        rounds = rounds + 1 if agree else 0
        assert time.monotonic() - started < 30
        time.sleep(0.1)
    return agreed_at


def test_networks_are_denied_and_allowed_at_run_time(fleet: Fleet) -> None:
    fleet.admin("POST", "/admin/blocked-addresses", network="198.18.7.0/24", kind="allow", reason="monitoring")
    fleet.admin("POST", "/admin/blocked-addresses", network="198.18.0.0/16", reason="scanner")

    assert seconds_until(fleet, "198.18.1.1", blocked=True) < FOLLOWED_WITHIN + LEEWAY
    answers = crowd(fleet.ports, [get(VERSION, client("198.18.7.7"))] * (PUBLIC + 30))
    assert statuses(answers) == {200: PUBLIC + 30}
    assert converse(fleet.ports[1], [get(VERSION, client("198.18.1.1"))])[0].code == "2004"

    fleet.admin("DELETE", "/admin/blocked-addresses?network=198.18.0.0/16")
    assert seconds_until(fleet, "198.18.1.1", blocked=False) < FOLLOWED_WITHIN + LEEWAY


@pytest.fixture(scope="module")
def denied(fleet: Fleet) -> str:
    """An address that all workers deny."""
    fleet.admin("POST", "/admin/blocked-addresses", network="198.19.0.0/16", reason="test")
    seconds_until(fleet, "198.19.0.1", blocked=True)
    return "198.19.0.1"


def test_a_refusal_keeps_the_connection_open(fleet: Fleet, denied: str) -> None:
    head = request_bytes("HEAD", "/api/v1/meta/version", client(denied))
    with RawClient(fleet.ports[0]) as connection:
        connection.send(head)
        first = connection.read_answer("HEAD")
        connection.send(get(VERSION, client(denied)))
        second = connection.read_answer()
        connection.send(get(VERSION, client("198.51.100.4")))
        third = connection.read_answer()

    assert [(answer.status, answer.header("Connection")) for answer in (first, second)] == [(403, "keep-alive")] * 2
    assert second.error()["request_id"] != first.header("X-Request-ID")
    assert first.header("Content-Length") == str(len(second.body))
    assert third.status == 200


@pytest.mark.django_plane  # nginx reads and drops what is left of a request
def test_a_refused_body_is_not_read_and_the_connection_is_closed(fleet: Fleet, denied: str) -> None:
    with RawClient(fleet.ports[0]) as connection:
        connection.send(request_bytes("POST", "/api/v1/auth/login", client(denied), body=b"{}") + get(VERSION))

        assert connection.read_answer().header("Connection") == "close"
        assert connection.is_closed()


def cpu_seconds(gateway: Gateway) -> float:
    """Return the processor time so far of the workers that serve clients (proc(5): utime and stime)."""
    files = [Path(f"/proc/{worker}/stat") for worker in front_workers(gateway)]
    fields = [file.read_text().rpartition(")")[2].split() for file in files]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def cost(gateway: Gateway, requests: list[bytes], status: int) -> float:
    """Return the processor time of a request in seconds."""
    before = cpu_seconds(gateway)
    assert statuses(crowd([gateway.port], requests, clients=4)) == {status: len(requests)}
    return (cpu_seconds(gateway) - before) / len(requests)


@pytest.mark.django_plane  # `make bench` measures it at the edge
def test_a_refused_request_costs_a_fraction_of_a_served_one(fleet: Fleet, denied: str) -> None:
    early_in_the_minute(10)
    served = [get("/chain/info", bearer(access_token())) for _ in range(20) for _ in range(30)]
    refused = [get("/chain/info", bearer(access_token()), client(denied))] * 2000

    # Measured as a tenth (python -m benchmarks --only blocked); a busy machine makes it less exact.
    assert cost(fleet.gateways[0], refused, 403) < 0.4 * cost(fleet.gateways[0], served, 200)


def test_a_new_window_gives_no_second_burst(turn: Callable[[], Turn]) -> None:
    limit, burst = LIMITS["authenticated"]
    before, at_turn = turn().user

    assert before[200] == limit + burst
    assert at_turn == {200: limit, 429: sum(at_turn.values()) - limit}


def test_an_address_that_keeps_exceeding_is_halved_then_blocked(fleet: Fleet, turn: Callable[[], Turn]) -> None:
    limit, burst = LIMITS["public"]
    before, at_turn = turn().address
    blocked = fleet.rule_for(OFFENDER)

    assert before[200] == limit + burst
    assert turn().halved["kind"] == "halved"
    assert facts(turn().halved) == {"tier": "public", "refused": limit + burst, "limit": limit, "burst": burst}
    assert at_turn[200] == limit // 2
    assert blocked["kind"] == "blocked"
    assert facts(blocked) == {"tier": "public", "refused": 30, "limit": limit // 2, "burst": burst // 2}

    assert seconds_until(fleet, OFFENDER, blocked=True) < FOLLOWED_WITHIN + LEEWAY
    answer = converse(fleet.ports[1], [get(VERSION, client(OFFENDER))])[0]
    assert (answer.status, answer.code, answer.error()["details"]["reason"]) == (429, "3001", "blocked")
    assert abs(int(answer.header("Retry-After") or 0) - 86_400) < 120

    fleet.admin("DELETE", f"/admin/blocked-addresses?network={OFFENDER}")
    assert seconds_until(fleet, OFFENDER, blocked=False) < FOLLOWED_WITHIN + LEEWAY


def facts(rule: dict[str, Any]) -> dict[str, Any]:
    """Return the evidence of a rule without its time and window."""
    return {name: value for name, value in rule["evidence"].items() if name not in ("at", "window_seconds")}
