"""Idempotency-Key on a real gateway: a cluster executes a request with a key once, whatever fails."""

import contextlib
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from django.conf import settings
from redis import Redis

from lucid_gateway.policy.routes import ROUTES
from proxy.forwarding.forwarder import READ_SIZE
from proxy.tests.conftest import Stage
from testing.gateway import Gateway, another
from testing.hammer import volley, workers
from testing.http.client import Ask, Connect, RawClient, request_bytes
from testing.http.cluster import (
    OK,
    Behaviour,
    RawCluster,
    Visit,
    saying,
    saying_and_closing,
    saying_and_resetting,
)
from testing.http.messages import Cut, Ended, Message
from testing.servers import free_port
from testing.waiting import wait_until

CREATED = (
    b"HTTP/1.1 201 Made It\r\nSet-Cookie: a=1\r\nX-Odd: \xe4\r\nSet-Cookie: b=2\r\nContent-Type: x/y\r\n"
    b"Content-Length: 6\r\n\r\n\x00\xff\r\n\n{"
)
BODY = b'{"amount_sun": 5}'
HEADER = "Idempotency-Key: 5f0c9e1a"
WAIT_SECONDS = 10


def outcome(answer: Message) -> str:
    """Return the outcome of the first request from the refusal of a repeat."""
    assert (answer.status, answer.code) == (409, "4003"), answer
    found: str = answer.json()["error"]["details"]["outcome"]
    return found


@pytest.fixture
def redis(whole_stage: Stage) -> Iterator[Redis]:
    """The Redis of the gateway."""
    with whole_stage.gateway.redis() as client:
        yield client


def records(redis: Redis) -> list[bytes]:
    return list(redis.scan_iter("*:idempotency:*"))


def end_lease(redis: Redis) -> None:
    """End the lease of the first request, as if it had taken too long."""
    (record,) = records(redis)
    redis.hset(record.decode(), "l", 1)


