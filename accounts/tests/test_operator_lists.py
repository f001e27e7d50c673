"""The lists of people: users, devices, tokens, API keys and lockouts. They stay fast with a million rows."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.lockouts import GuessAttempt, account, signed_in_user
from accounts.models import ApiKey, IssuedToken, User
from accounts.tests.operators import choose
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import make_user
from lucid_gateway.operators import long_lists, search
from lucid_gateway.policy.roles import Role

USERS, TOKENS, DEVICES = "/admin/accounts/user/", "/admin/accounts/issuedtoken/", "/admin/accounts/signin/"
KEYS, LOCKOUTS = "/admin/accounts/apikey/", "/admin/accounts/automaticlockout/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def names(client: Client, query: str) -> list[str]:
    """Return the usernames that a search lists."""
    return sorted(row.username for row in client.get(f"{USERS}?q={query}").context["cl"].result_list)


def text(response: Any) -> str:
    return str(response.content.decode())


def buttons(client: Client, path: str, action: str) -> int:
    """Return how many rows of the list have a button for the action."""
    return text(client.get(path)).count(f'name="row_action" value="{action} ')


@pytest.fixture
def people(db: None) -> None:
    """Users who can be found in different ways."""
    now = timezone.now()
    rows = [("ada", "Ada", "Lovelace"), ("grace", "Grace", "Hopper"), ("adamant", "", ""), ("linus", "Linus", "Adams")]
    for age, (name, first, last) in enumerate(rows):
        user = User.objects.create(email=f"{name}@example.net", username=name, first_name=first, last_name=last)
        User.objects.filter(pk=user.pk).update(created_at=now - timedelta(days=age))


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("ADA", ["ada", "adamant", "linus"]), ("ada@example.net", ["ada"]), ("love", ["ada"]),
        ("hopper+grace", ["grace"]), ("ada+grace", []), ("%25", []),
        ("example.net", ["ada", "adamant", "grace", "linus"]),
    ],
)  # fmt: skip
def test_users_are_found_by_any_part_of_their_names(page: Client, query: str, found: list[str]) -> None:
    assert names(page, query) == found


@pytest.mark.usefixtures("people")
def test_parts_are_searched_only_among_the_newest_users(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "NEWEST", 2)  # the admin and Ada

    assert names(page, "hopper") == []
    assert names(page, "grac") == ["grace"]


@pytest.mark.usefixtures("people")
def test_a_search_reads_a_limited_number_of_users(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "NEWEST", 0)
    monkeypatch.setattr(search, "MAX_FOUND", 1)

    assert names(page, "ada") == ["ada"]


@pytest.mark.usefixtures("people")
def test_a_filtered_list_counts_a_limited_number_of_rows(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "COUNTED", 3)

    assert "more than 3</span>" in text(page.get(f"{USERS}?role__exact=user"))
    assert "more than" not in text(page.get(f"{USERS}?role__exact=admin"))
    assert page.get(USERS).context["cl"].result_count == 5


@pytest.mark.parametrize("path", [USERS, TOKENS, DEVICES, KEYS, LOCKOUTS])
def test_a_list_needs_the_same_number_of_queries_for_any_number_of_rows(page: Client, owner: User, path: str) -> None:
    def grow(user: User) -> None:
        issue_tokens(user)
        create_api_key(user, name="laptop", permissions=[])
        for subject in (account(user.email), signed_in_user(user.pk)):
            for _ in range(10):
                GuessAttempt(subject)

    grow(owner)
    page.get(path)  # the first page of a session writes it
    with CaptureQueriesContext(connection) as before:
        page.get(path)
    for number in range(4):
        grow(make_user(f"user{number}", Role.USER))
    with CaptureQueriesContext(connection) as after:
        page.get(path)

    assert len(after) == len(before) > 0


def test_tokens_are_found_by_the_beginning_of_an_address_and_a_jti(page: Client, tokens: TokenPair) -> None:
    jti = IssuedToken.objects.get(kind="refresh").jti
    counts = {"192.0.": 2, "192.0.2.1": 2, "192.0.2.2": 0, jti[:8]: 1, jti.upper(): 1, "own": 2}

    assert {q: page.get(f"{TOKENS}?q={q}").context["cl"].result_count for q in counts} == counts


def test_a_device_is_named_in_words(page: Client, tokens: TokenPair) -> None:
    IssuedToken.objects.update(user_agent=FIREFOX)

    assert f'<span class="cut" title="{FIREFOX}">Firefox on Linux</span>' in text(page.get(DEVICES))


def test_a_token_shows_its_state_and_a_live_one_can_be_revoked(page: Client, tokens: TokenPair) -> None:
    IssuedToken.objects.filter(kind="access").update(revoked_at=timezone.now())

    shown = text(page.get(TOKENS))
    assert '<span class="pill bad">Revoked</span>' in shown
    assert '<span class="pill ok">Live</span>' in shown
    assert buttons(page, TOKENS, "revoke") == 1


def test_an_api_key_shows_its_state_and_the_buttons_that_change_it(page: Client, owner: User) -> None:
    keys = [create_api_key(owner, name=name, permissions=[])[0] for name in ("live", "old", "suspended", "revoked")]
    past = timezone.now() - timedelta(days=1)
    for key, column in zip(keys[1:], ("expires_at", "suspended_at", "revoked_at"), strict=True):
        ApiKey.objects.filter(pk=key.pk).update(**{column: past})

    shown = text(page.get(KEYS))
    assert [shown.count(f">{state}</span>") for state in ("Live", "Expired", "Suspended", "Revoked")] == [1, 1, 1, 1]
    assert (buttons(page, KEYS, "revoke"), buttons(page, KEYS, "confirm")) == (2, 1)


def test_an_api_key_is_found_by_its_prefix_and_any_part_of_its_name(page: Client, owner: User) -> None:
    key, _ = create_api_key(owner, name="Nightly build", permissions=[])
    queries = [f"lk_{key.key_id}", f"lk_{key.key_id}_wrong", key.key_id[:6], "Night", "BUILD"]

    assert [list(page.get(f"{KEYS}?q={query}", follow=True).context["cl"].result_list) for query in queries] == [
        [key]
    ] * 5


@pytest.mark.parametrize("path", [TOKENS, DEVICES, KEYS])
def test_an_admin_has_no_buttons_on_rows_of_other_staff(
    page: Client, super_admin_page: Client, super_admin: User, path: str
) -> None:
    issue_tokens(super_admin)
    create_api_key(super_admin, name="key", permissions=[])

    assert 'name="row_action"' not in text(page.get(path))
    assert 'name="row_action"' in text(super_admin_page.get(path))


def test_a_lockout_names_the_user_with_a_link(page: Client, owner: User) -> None:
    for subject in (signed_in_user(owner.pk), account("nobody@example.org")):
        for _ in range(10):
            GuessAttempt(subject)

    shown = text(page.get(LOCKOUTS))
    assert f'href="{USERS}{owner.pk}/change/" class="cut" title="owner@example.org">owner@example.org</a>' in shown
    assert "Second factor of a signed-in user" in shown
    assert "no account" in shown


def test_lockouts_are_searched(page: Client, owner: User) -> None:
    for email in (owner.email, "other@example.org"):
        for _ in range(10):
            GuessAttempt(account(email))

    found = page.get(f"{LOCKOUTS}?q=OWNER").context["lockouts"]
    assert [lockout.subject.name for lockout in found] == ["owner@example.org"]
    assert "No active lockout matches this search." in text(page.get(f"{LOCKOUTS}?q=king"))


@pytest.mark.parametrize("action", ["unlock", "lift_lockouts", "send_login_link"])
def test_milder_actions_ask_first_too(page: Client, owner: User, action: str) -> None:
    assert [row for _, row in choose(page, action, owner).context["rows"]] == ["owner@example.org"]
