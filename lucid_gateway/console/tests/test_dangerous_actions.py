"""Everything that operators can do, and whether it is dangerous: then it asks for the password or a code again.

A new action needs a line in ACTIONS, and a new page a line in FORMS or in WITHOUT_QUESTION. A dangerous one is in the
`dangerous_actions` of its ModelAdmin.
"""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.conftest import Clock, phone_of
from accounts.tests.operators import messages_of, prove, signed_in
from accounts.tokens.issuing import issue_tokens
from conftest import PASSWORD, make_user
from lucid_gateway.console.tests.pages import MISSING, NOBODY, PAGES, REDIRECT, address, make_rows
from lucid_gateway.operators import undo
from lucid_gateway.operators.identity import PROOF_SECONDS
from lucid_gateway.policy.roles import Role
from proxy.models import Maintenance
from proxy.tests.conftest import twins
from ratelimit.models import AddressRule, LimitRule

__all__ = ["twins"]  # a fixture
CONFIRMED = {"_confirmed": "yes", "reason": "why", "role": "node_operator", "lasts": "1h"}
CORE, ONE = "blockchain_core", "http://one.test:8084"
WIDE, NARROW = "10.0.0.0/8", "192.0.2.0/24"
# Whether an action is dangerous for one row, for two, and for one that is of staff or, of the rules, wide.
ACTIONS: dict[str, tuple[bool, bool, bool]] = {
    "accounts/user lock": (False, True, True),
    "accounts/user unlock": (False, True, True),
    "accounts/user lift_lockouts": (False, True, False),
    "accounts/user send_login_link": (False, True, False),
    "accounts/user end_sessions": (False, True, True),
    "accounts/user change_role": (True, True, True),
    "accounts/user reset_factors": (True, True, True),
    "accounts/user delete_accounts": (True, True, True),
    "accounts/apikey revoke": (False, True, True),
    "accounts/apikey confirm": (False, True, True),
    "accounts/issuedtoken revoke": (False, True, True),
    "accounts/issuedtoken end_families": (False, True, True),
    "accounts/signin end_families": (False, True, True),
    "ratelimit/addressrule lift": (False, True, True),
    "ratelimit/addressrule extend": (False, True, True),
    "ratelimit/limitrule lift": (False, True, True),
    "ratelimit/limitrule extend": (False, True, True),
    "proxy/maintenance end": (False, True, False),
}
USER_FORM = {"email": "owner@example.org", "username": "owner", "role": "user", "is_active": "on"}
RULE_FORM = {"kind": "deny", "tier": "authenticated", "limit": "7", "lasts": "1h"}
# Page, query and form -> whether it is dangerous.
FORMS: list[tuple[str, str, dict[str, str], bool]] = [
    ("accounts/user/<path:object_id>/change/", "", USER_FORM | {"first_name": "New"}, False),
    ("accounts/user/<path:object_id>/change/", "", USER_FORM | {"email": "new@example.org"}, True),
    ("accounts/user/<path:object_id>/change/", "", USER_FORM | {"role": "admin"}, True),
    ("accounts/user/<path:object_id>/change/", "", USER_FORM | {"is_active": ""}, True),
    ("accounts/signingkey/rotate/", "", {}, True),
    ("accounts/signingkey/rotate/", "?retire_now=1", {}, True),
    ("ratelimit/addressrule/add/", "", RULE_FORM | {"network": NARROW}, False),
    ("ratelimit/addressrule/add/", "", RULE_FORM | {"network": WIDE}, True),
    ("ratelimit/limitrule/add/", "", RULE_FORM | {"subject": "owner"}, False),
    ("ratelimit/limitrule/add/", "", RULE_FORM | {"subject": ""}, True),
    ("ratelimit/addressrule/<path:object_id>/change/", "", RULE_FORM, False),
    ("ratelimit/limitrule/<path:object_id>/change/", "", RULE_FORM, True),  # for everyone
    ("proxy/maintenance/add/", "", {"target": f"{CORE} {ONE}", "kind": "drain"}, False),
    ("proxy/maintenance/add/", "", {"target": f"{CORE} ", "kind": "drain"}, True),
    ("proxy/maintenance/close/", f"?target={CORE}%20{ONE}", {"kind": "drain"}, False),
    ("proxy/maintenance/close/", f"?target={CORE}", {"kind": "drain"}, True),
    ("proxy/maintenance/open/", "", {}, False),
    ("routes/edge/off/", "?route=wallets", {}, False),
    ("routes/edge/off/", "?route=all", {}, True),
    ("routes/edge/on/", "", {"route": "all"}, False),
    ("sessions_api/manifest/<path:object_id>/verify/", "", {}, False),
    ("sessions_api/manifest/<path:object_id>/anchor/", "", {}, True),
    ("accounts/automaticlockout/", "", {"subject": "account:nobody@example.org"}, False),
]
EDITABLE = {"accounts/user", "ratelimit/addressrule", "ratelimit/limitrule"}
# These change nothing, are lists (whose actions are in ACTIONS), or have a test of their own: `second-factor/` and
# `undo/` are below, and `password_change/` asks for the old password.
WITHOUT_QUESTION = {
    "", "login/", "logout/", "password_change/", "password_change/done/", "search/", "second-factor/", "undo/",
    "overview.json", "alarms.json", "alarms/", "requests/", "requests/<str:request_id>/", "preview/", "routes/",
    "jsi18n/", "proxy/maintenance/now.json", "audit/auditevent/export/<str:form>/",
    "sessions_api/trustpolicy/<path:object_id>/evaluate/",
}  # fmt: skip


