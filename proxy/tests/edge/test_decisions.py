"""The edge decides as the gateway does: whom it serves and refuses, how exactly it counts, how soon it follows."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from accounts.models import User
from accounts.tests.forge import forge
from proxy.tests.edge.conftest import Stage, printed, shell
from testing.gateway import running_gateway
from testing.http.client import RawClient
from testing.http.cluster import OK, RawCluster, Visit, saying
from testing.http.messages import Message
from testing.minutes import in_one_minute
from testing.parallel import in_parallel
from testing.waiting import wait_until

SOON_SECONDS = 2.0
# What a busy machine adds to it.
ROOM_SECONDS = 10.0


def test_a_request_of_a_known_caller_is_decided_at_the_edge(stage: Stage) -> None:
    answer = stage.ask()

    (line,) = stage.lines(answer.header("X-Request-ID"))
    assert (answer.status, line["plane"], line["outcome"]) == (200, "edge", "complete")
    assert len(stage.wallets.requests) == 1


def test_both_planes_write_the_same_fields_into_the_log(stage: Stage) -> None:
    (at_edge,) = stage.lines(stage.ask("/wallets/1").header("X-Request-ID"))
    (at_gateway,) = stage.lines(stage.ask("/wallets/1/").header("X-Request-ID"))  # a slash at the end is the gateway's

    assert (at_edge["plane"], at_gateway["plane"]) == ("edge", "gateway")
    assert at_edge.keys() == at_gateway.keys()
    differing = {name for name in at_edge if at_edge[name] != at_gateway[name]}
    assert differing <= {"plane", "request_id", "trace_id", "timestamp", "duration_ms", "upstream_ms", "path"}


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/wallets/", []),
        ("GET", "/wallets/%41", []),
        ("GET", "/wallets/a;b", []),
        ("GET", "/users/me", []),
        ("GET", "/nowhere", []),
        ("GET", "/wallets", ["Connection: x-a"]),
        ("POST", "/wallets", ["Idempotency-Key: abcdefgh12345678"]),
        ("OPTIONS", "/wallets", []),
        ("GET", "/nodes", []),
    ],
)
def test_everything_that_is_not_plain_is_left_to_the_gateway(
    stage: Stage, method: str, path: str, fields: list[str]
) -> None:
    answer = stage.ask(path, *fields, method=method, body=b"" if method == "POST" else None)

    assert stage.plane(answer) == "gateway"


def test_a_caller_without_the_permission_is_refused_by_the_gateway(stage: Stage) -> None:
    answer = stage.ask("/chain/transactions", method="POST", body=b"{}")

    assert (answer.status, answer.code, stage.plane(answer)) == (403, "2004", "gateway")


# Secrets between the planes.


def test_no_answer_shows_what_the_edge_was_taught(stage: Stage) -> None:
    token = stage.gateway.issue_token("operator@lucid.test")

    answers = [stage.ask(path, token=token) for path in ("/wallets", "/wallets", "/users/me")]
    answers.append(stage.ask(token="x"))

    assert not [name for answer in answers for name, _ in answer.fields if name.lower().startswith("x-lucid-")]


def test_a_cluster_cannot_teach(stage: Stage) -> None:
    lesson = b'X-Lucid-Caller: {"gateway":"x","until":9999999999}\r\n'
    stage.wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + lesson + b"\r\nok")

    answers = [stage.ask(), stage.ask("/wallets/")]

    assert [stage.plane(answer) for answer in answers] == ["edge", "gateway"]
    assert [answer.all("X-Lucid-Caller") for answer in answers] == [[], []]
    assert stage.plane(stage.ask()) == "edge"  # it still knows the right gateway


@pytest.mark.parametrize("path", ["/wallets", "/wallets/"])
def test_fields_of_the_planes_do_not_pass_from_a_client_to_a_cluster(stage: Stage, path: str) -> None:
    stage.ask(path, "X-Lucid-Edge: guess", "X-Lucid-Caller: {}", "X-Lucid-Other: 1")

    assert not [name for name, _ in stage.wallets.request.fields if name.lower().startswith("x-lucid-")]


def test_a_client_cannot_use_the_secret_of_the_edge(stage: Stage) -> None:
    token = stage.gateway.issue_token("admin@lucid.test")
    fields = [f"X-Lucid-Edge: {stage.gateway.env['EDGE_SECRET']}"]

    answer = stage.ask("/users/me", *fields, token=token)

    assert answer.status == 200
    assert answer.all("X-Lucid-Caller") == []


# Revocation: as soon as at the gateway.


def test_a_revoked_token_is_refused_with_the_next_request(stage: Stage) -> None:
    token = stage.taught("demo@lucid.test")
    assert stage.ask("/auth/logout", method="POST", token=token).status == 200

    answer = stage.ask(token=token)

    assert (answer.status, answer.code) == (401, "2003")


def test_a_locked_user_is_refused_with_the_next_request(stage: Stage) -> None:
    token = stage.taught("operator@lucid.test")
    stage.gateway.manage("lock_user", "--email", "operator@lucid.test")
    try:
        answer = stage.ask(token=token)
    finally:
        stage.gateway.manage("unlock_user", "--email", "operator@lucid.test")

    assert (answer.status, answer.code) in {(401, "2005"), (401, "2003")}


def test_a_revoked_api_key_is_refused_with_the_next_request(stage: Stage) -> None:
    code = """
