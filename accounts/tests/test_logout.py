"""POST /auth/logout: the login and its access token end immediately."""

from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from accounts.models import IssuedToken, User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code
from lucid_gateway.policy import keys


@pytest.fixture
def elsewhere(owner: User) -> TokenPair:
    """The owner's tokens of another login."""
    return issue_tokens(owner)


def log_out(api: ApiClient, token: str | None, **data: Any) -> Any:
    return api.send("post", "/auth/logout", data, token=token)


def is_live(api: ApiClient, tokens: TokenPair) -> tuple[bool, bool]:
    """Return whether the access and the refresh token work; the latter is used up."""
    access = api.send("get", "/users/me", token=tokens.access).status_code
    refresh = api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh}).status_code
    assert {access, refresh} <= {200, 401}
    return access == 200, refresh == 200


def test_the_login_ends_at_once(api: ApiClient, tokens: TokenPair) -> None:
    response = log_out(api, tokens.access)

    assert response.status_code == 200
    assert response.json() == {"message": "Logged out."}
    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2003"
    assert is_live(api, tokens) == (False, False)


def test_a_body_is_not_needed(api: ApiClient, tokens: TokenPair) -> None:
    headers = {"Authorization": f"Bearer {tokens.access}"}

    assert api.generic("POST", "/api/v1/auth/logout", content_type="", headers=headers).status_code == 200


def test_logging_out_twice_is_refused(api: ApiClient, tokens: TokenPair) -> None:
    log_out(api, tokens.access)

    assert error_code(log_out(api, tokens.access)) == "2003"


def test_the_tokens_of_earlier_refreshes_end_too(api: ApiClient, tokens: TokenPair) -> None:
    new = api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh}).json()
    log_out(api, new["access_token"])

    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2003"
    assert not IssuedToken.objects.live().exists()


def test_other_logins_go_on(api: ApiClient, tokens: TokenPair, elsewhere: TokenPair) -> None:
    log_out(api, tokens.access)

    assert is_live(api, elsewhere) == (True, True)


def test_everywhere_ends_all_of_the_callers_logins(
    api: ApiClient, tokens: TokenPair, elsewhere: TokenPair, node_operator: User
) -> None:
    others = issue_tokens(node_operator)
    assert log_out(api, tokens.access, everywhere=True).status_code == 200

    assert is_live(api, tokens) == is_live(api, elsewhere) == (False, False)
    assert is_live(api, others) == (True, True)


def test_the_login_of_a_given_refresh_token_ends_too(api: ApiClient, tokens: TokenPair, elsewhere: TokenPair) -> None:
    log_out(api, tokens.access, refresh_token=elsewhere.refresh)

    assert is_live(api, tokens) == is_live(api, elsewhere) == (False, False)


@pytest.mark.parametrize("everywhere", [False, True])
def test_another_users_refresh_token_is_refused_and_nothing_ends(
    api: ApiClient, tokens: TokenPair, node_operator: User, everywhere: bool
) -> None:
    others = issue_tokens(node_operator)

    response = log_out(api, tokens.access, refresh_token=others.refresh, everywhere=everywhere)

    assert response.status_code == 401
    assert error_code(response) == "2010"
    assert is_live(api, tokens) == is_live(api, others) == (True, True)


def test_an_access_token_in_place_of_the_refresh_token_is_refused(api: ApiClient, tokens: TokenPair) -> None:
    assert error_code(log_out(api, tokens.access, refresh_token=tokens.access)) == "2010"
    assert is_live(api, tokens) == (True, True)


def test_it_needs_an_access_token(api: ApiClient, tokens: TokenPair) -> None:
    assert error_code(log_out(api, None)) == "2001"
    assert error_code(log_out(api, tokens.refresh)) == "2003"


def test_the_entry_of_a_revoked_access_token_expires_after_it(
    api: ApiClient, tokens: TokenPair, empty_redis: Redis
) -> None:
    log_out(api, tokens.access)

    row = IssuedToken.objects.get(kind="access")
    key = keys.revoked(row.user_id, row.jti)
    assert empty_redis.keys("*:revoked:*") == [key.encode()]
    life = settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES * 60
    assert life < empty_redis.ttl(key) <= life + 3600


@pytest.mark.parametrize("data", [{"everywhere": "perhaps"}, {"refresh_token": None}, {"refresh_token": ""}])
def test_invalid_data_is_refused_and_nothing_ends(api: ApiClient, tokens: TokenPair, data: Any) -> None:
    assert log_out(api, tokens.access, **data).status_code == 422
    assert is_live(api, tokens) == (True, True)
