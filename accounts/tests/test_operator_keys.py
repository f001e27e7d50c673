"""The operator pages for signing keys and API keys."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.admin import tokens as token_pages
from accounts.api_keys import create_api_key
from accounts.models import ApiKey, IssuedToken, SigningKey, User
from accounts.tests.operators import act, actors_of, choose, messages_of
from accounts.tokens import signing_keys
from accounts.tokens.issuing import TokenPair
from accounts.tokens.keyring import keyring_cache
from accounts.tokens.signing_keys import RotationUnderway, bootstrap
from conftest import ApiClient, error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role

KEYS, ROTATE = "/admin/accounts/signingkey/", "/admin/accounts/signingkey/rotate/"
EMERGENCY = f"{ROTATE}?retire_now=1"
API_KEYS = "/admin/accounts/apikey/"
CONFIRMED = {"_confirmed": "yes"}


@pytest.fixture(autouse=True)
def no_other_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other worker has to load a new key before it signs."""
    monkeypatch.setattr(signing_keys, "PUBLISHED_AFTER_SECONDS", 0)


@pytest.fixture
def keys(db: None) -> list[str]:
    """The ids of the keys of a new installation: the active key and the next one."""
    bootstrap()
    return [SigningKey.objects.get(state=state).kid for state in ("active", "next")]


def states() -> dict[str, str]:
    return dict(SigningKey.objects.values_list("kid", "state"))


def rotate(client: Client, path: str = ROTATE) -> list[str]:
    """Confirm a rotation; return the messages on the page that follows."""
    active = SigningKey.objects.get(state="active").kid
    answers = {"typed": active, "reason": "a leaked backup"} if path == EMERGENCY else {}
    return messages_of(client.post(path, CONFIRMED | answers, follow=True))


def key_of(user: User) -> tuple[ApiKey, str]:
    """Return a new API key and its text."""
    return create_api_key(user, name="laptop", permissions=["user:read"])


def status_with(api: ApiClient, text: str) -> str:
    """Return `in`, or the code of the refusal."""
    response: Any = api.send("get", "/users/me", headers={"X-API-Key": text})
    return "in" if response.status_code == 200 else error_code(response)


def test_the_list_shows_how_many_live_tokens_each_key_signed(page: Client, keys: list[str], tokens: TokenPair) -> None:
    client, shown = page, page.get(KEYS).context["cl"]

    counts = {row.kid: shown.model_admin.live_tokens(row) for row in shown.result_list}
    assert counts == {keys[0]: 2, keys[1]: 0}
    assert client.get(f"{KEYS}{keys[0]}/change/").status_code == 200


def sign_since(kid: str, *, days: float) -> None:
    """Make a key one that has been active for so many days."""
    then = timezone.now() - timedelta(days=days)
    SigningKey.objects.filter(kid=kid).update(activated_at=then, created_at=then)


def words(client: Client) -> str:
    """Return the page of the keys with its white space collapsed, as a browser shows it."""
    return " ".join(client.get(KEYS).content.decode().split())


def test_the_page_says_since_when_the_key_signs_and_when_a_rotation_is_due(page: Client, keys: list[str]) -> None:
    sign_since(keys[0], days=12)

    shown = page.get(KEYS)
    assert shown.context["due_at"] == SigningKey.objects.get(kid=keys[0]).activated_at + timedelta(days=90)
    assert f"Key <code>{keys[0]}</code> has signed all tokens since <time" in words(page)
    assert "</time>, for 12 days." in words(page)
    assert "The next rotation is due <time" in words(page)
    assert "for at most 90 days" in words(page)


def test_an_overdue_rotation_is_a_warning(super_admin_page: Client, keys: list[str]) -> None:
    sign_since(keys[0], days=91)

    assert '<p class="banner warn"><span>Key' in words(super_admin_page)
    assert "A rotation was due <time" in words(super_admin_page)
    assert '<a class="button main" href="/admin/accounts/signingkey/rotate/">' in words(super_admin_page)


def test_the_page_says_what_rotating_does(page: Client, keys: list[str]) -> None:
    assert "until its last token has expired, 7 days later. Nobody is signed out" in words(page)
    assert "all users must log in again" in words(page)
    assert "Only super admins can rotate the keys." in words(page)


