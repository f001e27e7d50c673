"""Addresses in a form that sorts by number, so that an index finds all addresses of a network by one range; and the
network to which an address belongs where requests are counted by network.
"""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
KEY_LENGTH = 32
NETWORK_LENGTHS = {4: 24, 6: 48}


def address_key(address: Address) -> str:
    """Return 32 digits that sort by number; an IPv4 address sorts as its mapped IPv6 address."""
    number = int(address)
    if address.version == 4:
        number |= 0xFFFF << 32
    return f"{number:032x}"


def key_of(text: str) -> str:
    """Return the key of an address, or an empty text if the text is not an address."""
    try:
        return address_key(ipaddress.ip_address(text))
    except ValueError:
        return ""


def keys_of_network(text: str) -> tuple[str, str]:
    """Return the first and the last key of a network in CIDR form; raise ValueError."""
    network = ipaddress.ip_network(text, strict=False)
    return address_key(network[0]), address_key(network[-1])


def network_of(address: Address) -> str:
    """Return the /24 of an IPv4 address or the /48 of an IPv6 address."""
    return str(ipaddress.ip_network((address, NETWORK_LENGTHS[address.version]), strict=False))
