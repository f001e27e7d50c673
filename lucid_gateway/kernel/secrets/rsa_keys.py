"""The check of RSA private keys that sign tokens with RS256."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lucid_gateway.policy.claims import MIN_RSA_BITS


class UnusableKey(ValueError):
    """The text is not an RSA private key, or the key is too short; the message says which, without the key."""


def rsa_private_key(pem: str) -> RSAPrivateKey:
    """Return the key from a PEM text without a passphrase; raise UnusableKey."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableKey("is not a PEM private key without a passphrase") from error
    if not isinstance(key, RSAPrivateKey):
        raise UnusableKey("is not an RSA key")
    if key.key_size < MIN_RSA_BITS:
        raise UnusableKey(f"is an RSA key of {key.key_size} bits")
    return key