def comparable(answer: Message) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return an answer without the fields that differ in each request."""
    fields = [field for field in answer.fields if field[0].lower() not in ("x-request-id", "date")]
    return answer.start, fields, answer.body


class Held:
    """The behaviour of a cluster that answers when `answer_now` is set."""

    def __init__(self) -> None:
        self.answer_now = threading.Event()

    def __call__(self, visit: Visit) -> None:
        self.answer_now.wait(WAIT_SECONDS)
        visit.send(CREATED)


@pytest.fixture
def held(wallets: RawCluster) -> Iterator[Held]:
    behaviour = Held()
    wallets.behaviour = behaviour
    yield behaviour
    behaviour.answer_now.set()


def test_only_post_routes_support_keys() -> None:
    assert {route.methods for route in ROUTES if route.idempotency_key} == {("POST",)}


def test_a_repetition_gets_the_first_answer_byte_for_byte(ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(CREATED)
    first = ask("POST", "/wallets", HEADER, body=BODY)
    wallets.behaviour = saying(OK)
    second = ask("POST", "/wallets", HEADER, body=BODY)

    assert first.all("Set-Cookie") == ["a=1", "b=2"]
    assert (first.start, first.body) == ("HTTP/1.1 201 Made It", CREATED[-6:])
    assert second.all("Idempotent-Replayed") == ["true"]
    second.fields.remove(("Idempotent-Replayed", "true"))
    assert comparable(second) == comparable(first)
    assert wallets.request.all("Idempotency-Key") == ["5f0c9e1a"]
    assert wallets.request.body == BODY


@pytest.mark.parametrize("status", [204, 303, 404, 409, 500, 503])
def test_any_answer_of_the_cluster_is_replayed(ask: Ask, wallets: RawCluster, status: int) -> None:
    length = b"" if status == 204 else b"Content-Length: 0\r\n"
    wallets.behaviour = saying(b"HTTP/1.1 %d X\r\nX-Which: first\r\n%b\r\n" % (status, length))
    answers = [ask("POST", "/wallets", HEADER, body=BODY) for _ in range(2)]

    assert [(answer.status, answer.all("X-Which")) for answer in answers] == [(status, ["first"])] * 2
    assert len(wallets.requests) == 1


def test_chunking_does_not_change_the_request(ask: Ask, wallets: RawCluster) -> None:
    chunked = b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"
    ask("POST", "/wallets", HEADER, "Transfer-Encoding: chunked", body=chunked)
    second = ask("POST", "/wallets", HEADER, body=BODY)

    assert second.all("Idempotent-Replayed") == ["true"]
    assert wallets.request.framing() == [("content-length", str(len(BODY)))]
    assert wallets.request.body == BODY


def test_a_request_without_a_body_may_have_a_key(ask: Ask, wallets: RawCluster) -> None:
    assert [ask("POST", "/wallets/7/transactions", HEADER).body for _ in range(2)] == [b"ok", b"ok"]
    assert wallets.request.framing() == [("content-length", "0")]


@pytest.mark.parametrize(
    ("path", "fields", "body"),
    [
        ("/wallets", (), b'{"amount_sun": 6}'),
        ("/wallets/7/transactions", (), BODY),
        ("/wallets?dry_run=1", (), BODY),
        ("/wallets", ("Content-Type: text/plain",), BODY),
    ],
)
def test_a_key_is_for_one_request(
    ask: Ask, wallets: RawCluster, path: str, fields: tuple[str, ...], body: bytes
) -> None:
    ask("POST", "/wallets", HEADER, body=BODY)
    other = ask("POST", path, HEADER, *fields, body=body)

    assert (other.status, other.code) == (422, "1001")
    assert other.json()["error"]["details"]["validation_errors"][0]["field"] == "Idempotency-Key"
    assert len(wallets.requests) == 1


def test_a_different_request_is_refused_while_the_first_is_under_way(
    connect: Connect, ask: Ask, wallets: RawCluster, held: Held
) -> None:
    first = connect()
    first.send(first.head("POST", "/wallets", HEADER, "Content-Length: 1") + b"x")
    wait_until(lambda: len(wallets.requests) == 1)

    assert ask("POST", "/wallets", HEADER, body=b"y").code == "1001"
    again = ask("POST", "/wallets", HEADER, body=b"x")
    assert outcome(again) == "under_way"
    assert again.all("Retry-After") == ["1"]
    held.answer_now.set()
    assert first.read_answer("POST").status == 201
    assert len(wallets.requests) == 1


@pytest.fixture(scope="module")
def operator(whole_stage: Stage) -> str:
    """The token of a user who may write to the chain."""
    return whole_stage.gateway.issue_token("operator@lucid.test")


def test_each_caller_has_keys_of_its_own(ask: Ask, wallets: RawCluster, operator: str) -> None:
    answers = [ask("POST", "/wallets", HEADER, body=BODY, token=token) for token in (None, operator)]
    assert [answer.all("Idempotent-Replayed") for answer in answers] == [[], []]
    assert len({request.all("X-User-Id")[0] for request in wallets.requests}) == 2


def test_chain_transactions_support_keys(ask: Ask, stage: Stage, operator: str) -> None:
    answers = [ask("POST", "/chain/transactions", HEADER, body=BODY, token=operator) for _ in range(2)]
    assert [answer.all("Idempotent-Replayed") for answer in answers] == [[], ["true"]]
    assert len(stage.clusters["chain"].requests) == 1


def request_with_key(gateway: Gateway, token: str) -> bytes:
    host = f"127.0.0.1:{gateway.port}"
    return request_bytes("POST", "/api/v1/wallets", f"Authorization: Bearer {token}", HEADER, body=BODY, host=host)


def count_kinds(answers: list[Message]) -> Counter[str]:
    """Return how many answers are first ones, replayed ones, and refusals."""
    kinds: Counter[str] = Counter()
    for answer in answers:
        if answer.status == 409:
            assert answer.error()["details"]["outcome"] == "under_way"
            kinds["refused"] += 1
        else:
            assert (answer.status, answer.body) == (201, CREATED[-6:])
            kinds["replayed" if answer.header("Idempotent-Replayed") else "first"] += 1
    return kinds


@pytest.mark.parametrize("work_seconds", [0.0, 0.02, 0.5])
def test_one_of_32_concurrent_requests_is_executed(stage: Stage, wallets: RawCluster, work_seconds: float) -> None:
    def work(visit: Visit) -> None:
        time.sleep(work_seconds)
        visit.send(CREATED)

    wallets.behaviour = work
    kinds = count_kinds(volley(stage.gateway, [request_with_key(stage.gateway, stage.token)] * 32))
    assert (len(wallets.requests), kinds["first"], kinds.total()) == (1, 1, 32)


@pytest.fixture(scope="module")
def second_gateway(whole_stage: Stage) -> Iterator[Gateway]:
    """Another gateway with the same Redis, users and wallets; its /chain has no listener."""
    with another(whole_stage.gateway, BLOCKCHAIN_CORE_URL=f"http://127.0.0.1:{free_port()}") as gateway:
        yield gateway


def test_two_gateways_with_one_redis_execute_once(stage: Stage, wallets: RawCluster, second_gateway: Gateway) -> None:
    wallets.behaviour = saying(CREATED)
    gateways = (stage.gateway, second_gateway)
    found: list[Message] = []

    def fire(gateway: Gateway) -> None:
        found.extend(volley(gateway, [request_with_key(gateway, stage.token)] * 16))

    threads = [threading.Thread(target=fire, args=[gateway]) for gateway in gateways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = count_kinds(found)
    assert (len(wallets.requests), kinds["first"], kinds.total()) == (1, 1, 32)


def test_a_request_that_reached_no_cluster_may_be_repeated(
    second_gateway: Gateway, operator: str, redis: Redis
) -> None:
    for _ in range(2):
        with RawClient(second_gateway.port, operator) as client:
            assert client.ask("POST", "/chain/transactions", HEADER, body=BODY).code == "5005"
    assert records(redis) == []


@pytest.mark.usefixtures("held")
def test_a_killed_worker_causes_no_second_execution(
    stage: Stage, connect: Connect, ask: Ask, wallets: RawCluster, redis: Redis
) -> None:
    first, before = connect(), workers(stage.gateway)
    first.send(first.head("POST", "/wallets", HEADER, f"Content-Length: {len(BODY)}") + BODY)
    wait_until(lambda: len(wallets.requests) == 1)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises((Ended, Cut)):
        first.read_answer("POST")

    assert outcome(ask("POST", "/wallets", HEADER, body=BODY)) == "under_way"
    end_lease(redis)
    assert [outcome(ask("POST", "/wallets", HEADER, body=BODY)) for _ in range(4)] == ["unknown"] * 4
    assert len(wallets.requests) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        saying_and_resetting(),
        saying_and_closing(),
        saying(b"nonsense\r\n\r\n"),
        saying_and_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
    ],
    ids=["reset", "closed", "not HTTP", "broken off"],
)
def test_a_request_that_may_have_been_executed_is_not_repeated(
    connect: Connect, ask: Ask, wallets: RawCluster, behaviour: Behaviour
) -> None:
    wallets.behaviour = behaviour
    client = connect()
    first = client.ask("POST", "/wallets", HEADER, "Connection: close", body=BODY)
    assert (first.status, first.code) == (502, "5003")
    assert (client.is_closed(), client.was_reset) == (True, False)
    wallets.behaviour = saying(OK)
    again = ask("POST", "/wallets", HEADER, body=BODY)
    assert (outcome(again), again.all("Retry-After")) == ("unknown", [])
    assert len(wallets.requests) == 1


def test_the_answer_is_stored_when_the_client_has_left(
    connect: Connect, ask: Ask, wallets: RawCluster, held: Held, redis: Redis
) -> None:
    first = connect()
    first.send(first.head("POST", "/wallets", HEADER, f"Content-Length: {len(BODY)}") + BODY)
    wait_until(lambda: len(wallets.requests) == 1)
    first.reset()
    time.sleep(0.3)  # the gateway watches other clients after 100 ms, but must not watch this one
    held.answer_now.set()

    answer = wait_until(lambda: again if (again := ask("POST", "/wallets", HEADER, body=BODY)).status != 409 else None)
    assert (answer.status, answer.all("Idempotent-Replayed")) == (201, ["true"])
    assert len(wallets.requests) == 1


def test_a_client_that_leaves_within_its_body_claims_nothing(
    connect: Connect, ask: Ask, wallets: RawCluster, redis: Redis
) -> None:
    first = connect()
    first.send(first.head("POST", "/wallets", HEADER, f"Content-Length: {len(BODY)}") + BODY[:3])
    first.reset()
    assert ask("POST", "/wallets", HEADER, body=BODY).status == 200
    assert wallets.request.body == BODY


LARGE = 1024 * 1024 + 1


@pytest.mark.parametrize("framing", [f"Content-Length: {LARGE}", "Transfer-Encoding: chunked"])
def test_a_body_is_refused_as_soon_as_it_exceeds_the_limit(
    connect: Connect, wallets: RawCluster, redis: Redis, framing: str
) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", HEADER, framing))
    if "chunked" in framing:
        more = LARGE + READ_SIZE  # READ_SIZE bytes are read at a time
        client.send(b"%x\r\n" % more + bytes(more) + b"\r\n")  # without a last chunk
    answer = client.read_answer("POST")

    assert (answer.status, answer.code) == (413, "1010")
    assert answer.json()["error"]["details"] == {"limit_bytes": LARGE - 1}
    assert (wallets.requests, records(redis)) == ([], [])


def test_one_mebibyte_each_way_is_accepted(ask: Ask, wallets: RawCluster) -> None:
    whole = os.urandom(LARGE - 1)
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole), whole)
    answers = [ask("POST", "/wallets", HEADER, body=whole) for _ in range(2)]
    assert [answer.body == whole for answer in answers] == [True, True]
    assert wallets.request.body == whole


@pytest.mark.parametrize("framing", [b"Content-Length: %d" % (2 * LARGE), b"Transfer-Encoding: chunked"])
def test_a_too_large_answer_is_delivered_once(ask: Ask, wallets: RawCluster, framing: bytes) -> None:
    whole = os.urandom(2 * LARGE)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole) if b"chunked" in framing else whole
    wallets.behaviour = saying(b"HTTP/1.1 201 Created\r\n" + framing + b"\r\n\r\n", sent)

    first = ask("POST", "/wallets", HEADER, body=BODY)
    assert (first.status, first.body == whole) == (201, True)
    again = ask("POST", "/wallets", HEADER, body=BODY)
    assert outcome(again) == "not_stored"
    assert again.json()["error"]["details"]["status"] == 201
    assert len(wallets.requests) == 1


def test_an_event_stream_is_relayed_and_not_stored(connect: Connect, ask: Ask, wallets: RawCluster) -> None:
    wallets.behaviour = saying(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: x\n\r\n"
    )
    client = connect()
    client.send(client.head("POST", "/wallets", HEADER))
    assert client.read_head().status == 200
    assert client.read_until(b"data: x\n").endswith(b"8\r\n")
    assert outcome(ask("POST", "/wallets", HEADER)) == "not_stored"


@pytest.mark.parametrize("key", ["", "a b", "a,b", "a\tb", "k\xe9y", "x" * 256])
def test_a_malformed_key_is_refused(ask: Ask, wallets: RawCluster, key: str) -> None:
    answer = ask("POST", "/wallets", f"Idempotency-Key: {key}", body=BODY)
    assert (answer.status, answer.code) == (422, "1003")
    assert wallets.requests == []


def test_two_keys_are_refused(ask: Ask, wallets: RawCluster) -> None:
    assert ask("POST", "/wallets", HEADER, HEADER, body=BODY).code == "1003"
    assert wallets.requests == []


@pytest.mark.parametrize("key", ["x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "!~"])
def test_a_well_formed_key_is_accepted(ask: Ask, wallets: RawCluster, key: str) -> None:
    assert ask("POST", "/wallets", f"Idempotency-Key: {key}", body=BODY).status == 200
    assert wallets.request.all("Idempotency-Key") == [key]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_only_forward_the_field(ask: Ask, wallets: RawCluster, redis: Redis, method: str) -> None:
    for _ in range(2):
        assert ask(method, "/wallets/7", "Idempotency-Key: a b").status == 200
    assert [request.all("Idempotency-Key") for request in wallets.requests] == [["a b"]] * 2
    assert records(redis) == []


def test_stored_answers_are_encrypted_and_expire_after_a_day(ask: Ask, wallets: RawCluster, redis: Redis) -> None:
    wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nX-Owner: somebody\r\nContent-Length: 8\r\n\r\nsomebody")
    ask("POST", "/wallets", HEADER, body=BODY)
    (record,) = records(redis)

    assert b"5f0c9e1a" not in record
    assert b"somebody" not in b"".join(redis.hgetall(record.decode()).values())
    assert 86_390 <= redis.ttl(record.decode()) <= 86_400


class Customer:
    """Repeats one request, each time on a new connection, to a gateway whose Redis fails."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.header = f"Idempotency-Key: {uuid.uuid4()}"

    def post(self) -> Message:
        return self.ask("POST", "/wallets", self.header, body=BODY)

    def post_until(self, status: int) -> Message:
        return wait_until(lambda: answer if (answer := self.post()).status == status else None)


