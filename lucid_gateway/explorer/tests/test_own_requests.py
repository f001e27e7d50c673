"""GET /users/me/requests: what a caller sees of the own refused requests."""

import json
from typing import Any

import pytest

from accounts.models import User
from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code
from lucid_gateway.explorer.rows import row_of
from lucid_gateway.explorer.tests.stage import finished, kept
from lucid_gateway.kernel.record import AttemptRecord, Claim
from lucid_gateway.policy.errors import GatewayError, InsufficientPermissions, RateLimited, TokenInvalid
from ratelimit.engine.limiter import Decision, Verdict
from ratelimit.engine.limits import RequestLimit


def own(user: User, kind: str = "token") -> Claim:
    return Claim(kind, "a-jti", str(user.pk), "user")


def mine(api: ApiClient, tokens: TokenPair) -> list[dict[str, Any]]:
    response = api.send("get", "/users/me/requests", token=tokens.access)
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["requests"]
    return found


def test_only_own_refused_requests_are_listed(api: ApiClient, owner: User, admin: User, tokens: TokenPair) -> None:
    row_of(finished(InsufficientPermissions(), claim=own(owner))).save()
    row_of(finished(InsufficientPermissions(), claim=own(admin))).save()
    row_of(finished(claim=own(owner))).save()  # from the sample
    row_of(finished(TokenInvalid(), claim=own(owner, "login"))).save()  # somebody guessed at the account

    assert [row["reason"] for row in mine(api, tokens)] == ["permission_missing"]


@pytest.mark.parametrize("error", [TokenInvalid(reason="token_revoked"), TokenInvalid(reason="signature_invalid")])
def test_reasons_for_staff_are_hidden(api: ApiClient, owner: User, tokens: TokenPair, error: GatewayError) -> None:
    row_of(finished(error, claim=own(owner), locked_by="boss@example.org")).save()

    (row,) = mine(api, tokens)

    assert (row["error_code"], row["reason"]) == ("LUCID_ERR_2003", None)
    assert error.reason not in json.dumps(row)
    assert "boss" not in json.dumps(row)


def test_instances_and_rules_are_hidden(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    request = finished(RateLimited(retry_after=7), claim=own(owner), network="203.0.113.0/24")
    limit = RequestLimit("authenticated", 10, 20, rule="user:secret-rule")
    request.record.limits = Decision(limit, Verdict.OVER_LIMIT, 0, 0, 7, 1_800_000_000)
    request.record.attempts.append(AttemptRecord("http://inside:1"))
    row_of(request).save()

    (row,) = mine(api, tokens)

    assert "attempts" not in row
    assert row["steps"][-1]["details"].items() >= {"tier": "authenticated", "limit": 10, "retry_after": 7}.items()
    for hidden in ("inside", "secret-rule", "203.0.113"):
        assert hidden not in json.dumps(row)


def test_filters_of_staff_do_not_apply(api: ApiClient, owner: User, admin: User, tokens: TokenPair) -> None:
    kept(reason="not_found", status=404, user_id=str(admin.pk), credential_kind="token")

    response = api.get(
        "/api/v1/users/me/requests", {"user": admin.email}, headers={"Authorization": f"Bearer {tokens.access}"}
    )

    assert response.json()["requests"] == []


def test_a_caller_must_sign_in(api: ApiClient, db: None) -> None:
    assert error_code(api.send("get", "/users/me/requests")) == "2001"