import json
from accounts.models import User
from accounts.api_keys import create_api_key
key, text = create_api_key(User.objects.get(email="demo@lucid.test"), name="k", permissions=["wallet:read"])
print(json.dumps([key.key_id, text]))
"""
    key_id, text = printed(stage.gateway, code)

    def ask() -> tuple[int, str]:
        with RawClient(stage.gateway.port) as client:
            answer = client.ask("GET", "/wallets", f"X-API-Key: {text}")
        return answer.status, stage.plane(answer)

    assert wait_until(lambda: ask()[1] == "edge")
    assert stage.ask(f"/users/me/api-keys/{key_id}", method="DELETE").status == 204
    assert ask()[0] == 401


def test_a_retired_signing_key_holds_at_the_edge_within_two_seconds(stage: Stage) -> None:
    token, go_on = stage.taught("operator@lucid.test"), threading.Event()
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = forge(User(pk=claims["user_id"]), claims={"epoch": claims["epoch"]})  # with the stolen key

    def behave(visit: Visit) -> None:
        if visit.request.target.endswith("/held"):
            go_on.wait(60)
        visit.send(OK)

    stage.wallets.behaviour = behave
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(stage.ask, "/wallets/held", token=forged)
        wait_until(lambda: any(request.target.endswith("/held") for request in stage.wallets.requests))
        stage.gateway.manage("rotate_jwt_keys", "--retire-now", "--no-input")

        for text in (token, forged):
            wait_until(lambda text=text: stage.ask(token=text).status == 401, SOON_SECONDS + ROOM_SECONDS)  # type: ignore[misc]
        go_on.set()
        assert held.result().status == 200  # it began before; but its answer teaches nothing that still holds
    assert [stage.ask(token=forged).status for _ in range(5)] == [401] * 5


# Limits, over both planes together.

RULE = """
from accounts.models import User
from ratelimit.ruling import set_limit_rule
user = User.objects.get(email="{email}")
set_limit_rule(tier="{tier}", subject=f"user:{{user.pk}}", by="test", {numbers})
"""


@pytest.fixture(scope="module")
def limited() -> Iterator[Stage]:
    """A gateway with low limits behind an edge that knows it."""
    limits = {"RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": "40", "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": "10"}
    with RawCluster() as wallets, running_gateway(edge=True, TRON_PAYMENT_URL=wallets.url, **limits) as gateway:
        stage = Stage(gateway, wallets, wallets, "")
        stage.taught("admin@lucid.test")
        yield stage


def test_exactly_limit_and_burst_pass_over_both_planes(limited: Stage) -> None:
    emails = iter(["demo@lucid.test", "operator@lucid.test", "admin@lucid.test"])

    def fire() -> tuple[set[int], list[str]]:
        token = limited.gateway.issue_token(next(emails))

        def ask(number: int) -> list[tuple[int, str]]:
            with RawClient(limited.gateway.port, token) as client:
                answers = [client.ask("GET", "/wallets" if (number + turn) % 2 else "/wallets/") for turn in range(10)]
            return [(answer.status, answer.header("X-Request-ID")) for answer in answers]

        found = [one for answers in in_parallel(12, ask) for one in answers]
        planes = {line["request_id"]: line["plane"] for line in limited.gateway.access_lines()}
        admitted = [planes[request_id] for status, request_id in found if status == 200]
        return {status for status, _ in found}, admitted

    statuses, admitted = in_one_minute(fire, 20)

    assert statuses == {200, 429}
    assert len(admitted) == 50
    assert set(admitted) == {"edge", "gateway"}


def test_a_request_that_waits_for_a_lesson_is_counted_once(limited: Stage) -> None:
    token = limited.taught("admin@lucid.test")
    shell(limited.gateway, RULE.format(tier="authenticated", email="admin@lucid.test", numbers="limit=100000"))
    # The rule is published within two seconds; then the gates are closed for what the edge knows of the caller.
    time.sleep(SOON_SECONDS)

    def fire() -> tuple[int, int]:
        def ask(_: int) -> int:
            return limited.ask(token=token).status

        before = counted(limited)
        assert set(in_parallel(40, ask)) == {200}
        return before, counted(limited)

    before, after = in_one_minute(fire, 20)
    assert after - before == 40


def counted(stage: Stage) -> int:
    """Return how many requests of the tier Redis has counted in this minute, over all users."""
    redis, minute = stage.gateway.redis(), time.time() // 60 * 60
    buckets = [redis.hmget(key, "w", "n") for key in redis.scan_iter("*:rate:authenticated")]
    return sum(int(count) for start, count in buckets if int(start) == minute)


def test_over_the_limit_the_edge_answers_as_the_gateway_does(limited: Stage) -> None:
    token = limited.gateway.issue_token("operator@lucid.test")
    shell(limited.gateway, RULE.format(tier="authenticated", email="operator@lucid.test", numbers="limit=1, burst=0"))
    found: dict[str, Message] = {}

    def refused_by_both() -> bool:
        for path in ("/wallets", "/wallets/"):
            answer = limited.ask(path, token=token)
            if answer.status == 429:
                found[limited.plane(answer)] = answer
        return found.keys() == {"edge", "gateway"}

    wait_until(refused_by_both)
    edge, gateway = found["edge"], found["gateway"]
    assert edge.code == gateway.code == "3001"
    assert edge.error().keys() == gateway.error().keys()
    assert edge.error()["details"].keys() == gateway.error()["details"].keys()
    assert {name.lower() for name, _ in edge.fields} == {name.lower() for name, _ in gateway.fields}


def test_a_new_limit_holds_at_the_edge_within_two_seconds(limited: Stage) -> None:
    token = limited.taught("admin@lucid.test")
    shell(limited.gateway, RULE.format(tier="all", email="admin@lucid.test", numbers="daily_quota=1"))

    wait_until(lambda: limited.ask(token=token).status == 429, SOON_SECONDS + ROOM_SECONDS, every=0.05)
    answer = limited.ask(token=token)

    assert (answer.status, answer.code) == (429, "3002")


def test_a_caller_with_a_limit_on_concurrent_requests_stays_at_the_gateway(limited: Stage) -> None:
    token = limited.taught("demo@lucid.test")
    shell(limited.gateway, RULE.format(tier="all", email="demo@lucid.test", numbers="concurrent_requests=3"))

    wait_until(lambda: limited.plane(limited.ask(token=token)) == "gateway", SOON_SECONDS + ROOM_SECONDS, every=0.05)

    assert {limited.plane(limited.ask(token=token)) for _ in range(5)} == {"gateway"}
