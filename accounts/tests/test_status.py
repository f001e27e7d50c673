"""GET /auth/status: who the caller is."""

from datetime import datetime, timedelta

import jwt
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.users.locks import lock_user
from conftest import ApiClient, error_code
from lucid_gateway.policy.roles import PERMISSIONS, Role


def test_a_token_shows_the_caller_the_permissions_and_the_expiry(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    response = api.send("get", "/auth/status", token=tokens.access)

    assert response.status_code == 200
    claims = jwt.decode(tokens.access, options={"verify_signature": False})
    body = response.json()
    assert datetime.fromisoformat(body.pop("expires_at")).timestamp() == claims["exp"]
    assert body == {
        "authenticated": True, "user_id": str(owner.pk), "role": "user", "permissions": sorted(PERMISSIONS[Role.USER]),
        "method": "access_token", "session_id": claims["family"],
    }  # fmt: skip


def test_staff_have_more_permissions(api: ApiClient, super_admin: User) -> None:
    body = api.send("get", "/auth/status", token=issue_tokens(super_admin).access).json()

    assert body["role"] == "super_admin"
    assert set(body["permissions"]) > set(PERMISSIONS[Role.USER])


def test_an_api_key_shows_its_kind_and_its_own_permissions(api: ApiClient, owner: User) -> None:
    ends = timezone.now() + timedelta(days=1)
    _, text = create_api_key(owner, name="script", permissions=["blockchain:read", "user:read"], expires_at=ends)
    body = api.send("get", "/auth/status", headers={"X-API-Key": text}).json()

    assert body["method"] == "api_key"
    assert body["permissions"] == ["blockchain:read", "user:read"]
    assert body["session_id"] is None
    assert body["expires_at"][:19] == ends.isoformat()[:19]


def test_a_key_without_an_expiry_shows_none(api: ApiClient, owner: User) -> None:
    _, text = create_api_key(owner, name="script", permissions=["user:read"])

    assert api.send("get", "/auth/status", headers={"X-API-Key": text}).json()["expires_at"] is None


def test_a_key_that_may_not_read_its_owner_is_refused(api: ApiClient, owner: User) -> None:
    _, text = create_api_key(owner, name="script", permissions=["blockchain:read"])

    assert error_code(api.send("get", "/auth/status", headers={"X-API-Key": text})) == "2004"


def test_anonymous_and_locked_callers_get_401(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    assert error_code(api.send("get", "/auth/status")) == "2001"
    assert error_code(api.send("get", "/auth/status", token="a.b.c")) == "2003"
    lock_user(owner, reason="", by="")

    assert error_code(api.send("get", "/auth/status", token=tokens.access)) == "2005"


def test_it_can_only_be_read(api: ApiClient, tokens: TokenPair) -> None:
    response = api.send("post", "/auth/status", {}, token=tokens.access)

    assert (response.status_code, error_code(response)) == (405, "4003")
    assert response["Allow"] == "GET, HEAD, OPTIONS"
