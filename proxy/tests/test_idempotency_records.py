"""The records of requests with an Idempotency-Key: who may claim, finish and release them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from pytest_django import Settings
from redis import Redis

from accounts.tokens.issuing import TokenPair
from accounts.tokens.revocation.rebuild import rebuild
from conftest import ApiClient
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.redis.server import MAX_CONNECTIONS
from lucid_gateway.policy import errors, keys
from lucid_gateway.policy.roles import Role
from lucid_gateway.policy.routes import Route, Timeouts
from proxy.connection.upstream import ConnectTimeout, NoAnswer
from proxy.forwarding.idempotency import answer_once, lease_seconds
from proxy.forwarding.idempotency_records import NOT_STORED, STORED, UNKNOWN, FirstAnswer, IdempotencyRecord
from proxy.tests.test_idempotency import stalled
from testing.redis_monitor import watched_redis
from testing.waiting import wait_until

ANSWER = FirstAnswer(201, "Made It", (("Set-Cookie", "a=1"), ("set-cookie", "b=2")), b"\x00\xff\n\n")
ROUTE = Route("wallets", ("POST",), "tron_payment", "/api/v1/wallets", "wallet:write", idempotency_key=True)
CALLER = Caller("6f4b1d0e-0000-4000-8000-000000000000", Role.USER, "jti", "family", 0)


def record(fingerprint: str = "f") -> IdempotencyRecord:
    """Return the record of another request with the same key."""
    return IdempotencyRecord(keys.idempotent_request("user:1", "k"), fingerprint)


def outcome(one: IdempotencyRecord) -> Any:
    with pytest.raises(errors.RequestInProgress) as refused:
        one.claim(60)
    return refused.value.details["outcome"]


def test_an_answer_survives_sealing_unchanged() -> None:
    first = record()
    assert first.claim(60) is None
    first.finish(STORED, ANSWER.sealed())
    assert record().claim(60) == ANSWER


def test_an_owner_that_missed_the_reply_may_claim_again() -> None:
    first = record()
    assert [first.claim(60), first.claim(60)] == [None, None]
    assert outcome(record()) == "under_way"


def test_only_the_owner_may_finish() -> None:
    record().claim(60)
    intruder = record()
    intruder.finish(STORED, ANSWER.sealed())
    intruder.release()
    assert outcome(record()) == "under_way"


def test_after_the_lease_the_outcome_is_unknown_until_the_owner_finishes() -> None:
    first = record()
    first.claim(0)
    assert outcome(record()) == "unknown"
    first.finish(STORED, ANSWER.sealed())
    assert record().claim(60) == ANSWER


def test_a_released_record_may_be_claimed_again() -> None:
    first, second = record(), record()
    first.claim(60)
    first.release()
    assert second.claim(60) is None
    first.finish(UNKNOWN)
    assert outcome(record()) == "under_way"


@pytest.mark.parametrize("state", [UNKNOWN, NOT_STORED])
def test_a_record_lost_by_redis_is_rewritten_with_an_expiry(empty_redis: Redis, state: str) -> None:
    first = record()
    first.claim(60)
    empty_redis.flushall()
    first.finish(state, "")
    assert outcome(record()) == state
    assert empty_redis.ttl(first.key) > 86_390


def test_a_different_fingerprint_is_a_conflict() -> None:
    record().claim(60)
    with pytest.raises(errors.InvalidRequest):
        record("g").claim(60)


def test_a_request_is_not_repeated_if_its_answer_cannot_be_decrypted(settings: Settings) -> None:
    first = record()
    first.claim(60)
    first.finish(STORED, ANSWER.sealed())
    settings.SECRET_KEY = "another key of this installation 0123456789"
    assert outcome(record()) == "not_stored"


def test_a_claim_that_may_have_reached_redis_is_released(settings: Settings, empty_redis: Redis) -> None:
    record().claim(60)
    empty_redis.flushall()
    with stalled(empty_redis, settings.ENV.REDIS_TIMEOUT_SECONDS * 1.5), pytest.raises(errors.ServiceUnavailable):
        record().claim(60)

    wait_until(lambda: not any(thread.name == "idempotency-release" for thread in threading.enumerate()))
    assert record().claim(60) is None


def test_the_lease_outlasts_the_longest_request() -> None:
    route = replace(ROUTE, timeouts=Timeouts(connect=2, read=30, total=60), attempts=3)
    assert lease_seconds(route) == 96


def post() -> HttpRequest:
    return RequestFactory().post("/api/v1/wallets", b"{}", content_type="application/json")


def send_once(send: Callable[[], Any]) -> Any:
    return answer_once(post(), ROUTE, CALLER, key="k", target="/api/v1/wallets", send=send)


def failing(error: BaseException) -> Callable[[], NoReturn]:
    def send() -> NoReturn:
        raise error

    return send


@pytest.mark.parametrize(
    "error",
    [
        errors.UpstreamUnreachable(), errors.CircuitOpen(), errors.ClusterInMaintenance(), errors.ServiceUnavailable(),
        ConnectTimeout(2.0),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_request_that_was_certainly_not_sent_may_be_repeated(empty_redis: Redis, error: errors.GatewayError) -> None:
    for _ in range(2):
        with pytest.raises(type(error)):
            send_once(failing(error))
    assert list(empty_redis.scan_iter("*:idempotency:*")) == []


@pytest.mark.parametrize(
    "error",
    [errors.UpstreamTimeout(), errors.BadUpstreamAnswer(), NoAnswer(), errors.BadRequest(), OSError(), SystemExit()],
    ids=lambda error: type(error).__name__,
)
def test_a_request_that_may_have_been_sent_is_not_repeated(error: BaseException) -> None:
    with pytest.raises(type(error)):
        send_once(failing(error))
    with pytest.raises(errors.RequestInProgress) as refused:
        send_once(failing(AssertionError("sent twice")))
    assert refused.value.details == {"outcome": "unknown"}
    assert refused.value.reason == "idempotency_no_answer"


def test_requests_without_a_key_cost_no_extra_redis_call(api: ApiClient, tokens: TokenPair) -> None:
    rebuild()
    for _ in range(MAX_CONNECTIONS):  # all connections are open, the script is loaded
        api.send("post", "/wallets", {}, token=tokens.access)
    with watched_redis() as commands:
        api.send("post", "/wallets", {}, token=tokens.access)

    assert [command.split()[0] for command in commands] == ["EVALSHA"]
