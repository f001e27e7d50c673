"""Keys made from JWT_SECRET_KEY: the text itself for HMAC, a derived key for curves, a PEM for RSA."""

from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import get_default_algorithms

from lucid_gateway.kernel.secrets.rsa_keys import rsa_private_key

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class KeyMaterial:
    """The key that signs and the key that verifies, parsed once."""

    signing: Any = field(repr=False)
    verifying: jwt.PyJWK = field(repr=False)
    public: dict[str, Any] | None = None  # as a JSON Web Key, if the algorithm has a public key


def derive(secret: str, purpose: bytes, length: int) -> bytes:
    """Return `length` bytes derived from the secret for one purpose (HKDF, RFC 5869)."""
    return HKDF(hashes.SHA256(), length, salt=None, info=b"lucid jwt " + purpose).derive(secret.encode())


def key_material(secret: str, algorithm: str) -> KeyMaterial:
    """Return the keys for an algorithm; the same secret always gives the same keys.

    Raises UnusableKey if the algorithm is RS256 and the secret is not the PEM of an RSA key of at least 2,048 bits.
    """
    if algorithm.startswith("HS"):
        return KeyMaterial(secret, jwt.PyJWK(jwk_of(secret.encode(), algorithm), algorithm))
    private: Any
    if algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.from_private_bytes(derive(secret, b"EdDSA", 32))
    elif algorithm == "ES256":
        # 48 bytes, so that the remainder is almost uniform (FIPS 186-5, A.2.1).
        scalar = int.from_bytes(derive(secret, b"ES256", 48), "big") % (P256_ORDER - 1) + 1
        private = ec.derive_private_key(scalar, ec.SECP256R1())
    else:
        private = rsa_private_key(secret)
    public = jwk_of(private.public_key(), algorithm)
    verifying = jwt.PyJWK(public, algorithm)
    public.pop("key_ops", None)  # it is published with `use`; a key should not have both (RFC 7517, section 4.3)
    return KeyMaterial(private, verifying, public | {"alg": algorithm})


def jwk_of(key: Any, algorithm: str) -> dict[str, Any]:
    """Return the key as a JSON Web Key (RFC 7517)."""
    return dict(get_default_algorithms()[algorithm].to_jwk(key, as_dict=True))
