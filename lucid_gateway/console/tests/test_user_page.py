"""The page of one user: what is the matter, what is used, what happened, and the buttons that change it."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.callers import caller_of_user
from accounts.lockouts import GuessAttempt, account, signed_in_user
from accounts.models import IssuedToken, User
from accounts.tests.operators import actors_of, messages_of, user_page
from accounts.tokens.issuing import issue_tokens, refresh_tokens
from accounts.users.locks import lock_user
from accounts.users.profile import delete_account
from conftest import make_user
from lucid_gateway.audit.events import FAILURE, record
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.kernel.record import RequestRecord, current
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.policy.errors import RefreshTokenInvalid
from lucid_gateway.policy.roles import Role
from ratelimit.engine.limiter import admit
from ratelimit.engine.limits import default_limit
from ratelimit.models import LimitRule
from sessions_api.lifecycle import create_session
from sessions_api.models import Chunk

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
FORM = re.compile(r"<form method=\"post\" action=\"([^\"]+)\">(.*?)</form>", re.DOTALL)
INPUT = re.compile(r'name="(\w+)" value="([^"]*)"')


def shown(client: Client, user: User, query: str = "") -> str:
    """Return the text of the user's page, with each run of white space as one space."""
    response = client.get(user_page(user) + query)
    assert response.status_code == 200
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", response.content.decode().partition("<main")[2]).split()))


def labels(client: Client, user: User) -> list[str]:
    """Return the labels of the buttons beside the heading."""
    return [button.label for button in client.get(user_page(user)).context["buttons"]]


def press(client: Client, user: User, label: str, **form: str) -> Any:
    """Press a button, confirm, and return the page that follows."""
    page = client.get(user_page(user)).content.decode()
    action, inputs = next((action, inputs) for action, inputs in FORM.findall(page) if f">{label}</button>" in inputs)
    sent = {name: value for name, value in INPUT.findall(inputs) if name != "csrfmiddlewaretoken"}
    asked = client.post(action, sent)
    assert asked.context["title"], "it asks first"
    return client.post(action, sent | {"_confirmed": "yes"} | form, follow=True)


def keep_request(user: User, *, minutes_ago: int = 0, **fields: Any) -> KeptRequest:
    """Keep a request of the user."""
    at = timezone.now() - timedelta(minutes=minutes_ago)
    blank = dict.fromkeys(
        ("gateway", "worker", "error_code", "address_key", "network", "user_agent", "role", "credential_kind",
         "credential_id", "cluster", "instance", "cache", "trace_id", "reason"), "",
    )  # fmt: skip
    values = blank | {
        "request_id": f"request-{minutes_ago}", "method": "GET", "path": "/api/v1/users/me", "route": "users/me",
        "status": 200, "status_class": 2, "duration_ms": 1, "address": "192.0.2.1", "response_bytes": 1,
    }  # fmt: skip
    return KeptRequest.objects.create(
        kept_id=key_at(at, random=True), started_at=at, user_id=str(user.pk), **(values | fields)
    )


@pytest.fixture
def from_elsewhere() -> Any:
    """What follows comes from 198.51.100.20."""
    token = current.set(RequestRecord(client_address="198.51.100.20", user_agent=FIREFOX))
    yield
    current.reset(token)


# The status


def test_an_account_without_trouble_is_active(page: Client, owner: User) -> None:
    assert "Active. No login yet." in shown(page, owner)


def test_a_lock_is_told_with_its_author_time_and_reason(page: Client, admin: User, owner: User) -> None:
    lock_user(owner, reason="Lost laptop", by=admin)

    text = shown(page, owner)
    assert re.search(
        r"Locked by admin@example.org since \d{4}-\d\d-\d\d \d\d:\d\d UTC , with no end set: Lost laptop", text
    )
    assert "Active." not in text
    assert f'href="{user_page(admin)}"' in page.get(user_page(owner)).content.decode()


def test_a_lock_by_a_command_or_with_an_end_is_told_too(page: Client, owner: User) -> None:
    lock_user(owner, reason="", by="manage.py", until=timezone.now() + timedelta(days=1))

    assert re.search(r"Locked by manage.py since .* until .* UTC \.", shown(page, owner))