@pytest.fixture
def customer(ask: Ask, wallets: RawCluster, redis: Redis) -> Iterator[Customer]:
    yield Customer(ask)
    redis.config_set("maxmemory", 0)
    deadline = time.monotonic() + WAIT_SECONDS
    answered = 0
    while answered < 8:  # until all workers have found that Redis is back
        assert time.monotonic() < deadline
        status = ask("POST", "/wallets", f"Idempotency-Key: {uuid.uuid4()}").status
        answered = answered + 1 if status == 200 else 0
    wallets.forget()


@contextlib.contextmanager
def stalled(redis: Redis, seconds: float) -> Iterator[None]:
    """Stop Redis for some seconds; the block ends when it is back."""
    port = redis.get_connection_kwargs()["port"]
    with Redis(port=port, single_connection_client=True) as alone:
        connection = alone.connection
        assert connection is not None
        connection.send_command("DEBUG", "SLEEP", str(seconds))
        yield
        connection.read_response()


def test_while_redis_is_stalled_nothing_is_sent(customer: Customer, wallets: RawCluster, redis: Redis) -> None:
    with stalled(redis, settings.ENV.REDIS_TIMEOUT_SECONDS * 1.5):
        refused = customer.post()
    assert (refused.status, refused.code, refused.all("Retry-After")) == (503, "5008", ["5"])
    assert wallets.requests == []

    assert customer.post_until(200).body == b"ok"
    assert customer.post_until(200).all("Idempotent-Replayed") == ["true"]
    assert len(wallets.requests) == 1


def test_while_redis_is_full_nothing_is_sent(customer: Customer, wallets: RawCluster, redis: Redis) -> None:
    redis.config_set("maxmemory", 1)
    assert customer.post().code == "5008"
    assert wallets.requests == []


def test_a_redis_failure_at_the_end_causes_no_second_execution(
    customer: Customer, wallets: RawCluster, redis: Redis
) -> None:
    def fill_redis(visit: Visit) -> None:
        redis.config_set("maxmemory", 1)
        visit.send(CREATED)

    wallets.behaviour = fill_redis
    assert customer.post().body == CREATED[-6:]
    redis.config_set("maxmemory", 0)
    end_lease(redis)
    wallets.behaviour = saying(OK)
    assert outcome(customer.post_until(409)) == "unknown"
    assert len(wallets.requests) == 1
