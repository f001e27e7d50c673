"""The response cache of a real edge: what it stores, for whom, and how requests coalesce."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.utils.http import http_date
from prometheus_client.parser import text_string_to_metric_families as parse_text

from lucid_gateway.policy.routes import ROUTES, by_path
from proxy.tests.edge.conftest import Stage, printed, shell
from proxy.tests.edge.test_failing_instances import reload_edge
from testing.gateway import Gateway, running_gateway
from testing.http.client import Ask, RawClient
from testing.http.cluster import Behaviour, RawCluster, Visit, saying, saying_and_closing
from testing.http.messages import Cut, Message
from testing.waiting import wait_until

MAX_LENGTH = 256 * 1024  # of a stored body, as in deploy/edge/lua/lucid/cache.lua
numbers = itertools.count()


def ok(*fields: str, body: bytes = b"block") -> bytes:
    """Return a 200 with these fields and its length."""
    return "\r\n".join(["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(body)}", "", ""]).encode() + body


KEPT = ok("Cache-Control: max-age=600")


# At an edge with one worker.


@pytest.fixture(scope="module")
def blocks_cluster() -> Iterator[RawCluster]:
    with RawCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def caching_gateway(blocks_cluster: RawCluster) -> Iterator[Gateway]:
    settings = {"BLOCKCHAIN_CORE_URL": blocks_cluster.url, "WEB_CONCURRENCY": "1", "RATE_LIMIT_ENABLED": "false"}
    settings["EXPLORER_SAMPLE_PERCENT"] = "100"
    with running_gateway(edge=True, cache_size="8m", **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def token(caching_gateway: Gateway) -> str:
    return caching_gateway.issue_token("demo@lucid.test")


@pytest.fixture
def blocks(blocks_cluster: RawCluster, caching_gateway: Gateway, token: str) -> RawCluster:
    """The cluster behind /chain, which allows its answers to be stored; it has no requests from earlier tests. The edge
    knows the user.
    """
    blocks_cluster.behaviour = saying(ok())
    caching_gateway.warm(token, "/chain/height")
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


def test_the_cache_is_off_by_default(stage: Stage, path: str) -> None:
    stage.chain.behaviour = saying(KEPT)
    answers = [stage.ask(path) for _ in range(4)]
    assert [answer.all("cache-status") for answer in answers] == [[]] * 4
    assert len(stage.chain.requests) == 4


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


def test_an_answer_without_a_length_is_not_stored(get: Ask, blocks: RawCluster) -> None:
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n"
    blocks.behaviour = saying(head, b"3\r\nblo\r\n", b"2\r\nck\r\n0\r\n\r\n")
    assert [(cache_status(answer), answer.body) for answer in (get(), get())] == [("fwd=miss", b"block")] * 2


@pytest.mark.parametrize(("length", "requests"), [(MAX_LENGTH, 1), (MAX_LENGTH + 1, 2)])
def test_a_too_large_answer_is_not_stored(get: Ask, blocks: RawCluster, length: int, requests: int) -> None:
    body = bytes(length)
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", body=body))
    assert [get().body == body for _ in range(2)] == [True, True]
    assert len(blocks.requests) == requests


def test_a_client_that_wants_events_gets_them_as_they_come(
    caching_gateway: Gateway, token: str, blocks: RawCluster, path: str
) -> None:
    go_on = threading.Event()
    blocks.behaviour = drip(go_on)
    with RawClient(caching_gateway.port, token) as client:
        client.send(client.head("GET", path, "Accept: text/event-stream"))
        assert client.read_head().status == 200
        client.read_until(b"x\r\n")
        go_on.set()
        client.read_until(b"0\r\n\r\n")


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
    for host in ("localhost", "127.0.0.1"):  # so that the edge knows both
        wait_until(lambda host=host: get(f"Host: {host}", "Cache-Control: no-store").all("cache-status"))
    statuses = [cache_status(get(f"Host: {host}")) for host in ("localhost", "127.0.0.1", "localhost")]
    assert statuses == ["fwd=miss; stored", "fwd=miss; stored", "hit"]


def test_answers_vary_by_the_fields_in_vary(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Vary: Accept-Encoding"))
    codings = ("gzip", "br", "gzip", "br")
    assert [cache_status(get(f"Accept-Encoding: {coding}")) for coding in codings] == ["fwd=miss; stored"] * 2 + [
        "hit"
    ] * 2
    assert cache_status(get()) == "fwd=miss; stored"


def test_equal_values_of_different_fields_are_different_answers(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Vary: Accept-Language"))
    get("Accept-Language: x")
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Vary: Accept", body=b"other"))
    get("Accept: x")
    assert [cache_status(get(field)) for field in ("Accept: x", "Accept-Language: x")] == ["hit", "fwd=miss; stored"]


def test_no_permission_of_the_cluster_makes_a_stale_answer_do(get: Ask, blocks: RawCluster) -> None:
    extensions = "stale-while-revalidate=600, stale-if-error=600"
    blocks.behaviour = saying(ok(f"Cache-Control: max-age=600, {extensions}", "Age: 599"))
    get()
    blocks.behaviour = saying_and_closing()
    blocks.hang_up()
    wait_until(lambda: get("Cache-Control: max-stale=600").status == 502)


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
    "field", ["Range: bytes=0-1", 'If-Match: "1"', f"If-Unmodified-Since: {http_date(1_000)}", "If-Range: x"]
)
def test_unusual_requests_bypass_the_cache(get: Ask, blocks: RawCluster, field: str) -> None:
    get()
    assert cache_status(get(field)) == "fwd=bypass"
    assert cache_status(get("Content-Length: 1", body=b"x")) == "fwd=bypass"
    assert len(blocks.requests) == 3
    assert blocks.requests[1].all(field.partition(":")[0]) == [field.partition(": ")[2]]


@pytest.mark.parametrize("field", ["Connection: accept-language", "Transfer-Encoding: chunked"])
def test_what_the_gateway_has_to_read_is_not_answered_from_the_cache(get: Ask, blocks: RawCluster, field: str) -> None:
    get()
    answer = get(field, body=b"0\r\n\r\n" if field.startswith("Transfer") else None)
    assert (answer.status, answer.all("cache-status"), len(blocks.requests)) == (200, [], 2)


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


@pytest.mark.parametrize(("tag", "status"), [('"1"', 304), ('"2"', 200)])
def test_a_condition_that_finds_nothing_brings_the_whole_answer_into_the_cache(
    get: Ask, blocks: RawCluster, tag: str, status: int
) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", 'ETag: "1"'))
    answer = get(f"If-None-Match: {tag}")
    assert (answer.status, cache_status(answer)) == (status, "fwd=miss; stored")
    assert blocks.requests[0].all("if-none-match") == []
    assert (cache_status(get()), get().body) == ("hit", b"block")


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


def test_a_fresh_answer_is_served_in_maintenance(get: Ask, blocks: RawCluster, caching_gateway: Gateway) -> None:
    get()
    code = "from proxy.operators import closing; closing.{}(cluster='blockchain_core', by='operator', {})"
    shell(caching_gateway, code.format("close_cluster", "kind='maintenance', reason='moving'"))
    try:
        wait_until(lambda: get(path="/chain/height").status == 503)
        assert cache_status(get()) == "hit"
        lose_stored_answers(caching_gateway)
        assert [get().code for _ in range(2)] == ["5005"] * 2
    finally:
        shell(caching_gateway, code.format("open_cluster", ""))
        wait_until(lambda: get(path="/chain/height").status == 200)


def test_an_answer_that_nginx_has_lost_comes_from_the_cluster_again(
    get: Ask, blocks: RawCluster, caching_gateway: Gateway
) -> None:
    get()
    lose_stored_answers(caching_gateway)
    assert [cache_status(get()) for _ in range(2)] == ["fwd=miss; stored", "hit"]

    lose_stored_answers(caching_gateway)
    blocks.behaviour = saying(ok("Cache-Control: no-store"))
    assert [cache_status(get()) for _ in range(2)] == ["fwd=miss"] * 2


def lose_stored_answers(gateway: Gateway) -> None:
    assert gateway.edge_log is not None
    for file in (gateway.edge_log.parent / "cache").glob("*/*/*"):
        file.unlink()


def test_a_client_can_demand_a_younger_answer(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Age: 100"))
    get()
    terms = ("max-age=500", "min-fresh=100", "max-age=50", "min-fresh=550")
    statuses = [cache_status(get(f"Cache-Control: {term}")) for term in terms]
    assert statuses == ["hit"] * 2 + ["fwd=miss; stored"] * 2


def test_the_status_of_other_caches_stays(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(ok("Cache-Control: max-age=600", "Cache-Status: inner; hit"))
    assert [get().all("cache-status")[0] for _ in range(2)] == ["inner; hit"] * 2
    assert [len(get().all("cache-status")) for _ in range(2)] == [2, 2]


def test_the_fields_of_a_stored_answer_are_cleaned(get: Ask, blocks: RawCluster) -> None:
    blocks.behaviour = saying(
        ok("Cache-Control: max-age=600", "Server: leaky", "Connection: x-private", "X-Private: 1")
    )
    get()
    answer = get()
    assert cache_status(answer) == "hit"
    assert answer.all("server") + answer.all("x-private") == []


def test_the_metrics_count_lookups(get: Ask, caching_gateway: Gateway) -> None:
    operator = caching_gateway.issue_token("operator@lucid.test")

    def counted() -> Counter[str]:
        with RawClient(caching_gateway.port, operator) as client:
            text = client.ask("GET", "/meta/metrics?format=prometheus").body.decode()
        samples = [sample for family in parse_text(text) for sample in family.samples]
        found = [one for one in samples if one.name == "lucid_response_cache_total"]
        return Counter({one.labels["outcome"]: int(one.value) for one in found if "rest" in one.labels["route"]})

    for field in ("X-A: 1", "X-A: 1", "Cache-Control: no-cache", "Range: bytes=0-1"):
        get(field)

    wait_until(lambda: set(counted()) >= {"miss", "hit", "request", "bypass"})


def test_the_access_log_has_the_source_of_the_answer(get: Ask, caching_gateway: Gateway, path: str) -> None:
    get()
    get()
    wait_until(lambda: len(lines_about(caching_gateway, path)) >= 2)
    lines = lines_about(caching_gateway, path)
    assert [(line["cache"], line["attempts"]) for line in lines] == [("miss", 1), ("hit", 0)]
    assert {(line["cluster"], line["response_bytes"], line["outcome"]) for line in lines} == {
        ("blockchain_core", 5, "complete")
    }


def test_the_explorer_has_the_source_of_the_answer(get: Ask, caching_gateway: Gateway, path: str) -> None:
    get()
    get()
    code = f"""
