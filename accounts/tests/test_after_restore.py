"""manage.py after_restore and confirm_api_keys: credentials that a backup brings back no longer work."""

import contextlib
import io
import json
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from redis import Redis

from accounts.api_keys import create_api_key, known_keys, revoke_api_key
from accounts.factors.totp import use_code
from accounts.login import mail_links
from accounts.models import ApiKey, IssuedToken, SigningKey, User
from accounts.tests.conftest import Phone
from accounts.tests.operators import act, signed_in
from accounts.tests.test_refresh import refresh
from accounts.tokens import signing_keys
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.tokens.keyring import keyring_cache
from accounts.tokens.signing_keys import bootstrap, bootstrap_kid
from conftest import ApiClient, error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import CodeExpired
from lucid_gateway.policy.roles import Role
from testing.plugin import JWT_SECRET_KEY

FIRST = bootstrap_kid(JWT_SECRET_KEY)


@pytest.fixture(autouse=True)
def quick(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits: no other worker has to read a new key."""
    monkeypatch.setattr(signing_keys, "PUBLISHED_AFTER_SECONDS", 0)


def run(command: str, *arguments: str) -> str:
    output = io.StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue().strip()


def after_restore() -> dict[str, Any]:
    """Run the command as in a new process, which has not read the keys yet."""
    keyring_cache.ring = None
    numbers: dict[str, Any] = json.loads(run("after_restore", "--yes", "--json"))
    return numbers


def me(api: ApiClient, key: str) -> str:
    """Return `in`, or the code of the refusal of the API key."""
    response = api.send("get", "/users/me", headers={"X-API-Key": key})
    return "in" if response.status_code == 200 else error_code(response)


def new_key(user: User, name: str = "script") -> tuple[ApiKey, str]:
    return create_api_key(user, name=name, permissions=["user:read"])


def test_all_tokens_end_and_a_new_key_signs(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    bootstrap()
    waiting = SigningKey.objects.get(state="next").kid

    numbers = after_restore()

    active = SigningKey.objects.get(state="active").kid
    assert (numbers["signing_key"], numbers["tokens"]) == (active, 2)
    assert active not in (FIRST, waiting)
    assert SigningKey.objects.filter(kid__in=[FIRST, waiting]).values_list("state", flat=True).distinct().get() == (
        "revoked"
    )
    assert api.send("get", "/users/me", token=tokens.access).status_code == 401
    assert error_code(refresh(api, tokens.refresh)) == "2010"
    assert api.send("get", "/users/me", token=issue_tokens(owner).access).status_code == 200


def test_the_first_key_is_revoked_if_the_backup_is_older_than_it() -> None:
    after_restore()

    assert SigningKey.objects.get(kid=FIRST).state == "revoked"
    assert SigningKey.objects.filter(state="active").count() == 1


def test_sessions_of_the_operator_pages_end(super_admin: User) -> None:
    browser = signed_in(super_admin)
    assert browser.get("/admin/").status_code == 200

    assert after_restore()["admin_sessions"] == 1
    assert Session.objects.count() == 0
    assert browser.get("/admin/").status_code == 302


def test_api_keys_are_refused_until_they_are_confirmed_even_where_a_worker_remembers_them(
    api: ApiClient, owner: User, empty_redis: Redis
) -> None:
    key, text = new_key(owner)
    assert me(api, text) == "in"

    assert after_restore()["api_keys"] == 1
    assert me(api, text) == "2003"
    empty_redis.delete(keys.revoked(owner.pk, key.key_id))
    known_keys.clear()
    response = api.send("get", "/users/me", headers={"X-API-Key": text})
    assert error_code(response) == "2003"
    assert response.json()["error"]["message"] == "This API key is suspended until an operator confirms it"

    assert run("confirm_api_keys", "--key-id", key.key_id) == "1 API keys confirmed"
    assert me(api, text) == "in"


def test_a_suspended_key_that_was_revoked_cannot_be_confirmed(api: ApiClient, owner: User) -> None:
    (key, text), (other, _) = new_key(owner), new_key(owner, "other")
    after_restore()
    revoke_api_key(owner.pk, key.key_id)

    assert json.loads(run("confirm_api_keys", "--email", owner.email, "--json")) == {"confirmed": 1}
    assert me(api, text) == "2003"
    assert [event.details["key_id"] for event in AuditEvent.objects.filter(type="api_key.confirmed")] == [other.key_id]


def test_the_owner_sees_that_a_key_is_suspended(api: ApiClient, owner: User) -> None:
    new_key(owner)
    after_restore()

    (shown,) = api.send("get", "/users/me/api-keys", token=issue_tokens(owner).access).json()["api_keys"]
    assert shown["suspended_at"] is not None


@pytest.mark.parametrize(("arguments", "confirmed"), [(["--all"], 2), (["--email", "OWNER@example.org"], 1)])
def test_keys_are_confirmed_for_a_user_or_for_all(
    owner: User, node_operator: User, arguments: list[str], confirmed: int
) -> None:
    new_key(owner)
    new_key(node_operator)
    after_restore()

    assert run("confirm_api_keys", *arguments) == f"{confirmed} API keys confirmed"
    assert ApiKey.objects.suspended().count() == 2 - confirmed


def test_a_key_that_does_not_exist_is_not_confirmed(owner: User) -> None:
    key, _ = new_key(owner)
    after_restore()

    with pytest.raises(CommandError, match="no API key has the id missing"):
        run("confirm_api_keys", "--key-id", "missing", "--key-id", key.key_id)
    assert ApiKey.objects.suspended().count() == 1


def test_an_operator_finds_suspended_keys_and_confirms_those_of_users_but_not_of_other_staff(
    api: ApiClient, owner: User, super_admin: User
) -> None:
    (key, text), (staff_key, _) = new_key(owner), new_key(super_admin)
    after_restore()
    new_key(owner, "newer")
    client = signed_in(make_user("admin", Role.ADMIN))
    shown = client.get("/admin/accounts/apikey/?suspended=yes").context["cl"].result_list
    assert {row.key_id for row in shown} == {key.key_id, staff_key.key_id}

    assert act(client, "confirm", key, staff_key, model="apikey") == ["1 API key confirmed."]
    assert me(api, text) == "in"
    assert ApiKey.objects.suspended().get() == staff_key


def test_no_recent_totp_code_works_again(owner: User, phone: Phone) -> None:
    used = phone.fresh_code()
    assert use_code(owner, used)
    User.objects.update(totp_last_step=0)  # as in the backup
    after_restore()

    assert not any(use_code(owner, code) for code in (used, phone.code(1)))
    phone.clock.next_step()
    assert use_code(owner, phone.code(1))


def test_mailed_links_are_void(owner: User) -> None:
    link = mail_links.create("reset", owner.email, user=owner, counted="owner", lifetime=600)
    assert after_restore()["mailed"] == 1

    with pytest.raises(CodeExpired):
        mail_links.look_up("reset", link)


def test_new_tokens_work_although_redis_has_a_later_epoch(api: ApiClient, owner: User, empty_redis: Redis) -> None:
    empty_redis.set(keys.epoch(owner.pk), 3, ex=900)
    after_restore()
    owner.refresh_from_db()

    assert owner.token_epoch == 3
    assert api.send("get", "/users/me", token=issue_tokens(owner).access).status_code == 200


def test_it_can_be_repeated(owner: User, tokens: TokenPair) -> None:
    new_key(owner)
    first, second = after_restore(), after_restore()

    assert (first["tokens"], first["api_keys"]) == (2, 1)
    assert second == {**second, "tokens": 0, "api_keys": 0, "admin_sessions": 0, "mailed": 0}
    assert second["signing_key"] != first["signing_key"]
    assert not IssuedToken.objects.live().exists()


def test_the_audit_log_says_what_was_retired(owner: User, tokens: TokenPair) -> None:
    new_key(owner)
    numbers = after_restore()

    event = AuditEvent.objects.get(type="database.restored")
    assert event.actor == "manage.py"
    assert event.details == {name: number for name, number in numbers.items() if name != "mailed"}


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_it_asks_for_confirmation_and_names_what_will_end(
    owner: User, tokens: TokenPair, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    new_key(owner)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    output = io.StringIO()
    with contextlib.suppress(CommandError):
        call_command("after_restore", stdout=output)

    assert output.getvalue().startswith("2 live tokens and 0 admin sessions end, 1 API keys are suspended.")
    assert IssuedToken.objects.live().exists() == (answer == "no")


def test_without_redis_it_names_the_remaining_steps(owner: User) -> None:
    breaker.outage = Outage()

    with pytest.raises(CommandError, match="Redis is unavailable: start it and run this again"):
        after_restore()
    assert AuditEvent.objects.filter(type="database.restored").exists()


def test_without_redis_no_key_is_confirmed(owner: User, super_admin: User) -> None:
    key, _ = new_key(owner)
    after_restore()
    breaker.outage = Outage()

    with pytest.raises(CommandError, match="Redis is unavailable: run this again when it is back"):
        run("confirm_api_keys", "--all")
    messages = act(signed_in(super_admin), "confirm", key, model="apikey")
    assert messages == ["Redis is unavailable: confirm the keys when it is back."]
    assert ApiKey.objects.suspended().get() == key
