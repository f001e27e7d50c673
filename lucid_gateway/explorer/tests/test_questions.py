"""What the search box and the filters understand."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from lucid_gateway.explorer.conditions import Condition, Equal, path_below
from lucid_gateway.explorer.questions import NotUnderstood, Secret, SeveralKeys, conditions_of, moment
from lucid_gateway.explorer.tests.stage import kept

UNKNOWN = "0f1d3c5e-6f0b-4c1e-8f43-7a2b9c0d1e2f"


def asked(text: str) -> Condition:
    (condition,) = conditions_of({"q": text})
    return condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("429", Equal("status", 429)),
        ("5xx", Equal("status_class", 5)),
        ("3001", Equal("error_code", "LUCID_ERR_3001")),
        ("LUCID_ERR_3001", Equal("error_code", "LUCID_ERR_3001")),
        ("tier_exhausted", Equal("reason", "tier_exhausted")),
        ("/api/v1/chain", path_below("/api/v1/chain")),
        ("http://10.0.0.1:8080/", Equal("instance", "http://10.0.0.1:8080")),
        ("blockchain_core", Equal("cluster", "blockchain_core")),
        ("POST", Equal("method", "POST")),
        ("192.0.2.0/24", Equal("network", "192.0.2.0/24")),
        ("lk_abcdefghijkl", Equal("credential_id", "abcdefghijkl")),
        ("lk_abcdefghijkl_", Equal("credential_id", "abcdefghijkl")),
        ("d41d8cd98f00b204e9800998ecf8427e", Equal("credential_id", "d41d8cd98f00b204e9800998ecf8427e")),
        (UNKNOWN, Equal("request_id", UNKNOWN)),
        ("id-of.a_proxy", Equal("request_id", "id-of.a_proxy")),
    ],
)
def test_the_form_of_a_text_says_what_it_is(db: None, text: str, condition: Condition) -> None:
    assert asked(f" {text} ") == condition


def test_a_user_is_found_by_email_username_and_id(owner: User) -> None:
    for text in ("Owner@Example.org", "owner", str(owner.pk)):
        assert asked(text) == Equal("user_id", str(owner.pk))


def test_the_id_of_a_kept_request_comes_before_that_of_a_user(owner: User) -> None:
    kept(request_id=str(owner.pk))

    assert asked(str(owner.pk)) == Equal("request_id", str(owner.pk))


def test_an_api_key_is_found_by_its_name(owner: User) -> None:
    key, _ = create_api_key(owner, name="indexer-prod", permissions=[])

    assert asked("indexer-prod") == Equal("credential_id", key.key_id)


def test_a_name_of_several_api_keys_is_a_question_back(owner: User) -> None:
    ids = [create_api_key(owner, name="twins", permissions=[])[0].key_id for _ in range(2)]

    with pytest.raises(SeveralKeys) as caught:
        asked("twins")

    assert {key.key_id for key in caught.value.keys} == set(ids)


@pytest.mark.parametrize("name", ["q", "user", "key", "route", "path"])
def test_secrets_are_refused_and_not_repeated(owner: User, name: str) -> None:
    _, text = create_api_key(owner, name="key", permissions=[])
    token = "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiJ4In0.c2lnbmF0dXJl"

    for secret in (text, f"x {text}", text[:30], token, f"Bearer {token}"):
        with pytest.raises(Secret) as caught:
            conditions_of({name: secret})
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "filters",
    [
        {"q": "nobody@example.org"}, {"q": "what is this?"}, {"status": "many"}, {"error_code": "12"},
        {"reason": "nonsense"}, {"address": "here"}, {"network": "10.0.0.0/40"}, {"user": "nobody"}, {"key": "no key"},
    ],
    ids=str,
)  # fmt: skip
def test_other_texts_are_not_understood(db: None, filters: dict[str, str]) -> None:
    with pytest.raises(NotUnderstood, match=r"\.$"):
        conditions_of(filters)


def test_empty_filters_are_no_conditions(db: None) -> None:
    assert conditions_of({"q": "", "status": ""}) == ()


@pytest.mark.parametrize(("text", "ago"), [("15m", 900), ("24h", 86_400), ("7d", 604_800)])
def test_a_time_can_be_relative(text: str, ago: int) -> None:
    assert abs(timezone.now() - timedelta(seconds=ago) - moment(text)) < timedelta(seconds=30)


def test_a_time_without_an_offset_is_utc() -> None:
    assert moment("2026-11-25T14:03:07") == moment("2026-11-25T15:03:07+01:00")
    assert moment("2026-11-25T14:03:07Z") == datetime(2026, 11, 25, 14, 3, 7, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "-5m", "0001-01-01"])
def test_other_times_are_not_understood(text: str) -> None:
    with pytest.raises(NotUnderstood):
        moment(text)
