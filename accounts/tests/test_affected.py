"""Who a new rule would affect: counted from the tokens of the last day, and bounded."""

import ipaddress
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts import affected
from accounts.affected import Affected, affected_by_address_rule, affected_by_limit_rule, spellings, text_ranges
from accounts.api_keys import create_api_key
from accounts.models import IssuedToken, User

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def seen(user: User, address: str, *, ago: timedelta = HOUR, **fields: Any) -> IssuedToken:
    """Record a refresh token that was issued to the user at the address."""
    issued_at = timezone.now() - ago
    defaults: dict[str, Any] = {"kind": "refresh", "expires_at": issued_at + timedelta(days=7)} | fields
    return IssuedToken.objects.create(
        jti=uuid.uuid4().hex, family=uuid.uuid4(), user=user, issued_at=issued_at, address=address, **defaults
    )


@pytest.mark.parametrize(
    "network", ["192.0.2.7", "192.0.2.0/24", "192.0.2.4/30", "192.0.0.0/20", "192.0.0.0/16", "192.0.0.0/9", "0.0.0.0/0"]
)
def test_the_users_of_a_network_are_counted_once_each(
    network: str, owner: User, node_operator: User, admin: User
) -> None:
    seen(owner, "192.0.2.7")
    seen(owner, "192.0.2.7")
    seen(node_operator, "::ffff:192.0.2.7")
    seen(admin, "203.0.113.1" if network != "0.0.0.0/0" else "2001:db8::1")

    found = affected_by_address_rule(network)

    assert (found.users, found.devices, found.at_least) == (2, 3, False)
    assert found.text == "2 users seen in the last day, with 3 signed-in devices"


@pytest.mark.parametrize("network", ["2001:db8:1:2::7", "2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"])
def test_the_users_of_an_ipv6_network_are_counted(network: str, owner: User, admin: User) -> None:
    seen(owner, "2001:db8:1:2::7")
    seen(admin, "2001:db9:1:2::7")

    assert affected_by_address_rule(network).users == 1


def test_neighbours_whose_text_begins_alike_are_not_counted(owner: User) -> None:
    for address in ("192.0.20.1", "192.0.21.1", "192.0.3.1", "unknown", ""):
        seen(owner, address)

    assert affected_by_address_rule("192.0.2.0/24") == Affected("No user was seen in the last day")


def test_users_of_an_earlier_day_are_not_counted(owner: User) -> None:
    for network in ("192.0.2.7", "192.0.2.0/24", "192.0.0.0/8"):
        seen(owner, "192.0.2.7", ago=25 * HOUR)

        assert affected_by_address_rule(network).users == 0


def test_devices_are_those_that_are_still_signed_in(owner: User) -> None:
    seen(owner, "192.0.2.7", used_at=timezone.now())
    seen(owner, "192.0.2.7", revoked_at=timezone.now())
    seen(owner, "192.0.2.7", expires_at=timezone.now())
    seen(owner, "192.0.2.7", kind="access")
    seen(owner, "192.0.2.7")

    found = affected_by_address_rule("192.0.2.0/24")

    assert (found.users, found.devices) == (1, 1)
    assert found.text == "1 user seen in the last day, with 1 signed-in device"


@pytest.mark.parametrize("network", ["192.0.2.7", "192.0.2.0/24", "192.0.0.0/8"])
def test_a_count_that_reached_the_limit_is_a_lower_bound(
    network: str, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affected, "MAX_TOKENS", 3)
    for _ in range(4):
        seen(owner, "192.0.2.7")

    found = affected_by_address_rule(network)

    assert found.at_least
    assert found.text.startswith("At least 1 user seen in the last day")


def test_nobody_among_the_newest_sign_ins_is_not_nobody_at_all(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affected, "MAX_TOKENS", 3)
    for _ in range(4):
        seen(owner, "192.0.2.7")

    found = affected_by_address_rule("10.0.0.0/8")

    assert found.text == "No user was seen in the last day among the 3 most recent sign-ins"


def test_text_that_is_not_a_network_is_refused() -> None:
    with pytest.raises(ValidationError):
        affected_by_address_rule("everyone")


@pytest.mark.parametrize("network", ["192.0.2.7", "192.0.2.0/24", "192.0.0.0/8"])
def test_one_query_counts_without_reading_the_whole_table(network: str, owner: User) -> None:
    seen(owner, "192.0.2.7")

    with CaptureQueriesContext(
        connection,
    ) as queries:
        affected_by_address_rule(network)

    assert len(queries) == 1


def test_a_rule_for_everyone_affects_the_users_of_the_last_day(owner: User, admin: User, node_operator: User) -> None:
    seen(owner, "192.0.2.7")
    seen(admin, "2001:db8::1")
    seen(node_operator, "192.0.2.7", ago=25 * HOUR)

    assert affected_by_limit_rule("authenticated", "").users == 2
    assert affected_by_limit_rule("all", "").users == 2


def test_a_rule_for_the_admin_tier_affects_staff(owner: User, admin: User, super_admin: User) -> None:
    found = affected_by_limit_rule("admin", "")

    assert (found.users, found.text) == (2, "2 staff accounts, and everyone who may read the metrics")


@pytest.mark.parametrize("tier", ["public", "login_attempt"])
def test_a_rule_for_a_tier_that_counts_addresses_affects_all_clients(tier: str, owner: User, admin: User) -> None:
    seen(owner, "192.0.2.7")
    seen(admin, "192.0.2.7")
    seen(admin, "2001:db8::1")
    seen(admin, "2001:db8::2")

    text = affected_by_limit_rule(tier, "").text

    assert text == "All clients, by address: users signed in from 2 addresses in the last day"


def test_a_rule_for_one_user_or_key_names_it(owner: User) -> None:
    key, _ = create_api_key(owner, name="nightly <b>", permissions=["user:read"])

    assert affected_by_limit_rule("authenticated", f"user:{owner.pk}").text == "The user owner@example.org"
    assert affected_by_limit_rule("all", f"key:{key.key_id}").text == "The API key nightly <b> of owner@example.org"


@pytest.mark.parametrize("subject", [f"user:{uuid.UUID(int=1)}", f"user:{'-' * 36}", "key:abcdefghijkl"])
def test_a_rule_for_an_unknown_subject_affects_nobody(subject: str) -> None:
    found = affected_by_limit_rule("authenticated", subject)

    assert (found.users, found.text[:7]) == (0, "Unknown")


@pytest.mark.parametrize("network", ["192.0.2.7", "192.0.2.0/24", "10.20.0.0/15", "2001:db8:1:2::/64"])
def test_the_tokens_of_a_narrow_network_are_found_by_the_index_of_addresses(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[str] = []
    monkeypatch.setattr(affected, "read", lambda rows: (plans.append(rows.explain()), ([], False))[1])

    affected_by_address_rule(network)

    assert ["token_address_issued" in plan for plan in plans] == [network != "10.20.0.0/15"]


NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 31)), st.tuples(st.ip_addresses(v=6), st.integers(0, 127))
)


@given(network=NETWORKS, offset=st.integers(0))
def test_the_text_of_each_address_of_a_network_is_in_its_ranges(network: tuple[Any, int], offset: int) -> None:
    held = ipaddress.ip_network(network, strict=False)
    address = held[offset % held.num_addresses]
    ranges = text_ranges(held)

    assert not ranges or all(any(start <= name < end for start, end in ranges) for name in spellings(address))
