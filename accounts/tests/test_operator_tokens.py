"""The operator pages for tokens and signed-in devices."""

import uuid

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import IssuedToken, User
from accounts.tests.conftest import use
from accounts.tests.operators import act, actors_of, choose, me, user_page
from accounts.tokens.issuing import TokenPair, end_family, issue_tokens, read_access_token, refresh_tokens
from conftest import ApiClient, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role

TOKENS, DEVICES = "/admin/accounts/issuedtoken/", "/admin/accounts/signin/"


def test_tokens_are_searched_and_filtered(page: Client, tokens: TokenPair) -> None:
    counts = {
        "": 2, "?q=owner@example.org": 2, "?q=192.0.2.1": 2, "?q=nobody": 0, "?kind__exact=refresh": 1,
        "?revoked_at__isnull=True": 2, "?revoked_at__isnull=False": 0, "?o=2.-5": 2,
    }  # fmt: skip

    assert {query: page.get(TOKENS + query).context["cl"].result_count for query in counts} == counts


def test_the_tokens_of_a_login_are_found_by_their_family(page: Client, tokens: TokenPair, owner: User) -> None:
    issue_tokens(owner)
    family = read_access_token(tokens.access)["family"]

    assert page.get(f"{TOKENS}?q={family}").context["cl"].result_count == 2
    assert page.get(f"{DEVICES}?q={family}").context["cl"].result_count == 1


def test_a_token_is_found_by_its_name(page: Client, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()

    assert [found.jti for found in page.get(f"/admin/accounts/issuedtoken/?q={row.jti}").context["cl"].result_list] == [
        row.jti
    ]
    assert page.get(f"/admin/accounts/issuedtoken/{row.jti}/change/").status_code == 200


def test_tokens_cannot_be_edited(super_admin_page: Client, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()

    assert super_admin_page.post(f"/admin/accounts/issuedtoken/{row.jti}/change/", {"address": "x"}).status_code == 403


@pytest.mark.parametrize("query", ["", "?q=owner@example.org"])
def test_a_single_token_is_revoked(page: Client, api: ApiClient, tokens: TokenPair, query: str) -> None:
    row = IssuedToken.objects.get(kind="access")

    assert act(page, "revoke", row, model="issuedtoken", query=query) == ["1 token revoked."]
    assert me(api, tokens) == "2003"
    assert api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh}).status_code == 200


@pytest.fixture
def tokens_of_each_status(tokens: TokenPair, owner: User) -> None:
    """Two live tokens, two revoked ones, a used one (and the two live ones that replaced it), and an expired one."""
    ended, used = issue_tokens(owner), issue_tokens(owner)
    end_family(read_access_token(ended.access)["family"])
    refresh_tokens(used.refresh)
    expired = read_access_token(issue_tokens(owner).access)
    IssuedToken.objects.filter(jti=expired["jti"]).update(expires_at=timezone.now())


def test_tokens_can_be_filtered_by_status(page: Client, tokens_of_each_status: None) -> None:
    counts = {"live": 6, "blacklist": 1, "revoked": 2, "used": 1, "expired": 1, "nonsense": 10}

    assert {fate: page.get(f"{TOKENS}?fate={fate}").context["cl"].result_count for fate in counts} == counts


def test_the_filters_show_their_number_of_tokens(page: Client, tokens_of_each_status: None) -> None:
    shown = page.get(f"{TOKENS}?_facets=True").content.decode()

    assert [name in shown for name in ("Live (6)", "On the blacklist (1)", "Revoked (2)", "Used (1)")] == [True] * 4


def test_a_refresh_does_not_add_a_device(page: Client, tokens: TokenPair, owner: User) -> None:
    _, pair = refresh_tokens(tokens.refresh)
    refresh_tokens(pair.refresh)
    rows = page.get(DEVICES).context["cl"].result_list

    assert [row.family for row in rows] == [uuid.UUID(read_access_token(tokens.access)["family"])]
    assert page.get(f"{DEVICES}{rows[0].pk}/change/").status_code == 200


def test_a_device_whose_login_has_ended_is_gone(page: Client, tokens: TokenPair) -> None:
    end_family(read_access_token(tokens.access)["family"])

    assert page.get(DEVICES).context["cl"].result_count == 0