def test_a_lockout_is_told_with_its_end(page: Client, owner: User) -> None:
    for subject in (account(owner.email), signed_in_user(owner.pk), account("other@example.org")):
        for _ in range(10):
            GuessAttempt(subject)

    text = shown(page, owner)
    assert re.search(r"Password and code login paused until \S+ \S+ UTC , after 10 wrong guesses\.", text)
    assert "Second factor of a signed-in user paused" in text
    assert "other@example.org" not in text
    assert "Password login paused until" in text


@pytest.mark.usefixtures("from_elsewhere")
def test_a_reused_refresh_token_is_told_with_its_owner_and_a_block(page: Client, owner: User) -> None:
    first = issue_tokens(owner)
    refresh_tokens(first.refresh)
    IssuedToken.objects.update(issued_at=timezone.now() - timedelta(minutes=4), used_at=None)
    IssuedToken.objects.filter(predecessor=None).update(used_at=timezone.now() - timedelta(minutes=4))
    token = current.set(RequestRecord(client_address="203.0.113.9", user_agent="curl/8.14.1"))
    with pytest.raises(RefreshTokenInvalid):
        refresh_tokens(first.refresh)
    current.reset(token)

    text = shown(page, owner)
    assert "from 203.0.113.9, 4 minutes after the login was last refreshed from 198.51.100.20. The login was" in text
    block = "/admin/ratelimit/addressrule/add/?network=203.0.113.9&amp;kind=blocked"
    assert f'href="{block}">Block 203.0.113.9…</a>' in page.get(user_page(owner)).content.decode()


def test_an_old_reuse_is_no_longer_told(page: Client, owner: User) -> None:
    AuditEvent.objects.create(type="token.reused", subject=str(owner.pk), created_at=timezone.now() - timedelta(days=8))

    assert "A refresh token was used twice at" not in shown(page, owner)


def test_a_deleted_and_a_deactivated_account_say_so(page: Client, owner: User, node_operator: User) -> None:
    delete_account(owner)
    User.objects.filter(pk=node_operator.pk).update(is_active=False)

    assert "Deleted on" in shown(page, owner)
    assert "Deactivated." in shown(page, node_operator)
    assert labels(page, owner) == []


# Limits


def test_the_limits_show_what_is_used_now(page: Client, owner: User, frozen_minute: int) -> None:
    caller = caller_of_user(owner)
    LimitRule.objects.create(tier="authenticated", subject=f"user:{owner.pk}", limit=50)
    for _ in range(3):
        admit(default_limit("blockchain_query"), caller.subject)

    text = shown(page, owner)
    assert "blockchain query, this minute 3 of 500" in text
    assert "chunk upload, now 0 bytes of 20.0 MiB" in text
    assert "Quota: none · At a time: no limit" in text
    assert "Own rule: Authenticated" in text
    assert "admin, this minute" not in text


def test_a_nearly_used_limit_is_marked(page: Client, owner: User, frozen_minute: int) -> None:
    for _ in range(450):
        admit(default_limit("blockchain_query"), caller_of_user(owner).subject)

    content = page.get(user_page(owner)).content.decode()
    assert '<progress class="bar hot" value="450" max="500"' in content
    assert content.count("bar hot") == 1


def test_a_link_leads_to_the_form_for_a_rule_of_the_user(page: Client, owner: User) -> None:
    link = f"/admin/ratelimit/limitrule/add/?tier=authenticated&amp;subject=user%3A{owner.pk}"

    assert f'href="{link}">Change…</a>' in page.get(user_page(owner)).content.decode()


# The timeline


def test_requests_and_audit_events_are_one_timeline(page: Client, owner: User, admin: User) -> None:
    keep_request(owner, minutes_ago=2, status=429, reason="tier_exhausted", path="/api/v1/chain/blocks/1")
    record("user.updated", subject=owner, actor=admin, changes={"email": ["old@example.org", "owner@example.org"]})
    keep_request(make_user("other", Role.USER), path="/of/another/user")

    entries = page.get(user_page(owner)).context["timeline"].entries
    assert [entry.text for entry in entries] == ["An account was changed", "GET /api/v1/chain/blocks/1"]
    text = shown(page, owner)
    assert "An account was changed by admin@example.org Email: old@example.org → owner@example.org" in text
    assert "429 The tier's requests per minute and its burst are used up." in text