@pytest.fixture
def late(super_admin: User) -> Client:
    """The browser of a super admin who entered the password more than 15 minutes ago."""
    client = signed_in(super_admin)
    prove(client, seconds_ago=PROOF_SECONDS + 60)
    return client


def rows_of(model: str) -> list[Any]:
    """Return two rows that are nobody's or those of users, and one that is of staff or wide."""
    people = [make_user("one", Role.USER), make_user("two", Role.USER), make_user("colleague", Role.ADMIN)]
    ends = timezone.now() + timedelta(hours=2)
    match model:
        case "accounts/user":
            return people
        case "accounts/apikey":
            return [create_api_key(user, name="laptop", permissions=["user:read"])[0] for user in people]
        case "accounts/issuedtoken" | "accounts/signin":
            for user in people:
                issue_tokens(user)
            return [user.issued_tokens.get(kind="refresh") for user in people]
        case "ratelimit/addressrule":
            networks = (NARROW, "198.51.100.0/24", WIDE)
            return [AddressRule.objects.create(network=each, kind="deny", expires_at=ends) for each in networks]
        case "ratelimit/limitrule":
            subjects = (*(f"user:{user.pk}" for user in people[:2]), "")
            return [
                LimitRule.objects.create(tier="public", subject=each, limit=5, expires_at=ends) for each in subjects
            ]
        case _:
            return [Maintenance.objects.create(cluster=CORE, kind="drain", reason="why") for _ in people]


def asks_for_proof(response: Any) -> bool:
    """Return whether the page asks for a proof; otherwise the action must be done."""
    if response.status_code == 302:
        return False
    assert set(response.context["form"].errors) >= {"proof"}
    return True


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_asks_for_a_proof_exactly_if_it_is_dangerous(late: Client, name: str) -> None:
    model, action = name.split(" ")
    one, two, special = (str(row.pk) for row in rows_of(model))

    def asks(*rows: str) -> bool:
        form = CONFIRMED | {"action": action, ACTION_CHECKBOX_NAME: list(rows)}
        return asks_for_proof(late.post(f"/admin/{model}/", form))

    # In this order, because what is not dangerous is done.
    of_special, of_two, of_one = asks(special), asks(one, two), asks(one)
    assert (of_one, of_two, of_special) == ACTIONS[name]


def test_every_action_is_in_the_table(super_admin: User) -> None:
    request = RequestFactory().get("/admin/")
    request.user = super_admin
    found = {
        f"{model._meta.app_label}/{model._meta.model_name} {action}"
        for model, pages in admin.site._registry.items()
        for action in pages.get_actions(request)
    }
    assert found == set(ACTIONS)


@pytest.mark.usefixtures("twins", "with_edge")
@pytest.mark.parametrize("attempt", FORMS, ids=lambda attempt: attempt[0])
def test_a_page_asks_for_a_proof_exactly_if_what_it_does_is_dangerous(
    late: Client, owner: User, attempt: tuple[str, str, dict[str, str], bool]
) -> None:
    page, query, form, dangerous = attempt
    rows = make_rows(owner)
    if page.endswith("add/"):
        AddressRule.objects.all().delete()
        LimitRule.objects.all().delete()

    response = late.post(address(page, rows) + query, {"_confirmed": "yes", "reason": "why"} | form)
    assert asks_for_proof(response) == dangerous


