"""Leases of requests in progress: renewed while they are held, gone after a release or the end of their worker."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import RequestFactory
from redis import Redis

from conftest import ApiClient, TokenPair, User, error_code
from lucid_gateway.kernel.record import record_of
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.policy import keys
from ratelimit.engine.leases import LEASE_MS, Lease, RequestLeases, request_leases, write
from ratelimit.engine.limiter import admit
from ratelimit.engine.limits import RequestLimit
from ratelimit.middleware import RateLimitHeadersMiddleware
from ratelimit.models import LimitRule
from ratelimit.rules import rules_cache
from ratelimit.throttling import record_decision
from testing.waiting import wait_until

ONE, TWO = Lease("user:1", "one"), Lease("user:1", "two")
KEY = keys.concurrent("user:1")
AT_ONCE = RequestLimit("at-once", 1_000, 0, concurrent_requests=2)


@pytest.fixture
def quick() -> Iterator[RequestLeases]:
    """Leases that are renewed every few milliseconds."""
    found = RequestLeases(every=0.01)
    yield found
    found.held.clear()
    assert found.loop.wait(60)


def ms_left(redis: Redis, lease: Lease) -> float:
    """Return the milliseconds until the lease expires; negative if it has expired or does not exist."""
    seconds, microseconds = redis.time()
    score = redis.zscore(KEY, lease.lease_id)
    return -1.0 if score is None else float(score) - seconds * 1_000 - microseconds / 1_000


def about_to_end(redis: Redis, *leases: Lease) -> None:
    """Store the leases as they are shortly before they expire."""
    seconds, _ = redis.time()
    for lease in leases:
        redis.zadd(KEY, {lease.lease_id: seconds * 1_000 + 2_000})
    redis.pexpire(KEY, 2_000)


def test_held_leases_are_renewed(empty_redis: Redis, quick: RequestLeases) -> None:
    about_to_end(empty_redis, ONE, TWO)
    quick.hold(ONE)

    wait_until(lambda: ms_left(empty_redis, ONE) > LEASE_MS - 2_000)

    assert ms_left(empty_redis, TWO) <= 2_000
    assert empty_redis.pttl(KEY) > LEASE_MS - 2_000


def test_released_leases_are_not_renewed(empty_redis: Redis, quick: RequestLeases) -> None:
    about_to_end(empty_redis, ONE, TWO)
    quick.hold(ONE)
    quick.hold(TWO)

    quick.release(ONE)

    assert empty_redis.zrange(KEY, 0, -1) == [b"two"]
    wait_until(lambda: ms_left(empty_redis, TWO) > LEASE_MS - 2_000)
    assert empty_redis.zrange(KEY, 0, -1) == [b"two"]


def test_a_lease_that_is_released_during_a_renewal_is_not_added_again(empty_redis: Redis) -> None:
    about_to_end(empty_redis, TWO)

    write(empty_redis, [ONE, TWO])

    assert empty_redis.zrange(KEY, 0, -1) == [b"two"]


def test_one_thread_renews_all_leases_and_ends_with_the_last(quick: RequestLeases) -> None:
    for number in range(50):
        quick.hold(Lease("user:1", str(number)))
    assert len([thread for thread in threading.enumerate() if thread.name == "leases"]) <= 2  # the process has one, too

    for number in range(50):
        quick.release(Lease("user:1", str(number)))
    assert quick.loop.wait(60)


def test_renewal_starts_again_after_a_time_without_leases(empty_redis: Redis, quick: RequestLeases) -> None:
    quick.hold(ONE)
    quick.release(ONE)
    assert quick.loop.wait(60)
    about_to_end(empty_redis, TWO)

    quick.hold(TWO)

    wait_until(lambda: ms_left(empty_redis, TWO) > LEASE_MS - 2_000)


def test_renewal_goes_on_after_an_outage_of_redis(empty_redis: Redis, quick: RequestLeases) -> None:
    about_to_end(empty_redis, ONE)
    breaker.outage = Outage()
    quick.hold(ONE)
    time.sleep(0.05)
    breaker.outage = None

    wait_until(lambda: ms_left(empty_redis, ONE) > LEASE_MS - 2_000)


def test_without_redis_a_released_lease_expires(empty_redis: Redis, quick: RequestLeases) -> None:
    about_to_end(empty_redis, ONE)
    quick.hold(ONE)
    breaker.outage = Outage()

    quick.release(ONE)

    assert quick.held == set()
    assert empty_redis.zcard(KEY) == 1


# In a request


def through(view: Callable[[HttpRequest], HttpResponseBase]) -> HttpResponseBase:
    """Send a request with a lease through the middleware to a view."""

    def admitted(request: HttpRequest) -> HttpResponseBase:
        record_decision(request, admit(AT_ONCE, "user:1"))
        return view(request)

    return RateLimitHeadersMiddleware(admitted)(RequestFactory().get("/"))


def end(response: HttpResponseBase) -> None:
    """Close the answer as the server does, but do not close the database connections."""
    request_finished.disconnect(close_old_connections)
    response.close()
    request_finished.connect(close_old_connections)


def under_way() -> int:
    return len([lease for lease in request_leases.held if lease.subject == "user:1"])


def test_a_request_holds_its_lease_while_its_view_runs() -> None:
    seen = []

    def view(_: HttpRequest) -> HttpResponse:
        seen.append(under_way())
        return HttpResponse()

    response = through(view)

    assert (seen, under_way()) == ([1], 1)
    end(response)
    assert under_way() == 0
    assert admit(AT_ONCE, "user:1").admitted


def test_a_streaming_answer_holds_its_lease_until_it_ends(empty_redis: Redis) -> None:
    response = through(lambda _: StreamingHttpResponse(iter([b"one", b"two"])))
    assert isinstance(response, StreamingHttpResponse)

    for _ in response:
        assert (under_way(), empty_redis.zcard(KEY)) == (1, 1)
    end(response)

    assert (under_way(), empty_redis.zcard(KEY)) == (0, 0)


def test_an_abandoned_answer_releases_its_lease(empty_redis: Redis) -> None:
    response = through(lambda _: StreamingHttpResponse(iter([b"one", b"two"])))
    assert isinstance(response, StreamingHttpResponse)
    next(iter(response))

    end(response)  # as the server does when the client has left

    assert (under_way(), empty_redis.zcard(KEY)) == (0, 0)


def test_a_second_decision_keeps_the_lease_of_the_first(empty_redis: Redis) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        record_of(request).limits = admit(RequestLimit("other", 1, 0), "user:2")
        return HttpResponse()

    end(through(view))

    assert (under_way(), empty_redis.zcard(KEY)) == (0, 0)


@pytest.fixture
def one_at_a_time(owner: User) -> None:
    """The owner may have one request in progress."""
    LimitRule.objects.create(tier="all", subject=f"user:{owner.pk}", concurrent_requests=1)
    rules_cache.load()


@pytest.mark.parametrize(
    "case",
    [
        ("get", "/users/me", 200),
        ("get", "/admin/users", 403),
        ("delete", "/users/me/api-keys", 405),
        ("post", "/users/me/api-keys", 422),
        ("get", "/chain/info", 502),
        ("post", "/sessions/1/chunks", 415),
        ("get", "/users/me/none", 404),
    ],
)
def test_every_answer_releases_its_lease(
    api: ApiClient, one_at_a_time: None, tokens: TokenPair, case: tuple[str, str, int]
) -> None:
    method, path, status = case
    data = {} if method == "post" else None
    responses = [api.send(method, path, data, token=tokens.access) for _ in range(3)]

    assert [response.status_code for response in responses] == [status] * 3


def test_a_second_concurrent_request_is_refused(
    api: ApiClient, one_at_a_time: None, owner: User, tokens: TokenPair
) -> None:
    admit(RequestLimit("first", 9, 0, concurrent_requests=1), keys.user(owner.pk))

    response = api.send("get", "/users/me", token=tokens.access)

    assert (response.status_code, error_code(response), response["Retry-After"]) == (429, "3005", "1")
