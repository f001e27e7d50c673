"""The row that is made of a finished request."""

import json
from datetime import UTC, datetime

import pytest

from lucid_gateway.explorer.models import key_at, moment_of
from lucid_gateway.explorer.rows import address_forms, row_of
from lucid_gateway.explorer.tests.stage import finished
from lucid_gateway.kernel.record import AttemptRecord, Claim
from lucid_gateway.policy.errors import InsufficientPermissions, InvalidRequest, RateLimited
from lucid_gateway.policy.reasons import Step
from ratelimit.engine.limiter import Decision, Verdict
from ratelimit.engine.limits import RequestLimit


def test_a_row_has_what_the_record_knows() -> None:
    request = finished(RateLimited(retry_after=7, details={"tier": "public"}), claim=Claim("token", "j", "u", "user"))

    row = row_of(request)

    assert (row.request_id, row.method, row.path) == ("request-1", "GET", "/api/v1/chain/blocks")
    assert (row.status, row.status_class, row.error_code, row.reason) == (429, 4, "LUCID_ERR_3001", "tier_exhausted")
    assert (row.credential_kind, row.credential_id, row.user_id, row.role) == ("token", "j", "u", "user")
    assert (row.address, row.network, row.user_agent) == ("198.51.100.7", "198.51.100.0/24", "pytest/1")
    assert (row.duration_ms, row.response_bytes) == (250.0, 12)
    assert abs(row.started_at.timestamp() - (request.ended_at - 0.25)) < 0.001
    assert row.facts == {"retry_after": 7, "tier": "public"}


def test_steps_and_attempts_keep_their_order_and_times() -> None:
    request = finished()
    request.record.passed(Step.PATH, Step.ROUTE)
    request.record.attempts.append(AttemptRecord("http://one:1", connect_ms=0.4, outcome="instance_no_answer"))
    request.record.attempts.append(AttemptRecord("http://two:1", connect_ms=0.3, first_byte_ms=2.5, outcome="answered"))

    row = row_of(request)

    assert [step["step"] for step in row.details["steps"]] == ["path", "route"]
    assert all(step["ms"] >= 0 and step["outcome"] == "passed" for step in row.details["steps"])
    assert [attempt["outcome"] for attempt in row.details["attempts"]] == ["instance_no_answer", "answered"]
    assert row.instance == "http://two:1"
    json.dumps(row.details)


def test_a_decision_of_the_limiter_is_kept_with_its_numbers() -> None:
    request = finished()
    limit = RequestLimit("authenticated", 1000, 2000, rule="user:x")
    request.record.limits = Decision(limit, Verdict.OVER_LIMIT, 0, 0, 12, 1_800_000_000, refused=3)

    assert row_of(request).limits.items() >= {
        "tier": "authenticated", "limit": 1000, "burst": 2000, "remaining": 0, "refused": 3, "rule": "user:x",
        "resets_at": 1_800_000_000,
    }.items()  # fmt: skip


def test_a_missing_permission_is_a_fact() -> None:
    row = row_of(finished(InsufficientPermissions(details={"permission": "blockchain:write"})))

    assert row.facts == {"permission": "blockchain:write"}


def test_of_invalid_fields_only_names_and_codes_are_kept() -> None:
    problems = [{"field": "name", "message": '"s3cret" is not a valid choice.', "code": "invalid_choice"}]

    row = row_of(finished(InvalidRequest(details={"validation_errors": problems})))

    assert row.facts == {"fields": [["name", "invalid_choice"]]}


def test_texts_of_clients_are_cut_and_printable() -> None:
    request = finished()
    request.record.path = "/" + "a" * 600 + "?token=secret"
    request.record.user_agent = "b\0\x1b[31m" + "c" * 300

    row = row_of(request)

    assert len(row.path) == 500
    assert "secret" not in row.path
    assert row.user_agent.startswith("b\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31mc")
    assert len(row.user_agent) == 200


@pytest.mark.parametrize(
    ("text", "shown", "network"),
    [
        ("192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::9", "2001:db8:1:2::9", "2001:db8:1::/48"),
        ("", "", ""),
    ],
)
def test_an_address_has_a_network(text: str, shown: str, network: str) -> None:
    found = address_forms(text)

    assert (found.text, found.network) == (shown, network)
    assert len(found.key) == (32 if text else 0)


def test_keys_sort_by_time() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 2000, tzinfo=UTC)

    assert str(key_at(early)) < str(key_at(early, random=True)) < str(key_at(late))
    assert moment_of(key_at(late, random=True)) == late