@pytest.mark.parametrize(
    ("choice", "texts"),
    [
        ("requests", ["GET /api/v1/users/me"]), ("audit", ["A login failed"]),
        ("both", ["A login failed", "GET /api/v1/users/me"]),
        ("king", ["A login failed", "GET /api/v1/users/me"]),
    ],
)  # fmt: skip
def test_the_timeline_can_be_filtered(page: Client, owner: User, choice: str, texts: list[str]) -> None:
    keep_request(owner, minutes_ago=1)
    record("login.failed", subject=owner, outcome=FAILURE)

    entries = page.get(f"{user_page(owner)}?timeline={choice}").context["timeline"].entries
    assert [entry.text for entry in entries] == texts


def test_what_a_user_did_to_others_is_in_the_timeline(page: Client, admin: User, owner: User) -> None:
    lock_user(owner, reason="why", by=admin)

    text = shown(page, admin)
    assert "Staff locked an account about owner@example.org Locked until: – → no end; Lock reason: – → why" in text
    assert "“why”" not in text


def test_a_lockout_is_in_the_timeline_of_its_user(page: Client, owner: User) -> None:
    for _ in range(9):
        GuessAttempt(account(owner.email))
    GuessAttempt(account(owner.email)).fail()

    assert "A lockout began after too many failures blocked" in shown(page, owner)


def test_a_long_history_is_cut(page: Client, owner: User) -> None:
    for number in range(30):
        record("login.failed", subject=owner, outcome=FAILURE)
        keep_request(owner, minutes_ago=number)

    assert len(page.get(user_page(owner)).context["timeline"].entries) == 25


# Devices, keys, recordings


@pytest.mark.usefixtures("from_elsewhere")
def test_devices_are_named_in_words(page: Client, owner: User) -> None:
    refresh_tokens(issue_tokens(owner).refresh)

    (device,) = page.get(user_page(owner)).context["devices"]
    assert (device.client, device.token.address) == ("Firefox on Linux", "198.51.100.20")


def test_api_keys_are_listed_with_those_that_work_first(page: Client, owner: User) -> None:
    old, _ = create_api_key(owner, name="old", permissions=["user:read"])
    create_api_key(owner, name="new", permissions=["user:read"])
    old.revoked_at = timezone.now()
    old.save()

    keys = page.get(user_page(owner)).context["keys"]
    assert [(each.key.name, each.state) for each in keys] == [("new", "live"), ("old", "revoked")]


def test_recordings_are_counted_with_their_size(page: Client, owner: User) -> None:
    session = create_session(owner.pk, name="a session")
    create_session(owner.pk, name="another")
    Chunk.objects.create(session=session, index=0, size=3 * 1024**2, hash="0" * 64, state="recorded")

    assert "2 sessions , 3.0 MiB" in shown(page, owner)


# Buttons


def test_only_buttons_that_change_something_are_shown(page: Client, super_admin_page: Client, owner: User) -> None:
    assert labels(page, owner) == ["Send login link…", "Lock…"]
    assert labels(super_admin_page, owner) == ["Send login link…", "Change role…", "Lock…"]

    issue_tokens(owner)
    User.objects.filter(pk=owner.pk).update(totp_enabled=True)
    for _ in range(10):
        GuessAttempt(account(owner.email))
    assert labels(page, owner) == [
        "Lift lockouts…", "Send login link…", "End sessions…", "Reset factors…", "Lock…",
    ]  # fmt: skip

    lock_user(owner, reason="", by="")
    assert labels(page, owner) == ["Lift lockouts…", "Reset factors…", "Unlock…"]


def test_operators_have_no_buttons_against_themselves_or_above_them(
    page: Client, admin: User, super_admin: User, super_admin_page: Client
) -> None:
    assert labels(page, admin) == []
    assert labels(page, super_admin) == []
    assert labels(super_admin_page, super_admin) == []
    assert "Change role…" in labels(super_admin_page, admin)
    content = page.get(user_page(super_admin)).content.decode()
    assert "edit=1" not in content
    assert "Revoke…" not in content


