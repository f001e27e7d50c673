"""The response cache, in a real gateway and in this process: what it stores, for whom, and how requests coalesce."""

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import gevent
import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from django.utils.http import http_date
from pytest_django.fixtures import Settings

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.roles import Role
from lucid_gateway.policy.routes import ROUTES, CacheRule, Route, by_path
from proxy.clusters import Cluster
from proxy.connection.pool import pool_for
from proxy.forwarding.forwarder import forward
from proxy.forwarding.response_cache import Answered, answer_through_cache, flights, stored
from proxy.forwarding.stored_answers import MAX_ENTRY
from proxy.tests.conftest import Stage
from testing.gateway import Gateway, running_gateway
from testing.http.client import Ask, RawClient
from testing.http.cluster import Behaviour, RawCluster, Visit, saying, saying_and_closing
from testing.http.messages import Cut, Message
from testing.waiting import wait_until

numbers = itertools.count()


def ok(*fields: str, body: bytes = b"block") -> bytes:
    """Return a 200 with these fields and its length."""
    return "\r\n".join(["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(body)}", "", ""]).encode() + body


KEPT = ok("Cache-Control: max-age=600")


# In a gateway with one worker.


@pytest.fixture(scope="module")
def blocks_cluster() -> Iterator[RawCluster]:
    with RawCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def caching_gateway(blocks_cluster: RawCluster) -> Iterator[Gateway]:
    settings = {"RESPONSE_CACHE_ENABLED": "true", "WEB_CONCURRENCY": "1", "RATE_LIMIT_ENABLED": "false"}
    with running_gateway(BLOCKCHAIN_CORE_URL=blocks_cluster.url, **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def token(caching_gateway: Gateway) -> str:
    return caching_gateway.issue_token("demo@lucid.test")


@pytest.fixture
def blocks(blocks_cluster: RawCluster) -> RawCluster:
    """The cluster behind /chain, which allows its answers to be stored; it has no requests from earlier tests."""
    blocks_cluster.forget()
    blocks_cluster.behaviour = saying(KEPT)
    return blocks_cluster


@pytest.fixture
def path() -> str:
    """A path that no test has requested yet."""
    return f"/chain/blocks/{next(numbers)}"


@pytest.fixture
def get(caching_gateway: Gateway, token: str, blocks: RawCluster, path: str) -> Ask:
    """Sends a GET for the path and returns the answer."""

    def ask(*fields: str, path: str = path, method: str = "GET", **more: Any) -> Message:
        with RawClient(caching_gateway.port, token) as client:
            return client.ask(method, path, *fields, **more)

    return ask


def cache_status(answer: Message) -> str:
    """Return the Cache-Status of an answer, without its ttl."""
    (status,) = answer.all("cache-status")
    return status.removeprefix("lucid-api-gateway; ").partition("; ttl=")[0]


def ttl(answer: Message) -> int:
    """Return for how many seconds a stored answer is still fresh, from Cache-Status."""
    (status,) = answer.all("cache-status")
    return int(status.removeprefix("lucid-api-gateway; hit; ttl="))


def age(answer: Message) -> int:
    (seconds,) = answer.all("age")
    return int(seconds)


def concurrently(count: int, ask: Callable[[], Message]) -> list[Message]:
    with ThreadPoolExecutor(count) as threads:
        return [future.result() for future in [threads.submit(ask) for _ in range(count)]]


def test_the_second_request_is_answered_from_the_cache(get: Ask, blocks: RawCluster) -> None:
    first, second = get(), get()
    assert (cache_status(first), cache_status(second)) == ("fwd=miss; stored", "hit")
    assert 580 < ttl(second) < 600
    assert first.body == second.body == b"block"
    assert (second.status, second.all("content-length")) == (200, ["5"])
    assert len(blocks.requests) == 1


def test_a_stored_answer_has_the_fields_of_the_new_request(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(
        ok("Cache-Control: max-age=600", "X-Request-ID: old", "X-RateLimit-Limit: 1", 'ETag: "1"', "X-A: 1", "X-A: 2")
    )
    first, second = get(), get("Origin: https://app.example.org")
    assert len(set(first.all("x-request-id") + second.all("x-request-id"))) == 2
    assert second.all("x-ratelimit-limit") == []  # this gateway has no limits
    assert second.all("access-control-allow-origin") == ["https://app.example.org"]
    assert (second.all("x-a"), second.all("etag")) == (["1", "2"], ['"1"'])


def test_the_cache_is_off_by_default(ask: Ask, stage: Stage, path: str) -> None:
    stage.clusters["chain"].behaviour = saying(KEPT)
    answers = [ask("GET", path) for _ in range(4)]
    assert [answer.all("cache-status") for answer in answers] == [[]] * 4
    assert len(stage.clusters["chain"].requests) == 4


def test_routes_without_a_rule_store_nothing(get: Ask, blocks: RawCluster) -> None:
    assert [get(path="/chain/height").all("cache-status") for _ in range(2)] == [[], []]
    assert len(blocks.requests) == 2


def test_cached_paths_have_no_writing_methods() -> None:
    for rows in by_path(ROUTES).values():
        assert not any(row.cache for row in rows.values()) or set(rows) <= {"GET", "HEAD"}


@pytest.mark.parametrize(
    "answer",
    [
        ok("Cache-Control: no-store"),
        ok("Cache-Control: max-age=600, private"),
        ok("Cache-Control: max-age=600", "Set-Cookie: a=b"),
        ok("Cache-Control: max-age=600", "Vary: *"),
        ok("Cache-Control: max-age=600", "Age: 600"),
        ok("Cache-Control: max-age=600", "Content-Type: text/event-stream"),
        ok(),
        KEPT.replace(b"200 OK", b"404 Not Found"),
        KEPT.replace(b"200 OK", b"206 Partial Content"),
        KEPT.replace(b"200 OK", b"301 Moved Permanently"),
    ],
)
def test_an_answer_that_must_not_be_stored_is_requested_each_time(get: Ask, blocks: RawCluster, answer: bytes) -> None:
    blocks.behaviour = saying(answer)
    assert [cache_status(get()) for _ in range(2)] == ["fwd=miss"] * 2
    assert len(blocks.requests) == 2


def test_an_answer_without_framing_is_not_stored(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying_and_closing(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n\r\nblock")
    assert [get().body for _ in range(2)] == [b"block"] * 2
    assert len(blocks.requests) == 2


def test_a_chunked_answer_is_stored_whole(get: Ask, blocks: RawCluster) -> None:
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n"
    blocks.behaviour = saying(head, b"3\r\nblo\r\n", b"2\r\nck\r\n0\r\n\r\n")
    first, second = get(), get()
    assert first.body == second.body == b"block"
    assert second.framing() == [("content-length", "5")]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_too_large_answer_is_streamed(get: Ask, blocks: RawCluster, chunked: bool) -> None:
    body = b"0123456789abcdef" * (MAX_ENTRY // 8)
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n"
    in_chunks = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    blocks.behaviour = saying(in_chunks if chunked else ok("Cache-Control: max-age=600", body=body))
    assert [get().body == body for _ in range(2)] == [True, True]
    assert len(blocks.requests) == 2


def test_a_slow_answer_is_streamed(caching_gateway: Gateway, token: str, blocks: RawCluster, path: str) -> None:
    go_on = threading.Event()
    blocks.behaviour = drip(go_on)
    with RawClient(caching_gateway.port, token) as client:
        client.send(client.head("GET", path))
        assert client.read_head().status == 200
        assert not go_on.is_set()
        go_on.set()
        assert client.read_until(b"0\r\n\r\n").endswith(b"\r\n")


def drip(stop: threading.Event) -> Behaviour:
    """Return the behaviour of a server that sends small pieces until `stop` is set."""

    def behave(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not stop.wait(0.1):
            visit.send(b"1\r\nx\r\n")
        visit.send(b"0\r\n\r\n")

    return behave


def test_other_paths_and_queries_have_separate_answers(get: Ask, blocks: RawCluster, path: str) -> None:
    for other in (path, f"{path}?a=1", f"{path}?a=2", f"{path}/below"):
        assert cache_status(get(path=other)) == "fwd=miss; stored"
    assert [request.target.rpartition("/")[2] for request in blocks.requests][-1] == "below"


def test_other_hosts_have_separate_answers(get: Ask, path: str) -> None:
    assert [cache_status(get(f"Host: {host}")) for host in ("localhost", "127.0.0.1", "localhost")][1:] == [
        "fwd=miss; stored", "hit",
    ]  # fmt: skip


def test_answers_vary_by_the_fields_in_vary(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Vary: Accept-Encoding"))
    codings = ("gzip", "br", "gzip", "br")
    assert [cache_status(get(f"Accept-Encoding: {coding}")) for coding in codings] == ["fwd=miss; stored"] * 2 + [
        "hit"
    ] * 2
    assert cache_status(get()) == "fwd=miss; stored"


def test_a_stale_answer_is_requested_again(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Age: 599"))
    get()
    wait_until(lambda: cache_status(get()) != "hit")
    assert len(blocks.requests) == 2


def test_the_age_field_of_the_cluster_counts(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Age: 100"))
    get()
    answer = get()
    assert 100 <= age(answer) < 120
    assert 480 < ttl(answer) < 500


def test_the_rule_sets_the_lifetime_if_the_cluster_does_not(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok())
    assert "hit" in [cache_status(get(path="/chain/info")) for _ in range(5)]


@pytest.mark.parametrize("field", ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"])
def test_no_cache_gets_the_clusters_answer_and_refreshes_the_stored_one(
    get: Ask, blocks: RawCluster, field: str
) -> None:
    get()
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", body=b"newer"))
    assert cache_status(get(field)) == "fwd=request; stored"
    assert get().body == b"newer"


def test_no_store_of_the_client_is_respected(get: Ask) -> None:
    assert cache_status(get("Cache-Control: no-store")) == "fwd=request"
    assert cache_status(get()) == "fwd=miss; stored"


def test_only_if_cached_never_reaches_the_cluster(get: Ask, blocks: RawCluster) -> None:
    refused = get("Cache-Control: only-if-cached")
    assert (refused.status, refused.code, len(blocks.requests)) == (504, "5006", 0)
    get()
    assert cache_status(get("Cache-Control: only-if-cached")) == "hit"


@pytest.mark.parametrize(
    "field", ["Range: bytes=0-1", 'If-Match: "1"', "Connection: accept-language", "Transfer-Encoding: chunked"]
)
def test_unusual_requests_bypass_the_cache(get: Ask, blocks: RawCluster, field: str) -> None:
    get()
    body = b"0\r\n\r\n" if field.startswith("Transfer") else None
    assert cache_status(get(field, body=body)) == "fwd=bypass"
    assert cache_status(get("Content-Length: 1", body=b"x")) == "fwd=bypass"
    assert len(blocks.requests) == 3


def test_a_head_request_bypasses_the_cache(get: Ask, blocks: RawCluster) -> None:
    get()
    assert get(method="HEAD").status == 200
    assert [request.method for request in blocks.requests] == ["GET", "HEAD"]


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ('If-None-Match: "1"', 304),
        ('If-None-Match: W/"1", "2"', 304),
        ("If-None-Match: *", 304),
        ('If-None-Match: "2"', 200),
        (f"If-Modified-Since: {http_date(1_000)}", 304),
        (f"If-Modified-Since: {http_date(999)}", 200),
        ("If-Modified-Since: yesterday", 200),
    ],
)
def test_a_condition_is_answered_from_the_cache(get: Ask, blocks: RawCluster, field: str, status: int) -> None:
    last_modified = f"Last-Modified: {http_date(1_000)}"
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", 'ETag: "1"', last_modified, "Content-Type: text/x"))
    get()
    answer = get(field)
    assert (answer.status, answer.all("etag"), age(answer) < 20) == (status, ['"1"'], True)
    assert (answer.body, answer.all("content-type")) == ((b"", []) if status == 304 else (b"block", ["text/x"]))
    assert len(blocks.requests) == 1


def test_a_condition_is_forwarded_if_nothing_is_stored(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nCache-Control: max-age=600\r\n\r\n')
    assert [cache_status(get('If-None-Match: "1"')) for _ in range(2)] == ["fwd=miss"] * 2
    assert [request.all("if-none-match") for request in blocks.requests] == [['"1"']] * 2


def test_a_fresh_answer_is_served_while_the_cluster_is_down(get: Ask, blocks: RawCluster) -> None:
    get()
    blocks.behaviour = saying_and_closing()
    blocks.hang_up()
    assert get().status == 200
    assert get("Cache-Control: no-cache").status == 502


def test_stored_answers_require_the_permission_too(get: Ask, caching_gateway: Gateway, path: str) -> None:
    get()
    with RawClient(caching_gateway.port, "") as signed_out:
        assert signed_out.ask("GET", path).status == 401


def test_the_access_log_has_the_source_of_the_answer(get: Ask, caching_gateway: Gateway, path: str) -> None:
    get()
    get()
    wait_until(lambda: len(lines_about(caching_gateway, path)) >= 2)
    lines = lines_about(caching_gateway, path)
    assert [(line["cache"], line["attempts"]) for line in lines] == [("miss", 1), ("hit", 0)]


def lines_about(gateway: Gateway, path: str) -> list[dict[str, Any]]:
    return [line for line in gateway.access_lines() if line["path"].endswith(path)]


# Concurrent requests.


def answering_after(answer: bytes, go_on: threading.Event) -> Behaviour:
    """Return the behaviour of a server that answers when `go_on` is set."""

    def behave(visit: Visit) -> None:
        go_on.wait(10)
        visit.send(answer)

    return behave


def test_fifty_concurrent_requests_are_coalesced(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = lambda visit: (time.sleep(0.3), visit.send(KEPT))[0]
    answers = concurrently(50, get)
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"block")}
    assert len(blocks.requests) == 1
    assert [cache_status(answer) for answer in answers].count("fwd=miss; stored") == 1


def test_waiting_requests_go_to_the_cluster_if_the_answer_is_not_stored(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: no-store"))
    assert {answer.status for answer in concurrently(8, get)} == {200}
    assert len(blocks.requests) == 8


def test_requests_do_not_wait_if_the_last_answer_was_not_stored(get: Ask, blocks: RawCluster) -> None:
    unstored, go_on = ok("Cache-Control: no-store"), threading.Event()
    blocks.behaviour = saying(unstored)
    get()
    blocks.behaviour = answering_after(unstored, go_on)
    with ThreadPoolExecutor(5) as threads:
        asking = [threads.submit(get) for _ in range(5)]
        wait_until(lambda: len(blocks.requests) == 6)
        go_on.set()
    assert {future.result().status for future in asking} == {200}


def test_no_request_waits_for_the_answer_to_a_condition(get: Ask, blocks: RawCluster) -> None:
    go_on = threading.Event()
    blocks.behaviour = answering_after(KEPT, go_on)
    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(get, 'If-None-Match: "1"')]
        wait_until(lambda: len(blocks.requests) == 1)
        asking.append(threads.submit(get))
        wait_until(lambda: len(blocks.requests) == 2)
        go_on.set()
    assert {future.result().status for future in asking} == {200}


def test_concurrent_requests_with_different_encodings_are_not_coalesced(get: Ask, blocks: RawCluster) -> None:
    answer = ok("Cache-Control: max-age=600", "Vary: Accept-Encoding")
    blocks.behaviour = lambda visit: (time.sleep(0.2), visit.send(answer))[0]
    codings = itertools.cycle(["gzip", "br"])
    answers = concurrently(20, lambda: get(f"Accept-Encoding: {next(codings)}"))
    assert {answer.status for answer in answers} == {200}
    assert len(blocks.requests) == 2


def test_a_leader_whose_client_leaves_still_serves_the_others(
    get: Ask, caching_gateway: Gateway, token: str, blocks: RawCluster, path: str
) -> None:
    go_on = threading.Event()
    blocks.behaviour = answering_after(KEPT, go_on)
    leader = RawClient(caching_gateway.port, token)
    leader.send(leader.head("GET", path))
    wait_until(lambda: len(blocks.requests) == 1)
    leader.reset()
    threading.Timer(0.3, go_on.set).start()
    assert {answer.status for answer in concurrently(5, get)} == {200}
    assert len(blocks.requests) == 1


def test_a_leader_with_a_truncated_answer_fails_alone(
    get: Ask, caching_gateway: Gateway, token: str, blocks: RawCluster, path: str
) -> None:
    go_on = threading.Event()

    def truncate_the_first(visit: Visit) -> None:
        if len(blocks.requests) > 1:
            return visit.send(KEPT)
        go_on.wait(10)
        return saying_and_closing(KEPT[:-2])(visit)

    blocks.behaviour = truncate_the_first
    with RawClient(caching_gateway.port, token) as leader:
        leader.send(leader.head("GET", path))
        wait_until(lambda: len(blocks.requests) == 1)
        threading.Timer(0.3, go_on.set).start()
        assert {(answer.status, answer.body) for answer in concurrently(5, get)} == {(200, b"block")}
        with pytest.raises(Cut):
            leader.read_answer()


# In this process, without a gateway.

MINE = Route("/x", ("GET",), "some_cluster", "/x", "user:read", cache=CacheRule(seconds=60))
OURS = Route("/x", ("GET",), "some_cluster", "/x", "user:read", cache=CacheRule(seconds=60, shared=True))
ALICE, BOB = (Caller(name, Role.USER, "j", "f", 0) for name in ("alice", "bob"))


@pytest.fixture
def ask_as(raw_cluster: RawCluster, settings: Settings) -> Iterator[Callable[..., Answered]]:
    """Requests /x on a route as a caller, through the cache, from a cluster of this test."""
    settings.ENV = settings.ENV.model_copy(update={"RESPONSE_CACHE_ENABLED": True})
    stored.clear()
    cluster = Cluster("some_cluster", "some-service", "SOME_URL", instances=(raw_cluster.instance,))

    def ask(caller: Caller, route: Route) -> Answered:
        request = a_request()

        send = partial(forward, request, route, cluster, caller=caller, target="/x")
        answered = answer_through_cache(request, route, caller=caller, target="/x", send=send)
        assert b"".join(answered.body) == b"ok"
        return answered

    yield ask
    stored.clear()
    for connection in pool_for(raw_cluster.instance).idle:
        connection.close()


def a_request() -> HttpRequest:
    request = RequestFactory().get("/", headers={"Host": "gateway.test"})
    record = record_of(request)
    record.request_id, record.client_address = "request-1", "192.0.2.1"
    return request


def test_callers_share_the_answers_of_shared_routes(ask_as: Callable[..., Answered], raw_cluster: RawCluster) -> None:
    ask_as(ALICE, OURS)
    ask_as(BOB, OURS)
    assert len(raw_cluster.requests) == 1


def test_callers_share_no_other_answers(ask_as: Callable[..., Answered], raw_cluster: RawCluster) -> None:
    for caller in (ALICE, BOB, ALICE, BOB):
        ask_as(caller, MINE)
    assert [request.all("x-user-id") for request in raw_cluster.requests] == [["alice"], ["bob"]]


def test_another_role_or_key_is_a_different_caller(ask_as: Callable[..., Answered], raw_cluster: RawCluster) -> None:
    ask_as(ALICE, MINE)
    ask_as(Caller("alice", Role.ADMIN, "j", "f", 0), MINE)
    ask_as(Caller("alice", Role.USER, "j", "", 0, key_permissions=frozenset()), MINE)
    assert len(raw_cluster.requests) == 3


def test_an_overtaken_leader_finds_the_answer_of_the_other(
    ask_as: Callable[..., Answered], raw_cluster: RawCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_or_wait = flights.lead_or_wait

    def overtaken(key: Hashable, *, seconds: float) -> AbstractContextManager[bool]:
        monkeypatch.setattr(flights, "lead_or_wait", lead_or_wait)
        ask_as(BOB, OURS)
        return lead_or_wait(key, seconds=seconds)

    monkeypatch.setattr(flights, "lead_or_wait", overtaken)
    ask_as(ALICE, OURS)
    assert len(raw_cluster.requests) == 1


def test_a_killed_leader_leaves_no_request_waiting() -> None:
    def lead() -> None:
        with flights.lead_or_wait("key", seconds=5) as leads:
            assert leads
            raise gevent.GreenletExit

    with pytest.raises(gevent.GreenletExit):
        lead()
    assert not flights.is_under_way("key")


def test_no_request_waits_longer_than_the_limit() -> None:
    with flights.lead_or_wait("key", seconds=5), flights.lead_or_wait("key", seconds=0.05) as leads:
        assert not leads