@pytest.mark.parametrize(("model", "action"), [("issuedtoken", "revoke"), ("issuedtoken", "end_families"),
                                               ("signin", "end_families")])  # fmt: skip
def test_an_action_asks_first(page: Client, api: ApiClient, tokens: TokenPair, model: str, action: str) -> None:
    row = IssuedToken.objects.get(kind="refresh")
    response = choose(page, action, row, model=model)

    assert response.context["rows"] == [(row.jti, f"owner@example.org: refresh {row.jti}, 192.0.2.1, pytest")]
    assert (me(api, tokens), AuditEvent.objects.count()) == ("in", 0)


@pytest.mark.parametrize("model", ["issuedtoken", "signin"])
def test_ending_a_login_revokes_all_of_its_tokens(
    page: Client, api: ApiClient, owner: User, tokens: TokenPair, model: str
) -> None:
    other, row = issue_tokens(owner), IssuedToken.objects.get(kind="refresh", address="192.0.2.1")

    assert act(page, "end_families", row, model=model) == ["1 login ended."]
    assert (me(api, tokens), me(api, other)) == ("2003", "in")
    assert use(api, tokens.refresh) == 401


def test_an_ended_login_is_recorded_with_the_operator(
    page: Client, admin: User, owner: User, tokens: TokenPair
) -> None:
    act(page, "end_families", IssuedToken.objects.get(kind="refresh"), model="signin")

    assert actors_of("token.revoked") == [(str(admin.pk), str(owner.pk))]


def test_a_login_is_ended_once_if_both_of_its_tokens_are_selected(page: Client, tokens: TokenPair) -> None:
    assert act(page, "end_families", *IssuedToken.objects.all(), model="issuedtoken") == ["1 login ended."]


def test_a_revocation_is_recorded_with_the_operator(page: Client, admin: User, tokens: TokenPair) -> None:
    rows = list(IssuedToken.objects.all())
    assert act(page, "revoke", *rows, model="issuedtoken") == ["2 tokens revoked."]

    event = AuditEvent.objects.get(type="token.revoked")
    assert (event.actor, event.details["tokens"]) == (str(admin.pk), 2)
    assert sorted(event.details["jtis"]) == sorted(row.jti for row in rows)


def test_a_revocation_is_recorded_for_each_user(page: Client, owner: User, node_operator: User) -> None:
    """So that it is on the page of each of them."""
    for user in (owner, owner, node_operator):
        issue_tokens(user)
    act(page, "revoke", *IssuedToken.objects.filter(kind="access"), model="issuedtoken")

    events = AuditEvent.objects.filter(type="token.revoked")
    assert {event.subject: event.details["tokens"] for event in events} == {str(owner.pk): 2, str(node_operator.pk): 1}
    for user in (owner, node_operator):
        jtis = events.get(subject=str(user.pk)).details["jtis"]
        assert set(jtis) == set(user.issued_tokens.filter(kind="access").values_list("jti", flat=True))
    assert "Tokens were revoked" in page.get(user_page(owner)).content.decode()


def test_a_revoked_token_is_not_revoked_again(page: Client, tokens: TokenPair) -> None:
    row = IssuedToken.objects.get(kind="access")
    act(page, "revoke", row, model="issuedtoken")

    assert act(page, "revoke", row, model="issuedtoken") == ["0 tokens revoked."]


@pytest.mark.parametrize(("model", "action"), [("issuedtoken", "revoke"), ("issuedtoken", "end_families"),
                                               ("signin", "end_families")])  # fmt: skip
def test_only_super_admins_can_end_tokens_of_other_staff(
    page: Client, super_admin_page: Client, model: str, action: str
) -> None:
    issue_tokens(make_user("colleague", Role.ADMIN))
    row = IssuedToken.objects.sign_ins().get()

    assert act(page, action, row, model=model) == ["You may not do this to any of the selected rows."]
    assert IssuedToken.objects.sign_ins().exists()
    act(super_admin_page, action, row, model=model)
    assert not IssuedToken.objects.sign_ins().exists()


def test_operators_can_end_their_own_logins(page: Client, admin: User) -> None:
    issue_tokens(admin)

    assert act(page, "end_families", IssuedToken.objects.get(kind="refresh"), model="signin") == ["1 login ended."]