@pytest.mark.parametrize(
    ("label", "kind", "form"),
    [
        ("Lock…", "user.locked", {"reason": "why"}),
        ("Send login link…", "login.mailed", {}),
        ("End sessions…", "token.revoked", {}),
        ("Reset factors…", "totp.reset", {}),
        ("Change role…", "user.role_changed", {"role": "node_operator"}),
        ("Lift lockouts…", "lockout.lifted", {}),
        ("End…", "token.revoked", {}),
        ("Revoke…", "api_key.revoked", {}),
    ],
)
def test_each_button_asks_acts_and_returns(
    super_admin_page: Client, owner: User, label: str, kind: str, form: dict[str, str]
) -> None:
    issue_tokens(owner)
    create_api_key(owner, name="key", permissions=[])
    User.objects.filter(pk=owner.pk).update(totp_enabled=True)
    for _ in range(10):
        GuessAttempt(account(owner.email))

    followed = press(super_admin_page, owner, label, **form)

    assert followed.request["PATH_INFO"] == user_page(owner)
    assert len(messages_of(followed)) == 1
    operator = User.objects.get(username="super-admin")
    assert (str(operator.pk), str(owner.pk)) in actors_of(kind)


def test_a_user_is_unlocked_on_the_page(page: Client, owner: User) -> None:
    lock_user(owner, reason="", by="")

    assert messages_of(press(page, owner, "Unlock…")) == ["1 user: unlocked."]


# The form


def test_the_form_is_behind_edit_and_returns_to_the_page(page: Client, owner: User) -> None:
    form = page.get(f"{user_page(owner)}?edit=1")
    assert b'name="email"' in form.content
    assert f'href="{user_page(owner)}" class="button">Cancel' in form.content.decode()

    names = {"email": owner.email, "username": "owner", "first_name": "Olga"}
    followed = page.post(f"{user_page(owner)}?edit=1", names, follow=True)
    assert followed.request["PATH_INFO"] == user_page(owner)
    assert "Olga" in followed.content.decode()


def test_without_permission_the_form_is_not_shown(page: Client, super_admin: User) -> None:
    assert b'name="email"' not in page.get(f"{user_page(super_admin)}?edit=1").content


# Failures, and the number of queries


def test_without_redis_the_page_says_what_is_unknown(page: Client, owner: User) -> None:
    breaker.outage = Outage()

    text = shown(page, owner)
    assert "What is used is unknown: Redis is unavailable." in text
    assert "Password login unknown: Redis is unavailable" in text
    assert "it is unknown whether automatic lockouts are active" in text
    assert "Active." not in text
    assert "Lift lockouts…" in labels(page, owner)


def test_a_source_that_does_not_answer_is_named(page: Client, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    record("login.failed", subject=owner, outcome=FAILURE)
    monkeypatch.setattr(KeptRequest._meta, "db_table", "$no_such_table")  # MongoDB finds nothing in one that it allows

    text = shown(page, owner)
    assert "The requests are unknown: the database did not answer." in text
    assert "A login failed" in text


def test_the_number_of_queries_is_constant(page: Client, owner: User, admin: User) -> None:
    def grow() -> None:
        for number in range(3):
            issue_tokens(owner)
            create_api_key(owner, name=f"key {number}", permissions=[])
            create_session(owner.pk, name=f"session {number}")
            keep_request(owner, minutes_ago=number)
            record("user.updated", subject=owner, actor=make_user(f"x{User.objects.count()}", Role.ADMIN))

    page.get(user_page(owner))  # the first page of a session writes it, and fills caches
    grow()
    with CaptureQueriesContext(connection) as before:
        page.get(user_page(owner))
    grow()
    with CaptureQueriesContext(connection) as after:
        page.get(user_page(owner))

    assert len(before) == len(after) <= 22


def test_hostile_values_are_escaped(page: Client, owner: User) -> None:
    script = "<script>alert(1)</script>"
    User.objects.filter(pk=owner.pk).update(first_name=script)
    create_api_key(owner, name=script, permissions=[])
    token = current.set(RequestRecord(client_address="192.0.2.1", user_agent=script))
    issue_tokens(owner)
    current.reset(token)
    keep_request(owner, path=f"/{script}")
    record("user.updated", subject=owner, changes={script: [script, script]}, reason=script)
    lock_user(owner, reason=script, by=script)

    assert script not in page.get(user_page(owner)).content.decode()
