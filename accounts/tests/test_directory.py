"""Finding users and API keys by what operators type, and naming them."""

import uuid

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.directory import find_subject, names_of, suggestions
from accounts.models import ApiKey, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(owner: User) -> ApiKey:
    """An API key of the owner, whose name is `Night backup`."""
    return create_api_key(owner, name="Night backup", permissions=["user:read"])[0]


def refusal(text: str) -> str:
    """Return why nobody was found."""
    with pytest.raises(ValidationError) as error:
        find_subject(text)
    return str(error.value.messages[0])


def test_a_user_is_found_by_email_username_and_id(owner: User) -> None:
    for text in ("owner@example.org", "OWNER@example.org", " owner ", str(owner.pk)):
        assert find_subject(text) == f"user:{owner.pk}", text


def test_an_api_key_is_found_by_name_and_id(key: ApiKey) -> None:
    assert find_subject("Night backup") == find_subject(key.key_id) == f"key:{key.key_id}"


def test_nothing_means_everyone() -> None:
    assert find_subject("") == find_subject("  ") == ""


@pytest.mark.parametrize("subject", [f"user:{uuid.UUID(int=7)}", "key:abcdefghijkl"])
def test_a_subject_means_itself(subject: str) -> None:
    assert find_subject(subject) == subject


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody@example.org", "No user has the email nobody@example.org"),
        ("nobody", "No user has the username nobody, and no active API key this name."),
        (str(uuid.UUID(int=7)), f"No user has the id {uuid.UUID(int=7)}."),
        ("x" * 300, f"No user has the username {'x' * 60}…, and no active API key this name."),
    ],
)
def test_the_refusal_says_what_was_not_found(text: str, words: str) -> None:
    assert refusal(text).startswith(words)


def test_the_refusal_suggests_who_may_be_meant(owner: User, node_operator: User) -> None:
    assert refusal("own").endswith("Did you mean owner@example.org?")
    assert suggestions("NODE") == ["node-operator@example.org"]
    assert suggestions("example") == suggestions("") == []


def test_a_name_of_several_keys_needs_an_id(owner: User, node_operator: User, key: ApiKey) -> None:
    other, _ = create_api_key(node_operator, name="Night backup", permissions=["user:read"])

    words = refusal("Night backup")

    assert words.startswith("Several have this name.")
    assert f"key:{key.key_id}" in words
    assert f"key:{other.key_id}" in words


def test_a_revoked_key_is_not_found_by_name(key: ApiKey) -> None:
    ApiKey.objects.update(revoked_at=timezone.now())
    assert "no active API key" in refusal("Night backup")


def test_of_a_pasted_key_only_the_prefix_is_read(owner: User) -> None:
    key, text = create_api_key(owner, name="k", permissions=["user:read"])

    for given in (f" {text} ", text[:30], f"lk_{key.key_id}", key.key_id):
        assert find_subject(given) == f"key:{key.key_id}"


def test_subjects_ids_and_emails_have_names(owner: User, admin: User, key: ApiKey) -> None:
    names = names_of([f"user:{owner.pk}", str(admin.pk), owner.email, f"key:{key.key_id}", "", "manage.py", "key:none"])

    assert {who: name.text for who, name in names.items()} == {
        f"user:{owner.pk}": owner.email, str(admin.pk): admin.email, owner.email: owner.email,
        f"key:{key.key_id}": f"Night backup ({key.key_id}) of {owner.email}",
    }  # fmt: skip
    assert names[str(admin.pk)].url == f"/admin/accounts/user/{admin.pk}/change/"
    assert names[f"key:{key.key_id}"].url == f"/admin/accounts/apikey/{key.key_id}/change/"


def test_names_are_escaped(owner: User) -> None:
    key, _ = create_api_key(owner, name="<script>alert(1)</script>", permissions=["user:read"])
    shown = names_of([f"key:{key.key_id}"])[f"key:{key.key_id}"].as_html()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown


def test_two_queries_find_all_names(owner: User, admin: User, key: ApiKey) -> None:
    who = [f"user:{owner.pk}", str(admin.pk), owner.email, f"key:{key.key_id}"]
    with CaptureQueriesContext(connection) as queries:
        names_of(who)
    assert len(queries) == 2

    with CaptureQueriesContext(connection) as none:
        names_of([""])
    assert len(none) == 0