def test_states_are_pills_and_ages_are_in_days(page: Client, keys: list[str]) -> None:
    sign_since(keys[0], days=3)

    assert '<span class="pill ok">Active</span>' in words(page)
    assert "3 days" in words(page)
    assert "less than a day" in words(page)


def test_without_a_key_the_page_says_so(page: Client) -> None:
    assert "There is no active key: the first token makes one." in words(page)


def test_a_count_of_very_many_tokens_stops(
    page: Client, keys: list[str], tokens: TokenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_pages, "COUNTED_TOKENS", 1)
    assert "over 1<" in words(page)


def test_no_page_shows_a_secret(super_admin_page: Client, keys: list[str], owner: User) -> None:
    key, text = key_of(owner)
    paths = [KEYS, *(f"{KEYS}{kid}/change/" for kid in keys), API_KEYS, f"{API_KEYS}{key.pk}/change/"]
    shown = "".join(super_admin_page.get(path).content.decode() for path in paths)

    for secret in (*SigningKey.objects.values_list("secret", flat=True), key.secret_hash, text.split("_", 2)[2]):
        assert secret not in shown


@pytest.mark.parametrize("path", [ROTATE, EMERGENCY])
def test_an_admin_cannot_rotate_the_keys(page: Client, keys: list[str], path: str) -> None:
    before = states()
    assert "rotate/" not in page.get(KEYS).content.decode()

    assert messages_of(page.get(path, follow=True)) == ["Only super admins can rotate the keys."]
    assert rotate(page, path) == ["Only super admins can rotate the keys."]
    assert states() == before


@pytest.mark.parametrize("path", [ROTATE, EMERGENCY])
def test_a_rotation_asks_first(super_admin_page: Client, keys: list[str], tokens: TokenPair, path: str) -> None:
    before = states()
    assert path in super_admin_page.get(KEYS).content.decode()

    for response in (super_admin_page.get(path), super_admin_page.post(path)):
        assert f'name="_confirmed" value="{response.context["title"]}"' in response.content.decode()
        assert ("with them 2 live tokens" in response.content.decode()) == (path == EMERGENCY)
    assert states() == before


def test_after_a_rotation_the_next_key_signs_and_tokens_stay_valid(
    super_admin_page: Client, keys: list[str], tokens: TokenPair
) -> None:
    assert rotate(super_admin_page) == [f"{keys[1]} signs now; 0 tokens ended."]

    after = states()
    assert (after[keys[0]], after[keys[1]], len(after)) == ("retiring", "active", 3)
    assert IssuedToken.objects.live().count() == 2


@pytest.mark.parametrize("typed", ["", "next", "no-such-key"])
def test_an_emergency_needs_the_id_of_the_active_key(super_admin_page: Client, keys: list[str], typed: str) -> None:
    before, sent = states(), {"typed": keys[1] if typed == "next" else typed, "reason": "a leaked backup"}
    response = super_admin_page.post(EMERGENCY, CONFIRMED | sent)

    assert response.context["form"].errors.keys() == {"typed"}
    assert f"Type {keys[0]} to confirm" in response.content.decode()
    assert states() == before


def test_an_emergency_revokes_every_key_and_token(super_admin_page: Client, keys: list[str], tokens: TokenPair) -> None:
    (message,) = rotate(super_admin_page, EMERGENCY)

    after = states()
    assert message == f"{SigningKey.objects.get(state='active').kid} signs now; 2 tokens ended."
    assert (after[keys[0]], after[keys[1]], sorted(after.values())) == (
        "revoked", "revoked", ["active", "next", "revoked", "revoked"],
    )  # fmt: skip
    assert IssuedToken.objects.live().count() == 0


def test_an_emergency_needs_a_reason(super_admin_page: Client, keys: list[str]) -> None:
    before = states()
    response = super_admin_page.post(EMERGENCY, CONFIRMED | {"typed": keys[0], "reason": " "})

    assert response.context["form"].errors.keys() == {"reason"}
    assert states() == before


