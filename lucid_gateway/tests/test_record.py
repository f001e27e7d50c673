"""The record of a request: the steps of its decision, in order."""

import pytest
from django.http import HttpRequest

from accounts.models import User
from accounts.tokens.issuing import TokenPair
from accounts.users.locks import lock_user
from conftest import ApiClient
from lucid_gateway.kernel.record import COMMAND, Outcome, RequestRecord, current_record, record_of
from lucid_gateway.policy.errors import NotFound, UpstreamTimeout
from lucid_gateway.policy.reasons import Step
from ratelimit.engine.limiter import Decision, Verdict
from ratelimit.engine.limits import RequestLimit

ADMITTED = [
    Step.PATH, Step.ROUTE, Step.IDENTITY, Step.LOCK, Step.REVOCATION, Step.EPOCH, Step.PERMISSION, Step.RATE_LIMIT,
    Step.ANSWER,
]  # fmt: skip


def record_after(api: ApiClient, path: str, token: str | None = None) -> RequestRecord:
    request: HttpRequest = api.send("get", path, token=token).wsgi_request
    return record_of(request)


def test_an_admitted_request_passes_every_step_in_order(api: ApiClient, tokens: TokenPair) -> None:
    record = record_after(api, "/users/me", tokens.access)

    assert [step.step for step in record.steps] == ADMITTED
    assert {(step.outcome, step.reason) for step in record.steps} == {(Outcome.PASSED, None)}
    assert [step.at for step in record.steps] == sorted(step.at for step in record.steps)
    assert (record.method, record.path, record.route) == ("GET", "/api/v1/users/me", "api/v1/users/me")


@pytest.mark.parametrize(
    ("verdict", "steps"),
    [
        (Verdict.ADMITTED, [Step.RATE_LIMIT, Step.QUOTA, Step.CONCURRENCY]),
        (Verdict.OVER_QUOTA, [Step.RATE_LIMIT, Step.CONCURRENCY]),
    ],
)
def test_a_limit_in_shadow_mode_is_not_a_passed_step(verdict: Verdict, steps: list[Step]) -> None:
    limit = RequestLimit("authenticated", 1, 0, concurrent_requests=1, daily_quota=1, observe_totals=True)

    assert [*Decision(limit, verdict, 0, 0, 1, 1).steps] == steps


def test_a_refusal_ends_the_steps_with_its_reason(api: ApiClient, db: None) -> None:
    record = record_after(api, "/users/me", "not.a.token")

    assert record.logged_steps() == ["path", "route", "identity:claims_invalid"]
    assert record.steps[-1].outcome == Outcome.REFUSED
    assert record.error_code == "LUCID_ERR_2003"


def test_a_locked_account_is_refused_at_the_lock(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    lock_user(owner, reason="a test", by="manage.py")

    assert record_after(api, "/users/me", tokens.access).logged_steps() == [
        "path", "route", "identity", "lock:account_locked"
    ]  # fmt: skip


def test_a_logged_out_token_is_refused_at_the_revocation(api: ApiClient, tokens: TokenPair) -> None:
    api.send("post", "/auth/logout", {}, token=tokens.access)

    assert record_after(api, "/users/me", tokens.access).logged_steps() == [
        "path", "route", "identity", "lock", "revocation:token_revoked"
    ]  # fmt: skip


def test_a_failure_of_the_gateway_or_a_cluster_is_not_a_refusal() -> None:
    record = RequestRecord()

    record.refused(UpstreamTimeout())

    assert record.steps[-1][:3] == (Step.ATTEMPT, Outcome.FAILED, "instance_timeout")


def test_an_error_that_a_step_has_noted_is_not_noted_twice() -> None:
    record = RequestRecord()

    record.ended("not_found")
    record.refused(NotFound())

    assert record.logged_steps() == ["answer:not_found"]


def test_outside_requests_the_record_is_that_of_a_command(api: ApiClient, db: None) -> None:
    record_after(api, "/meta/info")

    assert current_record() is COMMAND
    assert COMMAND.steps == []
