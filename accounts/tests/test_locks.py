"""Staff locks, which stop a user's tokens, API keys and admin sessions immediately."""

import time
from datetime import timedelta

from django.utils import timezone
from redis import Redis

from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.users.locks import FOREVER, lock_user, unlock_user
from conftest import ApiClient, error_code
from lucid_gateway.policy import keys


def test_a_lock_stops_tokens_that_were_issued_before(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    assert api.send("get", "/users/me", token=tokens.access).status_code == 200
    lock_user(owner, reason="stolen laptop", by="admin@example.org")

    response = api.send("get", "/users/me", token=tokens.access)

    assert response.status_code == 401
    assert error_code(response) == "2005"


def test_the_answer_does_not_reveal_the_reason_of_a_lock(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    lock_user(owner, reason="stolen laptop", by="admin@example.org")

    body = api.send("get", "/users/me", token=tokens.access).content.decode()
    assert "stolen" not in body
    assert "admin" not in body


def test_an_unlock_opens_the_account_but_revives_no_token(
    api: ApiClient, owner: User, tokens: TokenPair, empty_redis: Redis
) -> None:
    lock_user(owner, reason="", by="")
    unlock_user(owner, by="")

    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2003"
    assert error_code(api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh})) == "2010"
    assert api.send("get", "/users/me", token=issue_tokens(owner).access).status_code == 200
    assert not empty_redis.exists(keys.locked(owner.pk))


def test_a_lock_expires(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    lock_user(owner, reason="", by="", until=timezone.now() + timedelta(seconds=2))
    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2005"
    while owner.is_locked:
        time.sleep(0.01)

    assert api.send("get", "/users/me", token=issue_tokens(owner).access).status_code == 200


def test_the_reason_and_the_author_of_a_lock_are_kept_until_the_unlock(owner: User) -> None:
    lock_user(owner, reason="stolen laptop", by="admin@example.org")
    owner.refresh_from_db()
    assert (owner.lock_reason, owner.locked_by, owner.locked_until) == ("stolen laptop", "admin@example.org", FOREVER)
    assert list(User.objects.locked()) == [owner]

    unlock_user(owner, by="")
    owner.refresh_from_db()
    assert (owner.lock_reason, owner.locked_by, owner.locked_until) == ("", "", None)
    assert not User.objects.locked().exists()


def test_a_lock_affects_one_user_only(api: ApiClient, node_operator: User, tokens: TokenPair) -> None:
    lock_user(node_operator, reason="", by="")

    assert api.send("get", "/users/me", token=tokens.access).status_code == 200
