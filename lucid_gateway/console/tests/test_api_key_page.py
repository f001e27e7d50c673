"""The page of an API key: its state, and who used it from where."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.api_keys import create_api_key, revoke_api_key
from accounts.models import ApiKey, User
from accounts.tests.operators import signed_in
from lucid_gateway.explorer.models import KeptRequest, key_at

NOW = datetime.now(UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def key(owner: User) -> ApiKey:
    return create_api_key(owner, name="ci", permissions=["user:read"])[0]


@pytest.fixture
def page(admin: User) -> Client:
    return signed_in(admin)


def keep(key: ApiKey, address: str, *, status: int = 200, seconds_ago: int = 0, proved: bool = True) -> None:
    """Keep a request of the key."""
    moment = NOW - timedelta(seconds=seconds_ago)
    KeptRequest.objects.create(
        kept_id=key_at(moment, random=True), request_id="r", gateway="g", worker="1", method="GET", path="/", route="",
        status=status, status_class=status // 100, error_code="", reason="", started_at=moment, duration_ms=1,
        address=address, address_key="", network="", user_agent=FIREFOX, role="user",
        user_id=str(key.user_id) if proved else "",
        credential_kind="key", credential_id=key.key_id, cluster="", instance="", cache="", trace_id="",
        response_bytes=1,
    )  # fmt: skip


def shown(client: Client, key: ApiKey) -> Any:
    response = client.get(f"/admin/accounts/apikey/{key.pk}/change/")
    assert response.status_code == 200
    return response


def test_the_addresses_that_used_the_key_are_counted(page: Client, key: ApiKey) -> None:
    keep(key, "198.51.100.7", status=429, seconds_ago=5)
    keep(key, "198.51.100.7", seconds_ago=1)
    keep(key, "203.0.113.9")

    uses = shown(page, key).context["uses"]
    assert [(use.address, use.count, use.refused) for use in uses.by_address] == [
        ("198.51.100.7", 2, 1), ("203.0.113.9", 1, 0),
    ]  # fmt: skip
    assert uses.by_address[0].last == (NOW - timedelta(seconds=1)).replace(
        microsecond=uses.by_address[0].last.microsecond
    )
    assert uses.by_address[0].client == "Firefox on Linux"


def test_wrong_secrets_are_counted_apart_because_they_are_no_uses_of_the_key(page: Client, key: ApiKey) -> None:
    keep(key, "198.51.100.7", seconds_ago=5)
    keep(key, "203.0.113.9", status=401, proved=False)

    uses = shown(page, key).context["uses"]
    assert [use.address for use in uses.by_address] == ["198.51.100.7"]
    assert uses.attempts == 1
    assert "1 kept request had the id of this key and a wrong secret" in shown(page, key).content.decode()


def test_requests_of_other_keys_do_not_count(page: Client, key: ApiKey, owner: User) -> None:
    keep(create_api_key(owner, name="other", permissions=[])[0], "198.51.100.7")
    assert shown(page, key).context["uses"].count == 0
    assert "No request of this key was kept lately." in shown(page, key).content.decode()


def test_a_live_key_can_be_revoked_from_its_page(page: Client, key: ApiKey) -> None:
    assert f'name="row_action" value="revoke {key.pk}"' in shown(page, key).content.decode()


def test_a_revoked_key_says_so_and_cannot_be_revoked_again(page: Client, key: ApiKey, owner: User) -> None:
    revoke_api_key(owner.pk, key.key_id, by=owner)
    text = shown(page, key).content.decode()
    assert "<b>Revoked</b>" in text
    assert "row_action" not in text


def test_an_admin_cannot_act_on_the_keys_of_other_staff(page: Client, super_admin: User) -> None:
    key = create_api_key(super_admin, name="root", permissions=[])[0]
    assert "row_action" not in shown(page, key).content.decode()


def test_an_address_that_used_the_key_can_be_blocked(page: Client, key: ApiKey) -> None:
    keep(key, "198.51.100.7")

    [use] = shown(page, key).context["uses"].by_address
    assert use.block_url == "/admin/ratelimit/addressrule/add/?network=198.51.100.7&kind=blocked"
