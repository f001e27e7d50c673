"""RSA private keys: what may sign tokens with RS256."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lucid_gateway.policy.claims import MIN_RSA_BITS


class UnfitKey(ValueError):
    """A text that is no RSA private key, or one that can be broken; the message says which and holds nothing of it."""


def rsa_private_key(pem: str) -> RSAPrivateKey:
    """Return the key of a PEM text without a passphrase; raise UnfitKey."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnfitKey("is no private key in PEM without a passphrase") from error
    if not isinstance(key, RSAPrivateKey):
        raise UnfitKey("is no RSA key")
    if key.key_size < MIN_RSA_BITS:
        raise UnfitKey(f"is an RSA key of {key.key_size} bits")
    return key