import json
from lucid_gateway.explorer.models import KeptRequest
rows = KeptRequest.objects.filter(path__endswith={path!r}).order_by("started_at").values("cache", "cluster", "details")
print(json.dumps(list(rows)))
"""
    wait_until(lambda: len(printed(caching_gateway, code)) == 2, every=0.5)
    rows = printed(caching_gateway, code)
    assert [(row["cache"], row["cluster"]) for row in rows] == [(how, "blockchain_core") for how in ("miss", "hit")]
    assert [step["step"] for step in rows[1]["details"]["steps"]][-3:] == ["permission", "rate_limit", "answer"]


def test_the_log_calls_an_answer_without_a_body_complete(get: Ask, caching_gateway: Gateway, path: str) -> None:
    for field in ("If-None-Match: *", "If-None-Match: *", "X-A: 1"):
        get(field, method="HEAD" if field == "X-A: 1" else "GET")
    wait_until(lambda: len(lines_about(caching_gateway, path)) >= 3)
    lines = lines_about(caching_gateway, path)
    assert [(line["method"], line["outcome"], line["response_bytes"]) for line in lines] == [
        ("GET", "complete", 0), ("GET", "complete", 0), ("HEAD", "complete", 0),
    ]  # fmt: skip


def lines_about(gateway: Gateway, path: str) -> list[dict[str, Any]]:
    return [line for line in gateway.access_lines() if line["path"].endswith(path)]


# Concurrent requests.


def answering_after(answer: bytes, go_on: threading.Event) -> Behaviour:
    """Return the behaviour of a server that answers when `go_on` is set."""

    def behave(visit: Visit) -> None:
        go_on.wait(60)
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
        try:
            wait_until(lambda: len(blocks.requests) == 6, 20)
        finally:
            go_on.set()
    assert {future.result().status for future in asking} == {200}


def test_requests_wait_for_the_answer_to_a_condition(get: Ask, blocks: RawCluster) -> None:
    go_on = threading.Event()
    blocks.behaviour = answering_after(KEPT, go_on)
    with ThreadPoolExecutor(5) as threads:
        asking = [threads.submit(get, 'If-None-Match: "1"')]
        wait_until(lambda: len(blocks.requests) == 1)
        asking += [threads.submit(get) for _ in range(4)]
        threading.Timer(0.3, go_on.set).start()
    assert {future.result().body for future in asking} == {b"block"}
    assert len(blocks.requests) == 1


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


# Callers. All routes of the policy that have a rule share their answers, so this edge gets another policy.


@pytest.fixture(scope="module")
def private_gateway(blocks_cluster: RawCluster) -> Iterator[Gateway]:
    """A gateway whose edge stores the answers below /chain/blocks for one caller each."""
    settings = {"BLOCKCHAIN_CORE_URL": blocks_cluster.url, "RATE_LIMIT_ENABLED": "false"}
    with running_gateway(edge=True, cache_size="8m", **settings) as gateway:
        assert gateway.edge_log is not None
        assert gateway.nginx is not None
        file = gateway.edge_log.parent / "policy.json"
        policy = json.loads(file.read_text())
        for route in policy["routes"]:
            if route["path"].startswith("chain/blocks"):
                route["cache"]["shared"] = False
        file.write_text(json.dumps(policy))
        reload_edge(gateway)
        yield gateway


def test_callers_share_no_private_answers(private_gateway: Gateway, blocks_cluster: RawCluster, path: str) -> None:
    gateway = private_gateway
    key = gateway.manage("create_api_key", "--email", "demo@lucid.test", "--name", "reader").split()[0]
    callers = [f"Authorization: Bearer {gateway.issue_token(f'{name}@lucid.test')}" for name in ("demo", "operator")]
    callers.append(f"X-API-Key: {key}")

    def ask(caller: str, path: str = path) -> Message:
        with RawClient(gateway.port) as client:
            return client.ask("GET", path, caller)

    for caller in callers:
        wait_until(lambda caller=caller: ask(caller, f"{path}/warm").all("cache-status"))
    blocks_cluster.forget()
    blocks_cluster.behaviour = lambda visit: visit.send(
        ok("Cache-Control: max-age=600", "Vary: Authorization", body=visit.request.all("x-user-id")[0].encode())
    )
    first, second = ([ask(caller) for caller in callers] for _ in range(2))

    assert [cache_status(answer) for answer in (*first, *second)] == ["fwd=miss; stored"] * 3 + ["hit"] * 3
    assert [answer.body for answer in first] == [answer.body for answer in second]
    assert len({answer.body for answer in first}) == 2
    assert len(blocks_cluster.requests) == 3


def test_callers_share_the_answers_of_shared_routes(get: Ask, caching_gateway: Gateway, path: str) -> None:
    get()
    operator = caching_gateway.issue_token("operator@lucid.test")
    caching_gateway.warm(operator, "/chain/height")
    with RawClient(caching_gateway.port, operator) as client:
        assert cache_status(client.ask("GET", path)) == "hit"