def test_every_page_is_in_the_table() -> None:
    models = {f"{model._meta.app_label}/{model._meta.model_name}" for model in admin.site._registry}
    lists = {f"{model}/" for model in models} | {f"{model}/<path:object_id>/history/" for model in models}
    read_only = {f"{model}/<path:object_id>/change/" for model in models - EDITABLE}
    known = {page for page, *_ in FORMS} | WITHOUT_QUESTION | lists | read_only

    assert {pattern for pattern, page in PAGES.items() if page not in (NOBODY, REDIRECT, MISSING)} - known == set()
    assert (WITHOUT_QUESTION | {page for page, *_ in FORMS}) - PAGES.keys() == set()


def test_an_action_is_judged_by_what_runs_and_not_by_a_second_name_in_the_form(late: Client, owner: User) -> None:
    form = CONFIRMED | {"action": ["delete_accounts", "lock"], "index": "0", ACTION_CHECKBOX_NAME: [str(owner.pk)]}

    assert asks_for_proof(late.post("/admin/accounts/user/", form))
    owner.refresh_from_db()
    assert owner.is_active


@pytest.mark.parametrize("step", ["begin", "renew"])
def test_the_steps_of_the_second_factor_that_show_secrets_ask_for_a_proof(
    late: Client, super_admin: User, clock: Clock, step: str
) -> None:
    if step == "renew":
        phone_of(super_admin, clock)

    response = late.post("/admin/second-factor/", {"step": step})
    assert "proof" in response.context["forms"][step].errors


# Undo


UNDONE: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a lock of one user": ("accounts/user/", {"action": "lock", "rows": 1}, False),
    "a lock of two users": ("accounts/user/", {"action": "lock", "rows": 2}, True),
    "a narrow rule": ("ratelimit/addressrule/add/", RULE_FORM | {"network": NARROW}, False),
    "a wide rule": ("ratelimit/addressrule/add/", RULE_FORM | {"network": WIDE}, True),
    "a limit for everyone": ("ratelimit/limitrule/add/", RULE_FORM | {"subject": ""}, True),
}


def do(client: Client, page: str, form: dict[str, Any]) -> str:
    """Do what can be undone with a recent proof; return the key of its button."""
    chosen = [str(row.pk) for row in rows_of("accounts/user")[: form.get("rows", 0)]]
    response: Any = client.post(f"/admin/{page}", CONFIRMED | form | {ACTION_CHECKBOX_NAME: chosen}, follow=True)
    return [undo.key_of(message) for message in response.context["messages"]][-1]


@pytest.mark.parametrize("name", UNDONE)
def test_undoing_what_was_dangerous_is_dangerous(super_admin: User, name: str) -> None:
    page, form, dangerous = UNDONE[name]
    client = signed_in(super_admin)
    key = do(client, page, form)
    prove(client, seconds_ago=PROOF_SECONDS + 60)
    left = AddressRule.objects.count(), LimitRule.objects.count(), User.objects.locked().count()

    asked = client.post("/admin/undo/", {"undo": key, "back": "/admin/"})
    assert (asked.status_code == 200) == dangerous
    if not dangerous:
        return
    assert "proof" in asked.context["form"].fields
    assert 'name="undo" value="' + key in asked.content.decode()
    assert (AddressRule.objects.count(), LimitRule.objects.count(), User.objects.locked().count()) == left
    wrong = client.post("/admin/undo/", {"undo": key, "_confirmed": "yes", "proof": "Wrong-Horse-7"})
    assert asks_for_proof(wrong)
    form = {"undo": key, "_confirmed": "yes", "proof": PASSWORD, "back": "/admin/accounts/user/"}
    done: Any = client.post("/admin/undo/", form, follow=True)
    assert "undone" in messages_of(done)[0]
    assert done.request["PATH_INFO"] == "/admin/accounts/user/"


def test_with_a_recent_proof_a_dangerous_undo_takes_one_click(super_admin: User) -> None:
    client = signed_in(super_admin)
    page, form, _ = UNDONE["a wide rule"]
    key = do(client, page, form)

    assert client.post("/admin/undo/", {"undo": key}).status_code == 302
    assert not AddressRule.objects.exists()
