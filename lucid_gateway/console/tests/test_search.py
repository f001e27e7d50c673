"""The global search: what it finds, and what it never repeats."""

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import IssuedToken, SigningKey, User
from accounts.tests.operators import browser, signed_in, user_page
from accounts.tokens.issuing import issue_tokens, read_access_token
from accounts.tokens.signing_keys import bootstrap
from conftest import make_user
from lucid_gateway.audit.events import record
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.explorer.rows import address_forms
from lucid_gateway.kernel.record import RequestRecord, current
from lucid_gateway.policy.roles import Role
from ratelimit.models import AddressRule
from ratelimit.rules import read_rules, rules_cache
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk, TrustPolicy

SEARCH = "/admin/search/"


def search(client: Client, text: str) -> Any:
    return client.post(SEARCH, {"q": text})


def leads_to(client: Client, text: str) -> str:
    """Return the page to which the search for the text leads, or an empty text if it does not lead to one."""
    response = search(client, text)
    return str(response["Location"]) if response.status_code == 302 else ""


def titles(client: Client, text: str) -> list[str]:
    """Return the names of the matches that the page lists."""
    return [match.title for _, matches in search(client, text).context["groups"] for match in matches]


def keep_request(request_id: str, address: str = "192.0.2.1") -> KeptRequest:
    at, forms = timezone.now(), address_forms(address)
    texts = (
        "gateway", "worker", "error_code", "user_agent", "role", "credential_kind", "credential_id", "cluster",
        "instance", "cache", "trace_id", "reason", "user_id",
    )  # fmt: skip
    return KeptRequest.objects.create(
        kept_id=key_at(at, random=True), started_at=at, request_id=request_id, method="GET", path="/x", route="x",
        status=200, status_class=2, duration_ms=1, address=forms.text, address_key=forms.key, network=forms.network,
        response_bytes=1, **dict.fromkeys(texts, ""),
    )  # fmt: skip


@pytest.fixture
def from_outside() -> Any:
    """What follows comes from 198.51.100.20."""
    token = current.set(RequestRecord(client_address="198.51.100.20", user_agent="curl/8.14.1"))
    yield
    current.reset(token)


# One match


def test_a_user_is_found_by_email_username_and_id(page: Client, owner: User) -> None:
    for text in ("owner@example.org", " OWNER@Example.org ", "owner", "own", str(owner.pk), str(owner.pk).upper()):
        assert leads_to(page, text) == user_page(owner), text


def test_a_whole_email_leads_to_its_user_though_others_begin_with_it(page: Client, owner: User) -> None:
    User.objects.create(email="owner@example.org.uk", username="someone")

    assert leads_to(page, "owner@example.org") == user_page(owner)


def test_an_api_key_is_found_by_prefix_id_and_name(page: Client, owner: User) -> None:
    key, text = create_api_key(owner, name="Nightly build", permissions=[])

    for query in (f"lk_{key.pk}", key.pk, "Nightly build", text, f"X-API-Key: {text}".removeprefix("X-API-Key: ")):
        assert leads_to(page, query) == f"/admin/accounts/apikey/{key.pk}/change/"


def test_a_token_is_found_by_its_id_and_a_login_by_its_family(page: Client, owner: User) -> None:
    pair = issue_tokens(owner)
    claims = read_access_token(pair.access)

    for query in (claims["jti"], pair.access):
        assert leads_to(page, query) == f"/admin/accounts/issuedtoken/{claims['jti']}/change/"
    assert leads_to(page, claims["family"]) == f"/admin/accounts/issuedtoken/?q={claims['family']}"


def test_recordings_are_found_by_their_ids(page: Client, owner: User) -> None:
    session = create_session(owner.pk, name="a session")
    Chunk.objects.create(session=session, index=0, size=1, hash="0" * 64, state="recorded")
    manifest = make_manifest(change_session(session, version=None, changes={"status": "completed"}))
    policy = TrustPolicy.objects.create(user=owner, slot=1, name="policy", rules=[])

    for model, row in (("session", session), ("manifest", manifest), ("trustpolicy", policy)):
        assert leads_to(page, str(row.pk)) == f"/admin/sessions_api/{model}/{row.pk}/change/"


def test_a_signing_key_is_found_by_its_id(page: Client) -> None:
    bootstrap()
    kid = SigningKey.objects.get(state="active").pk

    assert leads_to(page, kid) == f"/admin/accounts/signingkey/{kid}/change/"


def test_a_request_that_is_not_kept_is_found_in_the_audit_log(page: Client, owner: User) -> None:
    request_id = search(page, "nothing")["X-Request-ID"]
    page.post("/admin/accounts/user/", {"action": "unlock", "_selected_action": str(owner.pk), "_confirmed": "yes"})
    event = record("user.updated", subject=owner)
    type(event).objects.filter(pk=event.pk)._blank(request_id=request_id)

    assert leads_to(page, request_id) == f"/admin/audit/auditevent/?q={request_id}"


def test_a_kept_request_is_found_by_its_id(page: Client) -> None:
    keep_request("a-request.of_a-client")

    assert leads_to(page, "a-request.of_a-client") == "/admin/requests/a-request.of_a-client/"


