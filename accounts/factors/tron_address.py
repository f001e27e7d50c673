"""Main-net addresses of TRON: Base58Check."""

import base58

ADDRESS_LENGTH = 34  # characters
MAIN_NET = b"\x41"


def is_address(text: object) -> bool:
    """Return whether a value is a main-net address with a valid checksum. Never raises."""
    # The length first: base58 ignores trailing spaces, and its time grows with the square of the length.
    if not isinstance(text, str) or len(text) != ADDRESS_LENGTH:
        return False
    try:
        payload = base58.b58decode_check(text)
    except ValueError:
        return False
    return len(payload) == 21 and payload.startswith(MAIN_NET)
