"""The client's address: the rightmost one that no client can forge."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit.client_address import UNIX_SOCKET, address_bucket, is_trusted, parse, resolve

PROXIES = [ipaddress.ip_network(network) for network in ("10.0.0.0/8", "fd00::/8")]
CLIENT, PROXY = "203.0.113.7", "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        (CLIENT, "", CLIENT),
        (CLIENT, "198.51.100.1", CLIENT),
        (CLIENT, "10.0.0.9", CLIENT),
        (PROXY, "", PROXY),
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"198.51.100.1, {CLIENT}", CLIENT),
        (PROXY, f"198.51.100.1, {CLIENT}, 10.0.0.2", CLIENT),
        (PROXY, f"{CLIENT},10.0.0.3 ,fd00::2", CLIENT),
        (PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("::ffff:10.0.0.1", CLIENT, CLIENT),
        (PROXY, "::ffff:203.0.113.7", CLIENT),
        (PROXY, "2001:DB8::1", "2001:db8::1"),
        (UNIX_SOCKET, CLIENT, CLIENT),
        (UNIX_SOCKET, f"198.51.100.1, {CLIENT}", CLIENT),
        (UNIX_SOCKET, "", UNIX_SOCKET),
        (PROXY, "unknown", PROXY),
        (PROXY, f"{CLIENT}, unknown", PROXY),
        (PROXY, f"{CLIENT}, ", PROXY),
        (PROXY, f"unknown, {CLIENT}", CLIENT),
        (PROXY, f"{CLIENT}:5555", CLIENT),
        (PROXY, f"198.51.100.1, {CLIENT}:5555, 10.0.0.2:80", CLIENT),
        (PROXY, "[2001:DB8::1]:443", "2001:db8::1"),
        (PROXY, "[2001:db8::1]", "2001:db8::1"),
        (PROXY, "198.51.100.1, [::ffff:203.0.113.7]:9", CLIENT),
        (PROXY, "2001:db8::1:443", "2001:db8::1:443"),
        (PROXY, f"{CLIENT}, [fd00::2]:443", CLIENT),
        (PROXY, f"{CLIENT}:", PROXY),
        (PROXY, f"{CLIENT}:http", PROXY),
        (PROXY, f"{CLIENT}:123456", PROXY),
        (PROXY, f"{CLIENT}:-1", PROXY),
        (PROXY, f"{CLIENT}:1:2", PROXY),
        (PROXY, f"[{CLIENT}]:80", PROXY),
        (PROXY, "[2001:db8::1]443", PROXY),
        (PROXY, "[2001:db8::1", PROXY),
        (PROXY, "[[2001:db8::1]]", PROXY),
        (PROXY, "fe80::1%<script>", PROXY),
        (PROXY, "[fe80::1%eth0]:80", PROXY),
        ("garbage", CLIENT, "garbage"),
    ],
)
def test_the_rightmost_untrusted_address_is_the_client(peer: str, forwarded_for: str, client: str) -> None:
    assert resolve(peer, forwarded_for, PROXIES) == client


@given(st.text())
def test_forged_entries_on_the_left_change_nothing(forged: str) -> None:
    assert resolve(PROXY, f"{forged}, {CLIENT}, 10.0.0.2", PROXIES) == CLIENT
    assert resolve(CLIENT, forged, PROXIES) == CLIENT


@given(st.ip_addresses(), st.integers(0, 65535))
def test_a_port_in_an_entry_changes_nothing(address: ipaddress.IPv4Address, port: int) -> None:
    entry = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

    assert resolve(PROXY, entry, PROXIES) == resolve(PROXY, str(address), PROXIES)


ENTRY = st.text('0123456789abcdefABCDEF.:[]% x,"', max_size=40) | st.text(max_size=10)


@given(ENTRY)
def test_the_client_is_an_address_whatever_an_entry_says(entry: str) -> None:
    client = resolve(PROXY, entry, PROXIES)

    assert str(ipaddress.ip_address(client)) == client
    assert "%" not in client
    assert resolve(PROXY, f"{CLIENT}, {entry}", PROXIES) in (client, CLIENT)


@given(ENTRY, st.integers(0, 65535))
def test_forged_entries_left_of_an_entry_with_a_port_change_nothing(forged: str, port: int) -> None:
    assert resolve(PROXY, f"{forged}, {CLIENT}:{port}, [fd00::2]:{port}", PROXIES) == CLIENT


def test_nobody_is_trusted_without_trusted_proxies() -> None:
    assert not is_trusted("127.0.0.1", [])
    assert resolve("127.0.0.1", CLIENT, []) == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "1.2.3", "1.2.3.4:80", "[::1]", "010.0.0.1", "1.2.3.4/32"])
def test_garbage_is_not_an_address(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        (CLIENT, CLIENT),
        ("::ffff:203.0.113.7", CLIENT),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (UNIX_SOCKET, "unknown"),
        ("garbage", "unknown"),
    ],
)
def test_an_ipv6_address_is_counted_as_its_64_network(address: str, bucket: str) -> None:
    assert address_bucket(address) == bucket


@given(st.ip_addresses(v=6))
def test_addresses_of_one_64_network_share_a_bucket(address: ipaddress.IPv6Address) -> None:
    bucket = address_bucket(str(address))

    assert address.ipv4_mapped or address in ipaddress.ip_network(bucket)
