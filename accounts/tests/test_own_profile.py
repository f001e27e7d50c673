"""GET /users/me."""

from accounts.models import User
from accounts.tests.test_users import FIELDS
from accounts.tokens import TokenPair
from conftest import ApiClient, error_code


def test_the_caller_sees_their_own_account(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    response = api.send("get", "/users/me", token=tokens.access)

    assert response.status_code == 200
    body = response.json()
    assert set(body) == FIELDS
    assert (body["user_id"], body["email"], body["role"]) == (str(owner.pk), "owner@example.org", "user")
    assert body["created_at"].endswith("Z")


def test_it_takes_an_access_token(api: ApiClient, db: None) -> None:
    response = api.send("get", "/users/me")

    assert response.status_code == 401
    assert error_code(response) == "2001"
    assert response["WWW-Authenticate"] == "Bearer"


def test_an_account_that_is_gone_is_nobodys(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    owner.delete()

    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2001"


def test_a_trailing_slash_is_accepted(api: ApiClient, tokens: TokenPair) -> None:
    assert api.send("get", "/users/me/", token=tokens.access).status_code == 200


def test_what_the_caller_was_told_of_the_limit(api: ApiClient, tokens: TokenPair) -> None:
    response = api.send("get", "/users/me", token=tokens.access)

    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("1000", "999")
