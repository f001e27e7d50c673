"""The page "What would happen?": who may see it, what its form accepts, and what it shows."""

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.operators import signed_in
from ratelimit.models import AddressRule
from ratelimit.rules import rules_cache

pytestmark = pytest.mark.django_db
PATH = "/api/v1/chain/info"


@pytest.fixture
def operator(admin: User) -> Client:
    return signed_in(admin)


def page(operator: Client, **fields: str) -> Any:
    """Send the form; return the page."""
    return operator.post(reverse("admin:preview"), {"method": "GET", "path": PATH} | fields)


def errors(response: Any) -> str:
    return str(response.context["form"].errors)


def test_the_empty_form_decides_nothing(operator: Client) -> None:
    response = operator.get(reverse("admin:preview"))

    assert response.status_code == 200
    assert "What would happen?" in response.content.decode()
    assert "lines" not in response.context


@pytest.mark.parametrize("by", ["email", "Email", "username", "id"])
def test_a_user_is_found_by_email_and_id(operator: Client, owner: User, by: str) -> None:
    texts = {"email": owner.email, "Email": f" {owner.email.title()} ", "id": str(owner.pk)}
    texts["username"] = owner.username

    response = page(operator, user=texts[by])

    assert response.context["question"].user == owner
    assert [line.name for line in response.context["lines"]][:4] == ["Address", "Path", "Route", "Identity"]


@pytest.mark.parametrize("by", ["name", "id", "prefix", "text"])
def test_a_key_is_found_by_name_id_and_text_and_its_secret_is_not_shown(operator: Client, owner: User, by: str) -> None:
    key, text = create_api_key(owner, name="indexer prod", permissions=["blockchain:read"])
    texts = {"name": key.name, "id": key.key_id, "prefix": f"lk_{key.key_id}", "text": text}

    response = page(operator, key=texts[by])

    assert response.context["question"].key == key
    assert text[-20:] not in response.content.decode()


def test_the_secret_of_an_unknown_key_is_not_shown_either(operator: Client) -> None:
    response = page(operator, key="lk_abcdefghijkl_" + "S" * 43)

    assert "No API key has this name or id." in errors(response)
    assert "SSSS" not in response.content.decode()


def test_a_name_that_several_keys_have_is_answered_with_their_ids(
    operator: Client, owner: User, node_operator: User
) -> None:
    made = [create_api_key(user, name="ci", permissions=[])[0] for user in (owner, node_operator)]

    found = errors(page(operator, key="ci"))

    assert all(f"{key.key_id} of {key.user.email}" in found for key in made)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "Enter a user, an API key or an address."),
        ({"user": "nobody@example.org"}, "No user has this email, username or id."),
        ({"user": str(uuid.UUID(int=1))}, "No user has this email, username or id."),
        ({"address": "192.0.2.0/24"}, "Expected an address such as 192.0.2.7."),
        ({"user": "owner@example.org", "key": "ci"}, "a request has one credential."),
        ({"address": "192.0.2.7", "method": "TRACE"}, "Select a valid choice."),
        ({"address": "192.0.2.7", "path": ""}, "This field is required."),
    ],
    ids=str,
)
def test_a_question_that_cannot_be_answered_says_why(
    operator: Client, owner: User, fields: dict[str, str], text: str
) -> None:
    response = page(operator, **fields)

    assert response.status_code == 200
    assert text in errors(response)


def test_a_url_is_reduced_to_its_path(operator: Client) -> None:
    response = page(operator, address="192.0.2.7", path="https://gateway.example/api/v1/meta/info?x=1")

    assert response.context["question"].path == "/api/v1/meta/info"
    assert response.context["tone"] == "ok"


def test_a_refusal_comes_with_its_remedy(operator: Client) -> None:
    rule = AddressRule.objects.create(network="192.0.2.0/24", kind="deny", reason="scans")
    rules_cache.load()

    response = page(operator, address="192.0.2.7")

    html = response.content.decode()
    assert response.context["tone"] == "bad"
    assert "It would be refused with 403: an operator has denied" in html
    assert f'href="/admin/ratelimit/addressrule/{rule.pk}/change/"' in html
    assert "Lift the rule for 192.0.2.0/24…" in html


def test_a_link_with_ids_is_answered_at_once(operator: Client, owner: User) -> None:
    response = operator.get(reverse("admin:preview"), {"user": str(owner.pk), "path": PATH, "address": "192.0.2.7"})

    assert response.context["question"].user == owner
    assert response.context["question"].address == "192.0.2.7"


def test_a_link_without_a_path_fills_the_form_in(operator: Client, owner: User) -> None:
    response = operator.get(reverse("admin:preview"), {"user": str(owner.pk)})

    assert str(owner.pk) in response.content.decode()
    assert "lines" not in response.context


def test_a_link_with_an_email_is_ignored(operator: Client, owner: User) -> None:
    response = operator.get(reverse("admin:preview"), {"user": owner.email, "path": PATH})

    assert owner.email not in response.content.decode()
    assert "lines" not in response.context


def test_hostile_names_are_shown_as_text(operator: Client, owner: User) -> None:
    create_api_key(owner, name="<script>alert(1)</script>", permissions=[])

    html = page(operator, key="<script>alert(1)</script>", path="/api/v1/<script>").content.decode()

    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_only_staff_may_ask(owner: User) -> None:
    for client in (Client(HTTP_HOST="testserver"), signed_in(owner)):
        assert client.get(reverse("admin:preview")).status_code == 302