def test_the_requests_from_an_address_and_a_network_are_found(page: Client) -> None:
    keep_request("one", "198.51.100.20")
    keep_request("two", "2001:db8:1:2::3")

    assert leads_to(page, "198.51.100.0/24") == "/admin/requests/?network=198.51.100.0%2F24"
    assert leads_to(page, "2001:db8:1::/48") == "/admin/requests/?network=2001%3Adb8%3A1%3A%3A%2F48"
    assert titles(page, "198.51.100.20") == ["Requests from 198.51.100.20", "Block 198.51.100.20…"]


def test_the_rule_of_a_network_is_found(page: Client) -> None:
    rule = AddressRule.objects.create(network="203.0.113.0/24", kind="deny", reason="why")

    for text in ("203.0.113.0/24", "203.0.113.7/24", "::ffff:203.0.113.0/120"):
        assert leads_to(page, text) == f"/admin/ratelimit/addressrule/{rule.pk}/change/"


def test_an_address_is_found_by_the_rule_that_applies_to_it(page: Client) -> None:
    rule = AddressRule.objects.create(network="203.0.113.0/24", kind="deny", reason="why")
    rules_cache.current = read_rules()

    assert leads_to(page, "203.0.113.9") == f"/admin/ratelimit/addressrule/{rule.pk}/change/"


# Several matches, or none


@pytest.mark.usefixtures("from_outside")
def test_what_came_from_an_address_is_listed_with_a_block(page: Client, owner: User) -> None:
    issue_tokens(owner)
    record("login.succeeded", subject=owner)

    for text in ("198.51.100.20", "::ffff:198.51.100.20"):
        assert titles(page, text) == [
            "Tokens issued to 198.51.100.20", "Audit events from 198.51.100.20", "Block 198.51.100.20…",
        ]  # fmt: skip


def test_several_matches_are_listed_by_kind(page: Client, owner: User) -> None:
    make_user("owner-of-much", Role.USER)
    create_api_key(owner, name="owner", permissions=[])

    groups = search(page, "owner").context["groups"]
    assert [(kind, len(matches)) for kind, matches in groups] == [("Users", 2), ("API keys", 1)]
    assert titles(page, "own") == ["owner@example.org", "owner-of-much@example.org"]


def test_many_users_are_cut(page: Client) -> None:
    for number in range(12):
        make_user(f"someone{number}", Role.USER)

    assert len(titles(page, "someone")) == 10


@pytest.mark.parametrize(
    "text", ["nobody", "", "x" * 1000, "\0", "%", "../..", "{}", "1.2.3.4.5/99", "/", str(uuid.UUID(int=7))]
)
def test_without_a_match_the_page_says_what_can_be_searched(page: Client, text: str) -> None:
    response = search(page, text)

    assert response.status_code == 200
    assert "token family" in response.content.decode()
    assert ("Nothing was found." in response.content.decode()) == bool(text.strip("\0"))


def test_the_page_can_be_opened(page: Client) -> None:
    assert "token family" in page.get(SEARCH).content.decode()
    assert "Nothing was found." not in page.get(f"{SEARCH}?q=owner").content.decode()


# Secrets, permissions, queries


@pytest.mark.parametrize("with_key", [True, False])
def test_no_secret_is_repeated(page: Client, owner: User, with_key: bool) -> None:
    key, text = create_api_key(owner, name="key", permissions=[])
    secret = text if with_key else issue_tokens(owner).access
    if with_key:
        key.delete()
    else:
        IssuedToken.objects.all().delete()

    response = search(page, secret)
    assert "Nothing was found." in response.content.decode()
    assert secret[20:] not in response.content.decode()


def test_only_staff_can_search(node_operator: User) -> None:
    for client in (browser(), signed_in(node_operator)):
        assert "/admin/login/" in leads_to(client, "owner")


def test_every_page_has_the_field(page: Client, owner: User) -> None:
    for path in ("/admin/", "/admin/accounts/user/", user_page(owner)):
        assert f'<form class="find" action="{SEARCH}" method="post"' in page.get(path).content.decode()


@pytest.mark.parametrize("text", ["someone", "198.51.100.20", "198.51.100.0/24", str(uuid.UUID(int=7)), "a" * 32])
def test_the_number_of_queries_is_constant(page: Client, owner: User, text: str) -> None:
    def grow(name: str) -> None:
        user = make_user(f"someone-{name}", Role.USER)
        token = current.set(RequestRecord(client_address="198.51.100.20"))
        issue_tokens(user)
        create_api_key(user, name="someone", permissions=[])
        current.reset(token)
        keep_request(f"request-{name}", "198.51.100.20")

    grow("one")
    grow("two")
    search(page, text)
    with CaptureQueriesContext(connection) as before:
        search(page, text)
    for name in ("three", "four", "five"):
        grow(name)
    with CaptureQueriesContext(connection) as after:
        search(page, text)

    assert len(after) == len(before) <= 14


def test_hostile_names_are_escaped(page: Client, owner: User) -> None:
    script = "<script>alert(1)</script>"
    for _ in range(2):
        create_api_key(owner, name=script, permissions=[])

    response = search(page, script)
    assert len(response.context["groups"][0][1]) == 2
    assert script not in response.content.decode()