def test_the_audit_log_says_why_all_keys_were_retired(super_admin_page: Client, keys: list[str]) -> None:
    rotate(super_admin_page, EMERGENCY)

    events = AuditEvent.objects.filter(type__in=["signing_key.revoked", "token.revoked"])
    assert {event.details["why"] for event in events} == {"a leaked backup"}
    assert {event.subject for event in events.filter(type="signing_key.revoked")} == set(keys)


@pytest.mark.parametrize("path", [ROTATE, EMERGENCY])
def test_all_events_of_a_rotation_name_the_operator(
    super_admin_page: Client, super_admin: User, keys: list[str], path: str
) -> None:
    AuditEvent.objects.forget()
    rotate(super_admin_page, path)

    assert {actor for (actor,) in AuditEvent.objects.values_list("actor")} == {str(super_admin.pk)}
    assert AuditEvent.objects.filter(type="signing_key.active").count() == 1


def test_later_events_do_not_name_the_operator_of_a_rotation(super_admin: User, keys: list[str], owner: User) -> None:
    token_pages.rotate_as(super_admin, retire_now=False)
    key_of(owner)

    assert actors_of("api_key.created") == [("manage.py", str(owner.pk))]


def test_a_parallel_rotation_is_an_error_message(
    super_admin_page: Client, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise RotationUnderway()

    monkeypatch.setattr(token_pages, "rotate", lose)

    assert rotate(super_admin_page) == ["Someone else is rotating the keys. Try again later."]


def test_the_operator_stays_signed_in_after_an_emergency_rotation(super_admin_page: Client, keys: list[str]) -> None:
    rotate(super_admin_page, EMERGENCY)
    keyring_cache.ring = None

    assert super_admin_page.get("/admin/").status_code == 200


def test_api_keys_are_searched_and_filtered(page: Client, owner: User, node_operator: User) -> None:
    mine, _ = key_of(owner)
    key_of(node_operator)

    for query in (f"?q={mine.key_id}", "?q=OWNER@example.org", f"?user__user_id__exact={owner.pk}"):
        assert list(page.get(f"{API_KEYS}{query}").context["cl"].result_list) == [mine]
    assert page.get(f"{API_KEYS}?revoked_at__isnull=True&q=laptop").context["cl"].result_count == 2
    assert page.get(f"{API_KEYS}?_facets=True").status_code == 200


def test_revoking_an_api_key_asks_first(page: Client, api: ApiClient, owner: User) -> None:
    key, text = key_of(owner)
    response = choose(page, "revoke", key, model="apikey")

    assert response.context["rows"] == [(key.pk, f"laptop ({key.key_id}) of owner@example.org")]
    assert status_with(api, text) == "in"


def test_a_revoked_api_key_stops_with_its_next_request(page: Client, api: ApiClient, admin: User, owner: User) -> None:
    key, text = key_of(owner)
    assert status_with(api, text) == "in"

    assert act(page, "revoke", key, model="apikey", query="?q=owner@example.org") == ["1 API key revoked."]
    assert status_with(api, text) == "2003"
    assert actors_of("api_key.revoked") == [(str(admin.pk), str(owner.pk))]


def test_an_api_key_is_revoked_once(page: Client, owner: User) -> None:
    key, _ = key_of(owner)
    act(page, "revoke", key, model="apikey")

    assert act(page, "revoke", key, model="apikey") == ["0 API keys revoked."]
    assert len(actors_of("api_key.revoked")) == 1


def test_only_super_admins_can_revoke_the_api_keys_of_other_staff(page: Client, super_admin_page: Client) -> None:
    key, _ = key_of(make_user("colleague", Role.ADMIN))

    assert act(page, "revoke", key, model="apikey") == ["You may not do this to any of the selected rows."]
    assert ApiKey.objects.get().revoked_at is None
    assert act(super_admin_page, "revoke", key, model="apikey") == ["1 API key revoked."]


@pytest.mark.parametrize("model", ["signingkey", "apikey"])
def test_keys_cannot_be_edited(super_admin_page: Client, keys: list[str], owner: User, model: str) -> None:
    row = key_of(owner)[0].pk if model == "apikey" else keys[0]

    for path in (f"{row}/change/", f"{row}/delete/", "add/"):
        assert (
            super_admin_page.post(f"/admin/accounts/{model}/{path}", {"name": "x", "state": "next"}).status_code == 403
        )
