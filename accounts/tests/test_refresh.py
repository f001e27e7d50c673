"""POST /auth/refresh: a refresh token works once; a second use ends the login it belongs to."""

from typing import Any

import pytest

from accounts.locks import lock_user
from accounts.models import IssuedToken, User
from accounts.roles import Role
from accounts.tokens import TokenPair, end_family, issue_tokens
from conftest import ApiClient, error_code
from testing.parallel import in_parallel


def refresh(api: ApiClient, token: Any) -> Any:
    return api.send("post", "/auth/refresh", {"refresh_token": token})


def status_with(api: ApiClient, access: str) -> int:
    status: int = api.send("get", "/users/me", token=access).status_code
    return status


def test_a_refresh_token_gives_a_new_pair(api: ApiClient, tokens: TokenPair) -> None:
    response = refresh(api, tokens.refresh)

    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert body["access_token"] != tokens.access
    assert body["refresh_token"] != tokens.refresh
    assert status_with(api, body["access_token"]) == 200


def test_the_new_pair_belongs_to_the_same_family(api: ApiClient, tokens: TokenPair) -> None:
    refresh(api, tokens.refresh)

    assert IssuedToken.objects.count() == 4
    assert IssuedToken.objects.values("family").distinct().count() == 1
    assert IssuedToken.objects.exclude(used_at=None).get().kind == "refresh"


def test_refreshing_goes_on_and_on(api: ApiClient, tokens: TokenPair) -> None:
    token = tokens.refresh
    for _ in range(5):
        token = refresh(api, token).json()["refresh_token"]

    assert refresh(api, token).status_code == 200


def test_the_old_access_token_works_until_it_expires(api: ApiClient, tokens: TokenPair) -> None:
    refresh(api, tokens.refresh)

    assert status_with(api, tokens.access) == 200


def test_a_second_use_ends_the_family_with_its_access_tokens(api: ApiClient, tokens: TokenPair) -> None:
    new = refresh(api, tokens.refresh).json()

    response = refresh(api, tokens.refresh)

    assert response.status_code == 401
    assert error_code(response) == "2010"
    assert status_with(api, tokens.access) == 401
    assert status_with(api, new["access_token"]) == 401
    assert error_code(refresh(api, new["refresh_token"])) == "2010"


def test_a_second_use_leaves_other_logins_alone(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    other = issue_tokens(owner)
    refresh(api, tokens.refresh)
    refresh(api, tokens.refresh)

    assert status_with(api, other.access) == 200
    assert refresh(api, other.refresh).status_code == 200


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_uses_one_succeeds_and_the_family_ends(owner: User) -> None:
    for _ in range(10):
        IssuedToken.objects.all().delete()
        tokens = issue_tokens(owner)
        responses = in_parallel(8, lambda _, text=tokens.refresh: refresh(ApiClient(HTTP_HOST="testserver"), text))

        assert sorted(response.status_code for response in responses) == [200] + [401] * 7
        assert IssuedToken.objects.count() == 4
        assert not IssuedToken.objects.live().exists()
        (won,) = [response.json() for response in responses if response.status_code == 200]
        assert status_with(ApiClient(HTTP_HOST="testserver"), won["access_token"]) == 401


def test_a_pair_written_while_its_family_ends_ends_with_it(
    api: ApiClient, tokens: TokenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def issue_late(user: User, **kwargs: Any) -> TokenPair:
        end_family(kwargs["family"])
        return issue_tokens(user, **kwargs)

    monkeypatch.setattr("accounts.tokens.issue_tokens", issue_late)
    late = refresh(api, tokens.refresh).json()

    assert not IssuedToken.objects.live().exists()
    assert status_with(api, late["access_token"]) == 401


def test_a_role_given_since_is_in_the_new_token(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    User.objects.filter(pk=owner.pk).update(role=Role.NODE_OPERATOR)

    new = refresh(api, tokens.refresh).json()

    assert new["user"]["role"] == "node_operator"
    assert error_code(api.send("post", "/chain/transactions", {}, token=new["access_token"])) == "5005"


def test_a_locked_user_cannot_refresh(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    lock_user(owner, reason="", by="")

    response = refresh(api, tokens.refresh)

    assert response.status_code == 401
    assert error_code(response) == "2005"
    assert IssuedToken.objects.count() == 2


def test_a_deactivated_user_cannot_refresh(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=False)

    assert error_code(refresh(api, tokens.refresh)) == "2010"
    assert IssuedToken.objects.count() == 2


def test_an_access_token_is_no_refresh_token(api: ApiClient, tokens: TokenPair) -> None:
    assert error_code(refresh(api, tokens.access)) == "2010"
    assert status_with(api, tokens.access) == 200


def test_a_refresh_token_is_no_access_token(api: ApiClient, tokens: TokenPair) -> None:
    assert error_code(api.send("get", "/users/me", token=tokens.refresh)) == "2003"


def test_a_signed_token_that_was_never_recorded_is_refused(api: ApiClient, tokens: TokenPair) -> None:
    IssuedToken.objects.all().delete()

    assert error_code(refresh(api, tokens.refresh)) == "2010"


def test_stray_padding_makes_no_second_token(api: ApiClient, tokens: TokenPair) -> None:
    refresh(api, tokens.refresh)

    assert error_code(refresh(api, tokens.refresh + "==")) == "2010"


@pytest.mark.parametrize("token", ["x", "a.b.c", "ä.ö.ü", "." * 100, " "])
def test_garbage_is_refused(api: ApiClient, db: None, token: str) -> None:
    assert refresh(api, token).status_code in (401, 422)


@pytest.mark.parametrize("token", [None, "", [], {}, "x" * 5000, "a\x00b"])
def test_what_is_no_text_is_refused(api: ApiClient, db: None, token: Any) -> None:
    assert refresh(api, token).status_code == 422
