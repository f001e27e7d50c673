"""POST /auth/refresh: a refresh token works once; a second use ends the login it belongs to."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F

from accounts.models import IssuedToken, User
from accounts.tokens.issuing import GRACE, TokenPair, end_family, issue_tokens
from accounts.users.locks import lock_user
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from testing.parallel import in_parallel


def refresh(api: ApiClient, token: Any, **extra: Any) -> Any:
    return api.send("post", "/auth/refresh", {"refresh_token": token}, **extra)


def let_time_pass(seconds: float) -> None:
    """Move the uses of tokens so many seconds into the past."""
    IssuedToken.objects.exclude(used_at=None).update(used_at=F("used_at") - timedelta(seconds=seconds))


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


def test_a_family_can_be_refreshed_again_and_again(api: ApiClient, tokens: TokenPair) -> None:
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


def test_a_client_that_lost_the_answer_gets_another_pair_and_the_first_one_ends_at_once(
    api: ApiClient, tokens: TokenPair
) -> None:
    lost = refresh(api, tokens.refresh).json()
    let_time_pass(5)
    response = refresh(api, tokens.refresh)

    assert response.status_code == 200
    new = response.json()
    assert status_with(api, lost["access_token"]) == 401
    assert status_with(api, tokens.access) == status_with(api, new["access_token"]) == 200
    assert IssuedToken.objects.sign_ins().count() == 1
    assert refresh(api, new["refresh_token"]).status_code == 200
    assert not AuditEvent.objects.filter(type__startswith="token.").exists()


@pytest.mark.parametrize("shown", ["the used one", "the replaced one"])
def test_after_a_replacement_a_use_of_either_earlier_token_ends_the_family(
    api: ApiClient, tokens: TokenPair, shown: str
) -> None:
    lost = refresh(api, tokens.refresh).json()
    let_time_pass(5)
    new = refresh(api, tokens.refresh).json()
    let_time_pass(5)
    again = refresh(api, tokens.refresh if shown == "the used one" else lost["refresh_token"])

    assert error_code(again) == "2010"
    assert not IssuedToken.objects.live().exists()
    assert status_with(api, new["access_token"]) == status_with(api, tokens.access) == 401
    assert AuditEvent.objects.filter(type="token.reused").count() == 1


@pytest.mark.parametrize(
    ("seconds", "client"),
    [
        (0, {}),  # practically parallel
        (GRACE.total_seconds() + 1, {}),
        (5, {"REMOTE_ADDR": "203.0.113.66"}),
        (5, {"headers": {"User-Agent": "another"}}),
        (-60, {}),  # the clock of a new primary is behind
    ],
)
def test_a_second_use_at_another_time_or_by_another_client_ends_the_family(
    api: ApiClient, tokens: TokenPair, seconds: float, client: dict[str, Any]
) -> None:
    new = refresh(api, tokens.refresh).json()
    let_time_pass(seconds)

    assert error_code(refresh(api, tokens.refresh, **client)) == "2010"
    assert not IssuedToken.objects.live().exists()
    assert status_with(api, new["access_token"]) == 401
    assert AuditEvent.objects.filter(type="token.reused").count() == 1


def test_a_second_use_after_the_new_refresh_token_was_used_ends_the_family(api: ApiClient, tokens: TokenPair) -> None:
    new = refresh(api, refresh(api, tokens.refresh).json()["refresh_token"]).json()
    let_time_pass(5)

    assert error_code(refresh(api, tokens.refresh)) == "2010"
    assert status_with(api, new["access_token"]) == 401


def test_a_second_use_after_a_logout_revives_no_token(api: ApiClient, tokens: TokenPair) -> None:
    new = refresh(api, tokens.refresh).json()
    api.send("post", "/auth/logout", {}, token=new["access_token"])
    let_time_pass(5)

    assert error_code(refresh(api, tokens.refresh)) == "2010"
    assert not IssuedToken.objects.live().exists()


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_replacements_one_succeeds_and_the_family_ends(owner: User) -> None:
    for _ in range(5):
        tokens = issue_tokens(owner)
        refresh(ApiClient(HTTP_HOST="testserver"), tokens.refresh)
        let_time_pass(5)
        responses = in_parallel(8, lambda _, text=tokens.refresh: refresh(ApiClient(HTTP_HOST="testserver"), text))

        assert sorted(response.status_code for response in responses) == [200] + [401] * 7
        assert not IssuedToken.objects.live().exists()


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_replacements_and_uses_of_a_pair_one_succeeds_and_the_family_ends(owner: User) -> None:
    for _ in range(5):
        tokens = issue_tokens(owner)
        new = refresh(ApiClient(HTTP_HOST="testserver"), tokens.refresh).json()
        let_time_pass(5)
        shown = [tokens.refresh, new["refresh_token"]] * 3
        responses = in_parallel(6, lambda index: refresh(ApiClient(HTTP_HOST="testserver"), shown[index]))  # noqa: B023  # it is called within the loop

        assert sorted(response.status_code for response in responses) == [200] + [401] * 5
        assert not IssuedToken.objects.live().exists()


def test_a_pair_is_found_by_its_predecessor_through_an_index(db: None) -> None:
    plan = IssuedToken.objects.given_for("jti").order_by().explain()

    assert "COLLSCAN" not in plan
    assert f"SCAN {IssuedToken._meta.db_table}" not in plan
    assert settings.ON_MONGODB or "USING INDEX" in plan


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
        assert IssuedToken.objects.exclude(used_at=None).count() == 1
        assert not IssuedToken.objects.live().exists()
        (won,) = [response.json() for response in responses if response.status_code == 200]
        assert status_with(ApiClient(HTTP_HOST="testserver"), won["access_token"]) == 401


def test_a_pair_written_while_its_family_ends_ends_with_it(
    api: ApiClient, tokens: TokenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def issue_late(user: User, **kwargs: Any) -> TokenPair:
        end_family(kwargs["family"])
        return issue_tokens(user, **kwargs)

    monkeypatch.setattr("accounts.tokens.issuing.issue_tokens", issue_late)
    late = refresh(api, tokens.refresh).json()

    assert not IssuedToken.objects.live().exists()
    assert status_with(api, late["access_token"]) == 401


def test_a_new_role_is_in_the_new_token(api: ApiClient, owner: User, tokens: TokenPair) -> None:
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


def test_an_access_token_is_not_accepted_as_a_refresh_token(api: ApiClient, tokens: TokenPair) -> None:
    assert error_code(refresh(api, tokens.access)) == "2010"
    assert status_with(api, tokens.access) == 200


def test_a_refresh_token_is_not_accepted_as_an_access_token(api: ApiClient, tokens: TokenPair) -> None:
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
def test_a_token_that_is_no_text_is_refused(api: ApiClient, db: None, token: Any) -> None:
    assert refresh(api, token).status_code == 422
