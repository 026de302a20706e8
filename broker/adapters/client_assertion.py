"""Port `AssertionSigner` over PyJWT."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker.core.errors import ProviderRefusedClientError
from broker.core.models import Client, Provider
from broker.core.oauth.rfc7523 import client_assertion_claims
from broker.core.secret import Secret

MIN_RSA_BITS: Final = 2048

_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

_PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


class ClientAssertionSigner:
    """Signs with whatever key the client has; its kind decides the algorithm."""

    def sign(self, provider: Provider, client: Client, private_key: Secret, *, now: float) -> str:
        """Return a fresh assertion; see the port."""
        key, algorithm = _load(private_key)
        import jwt  # noqa: PLC0415 - a twentieth of a start's imports, for private_key_jwt alone

        claims = client_assertion_claims(provider, client, now=now, jti=secrets.token_urlsafe(16))
        return jwt.encode(dict(claims), key, algorithm=algorithm)


def _load(private_key: Secret) -> tuple[_PrivateKey, str]:
    try:
        key = load_pem_private_key(private_key.reveal().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key, "RS256"
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key, _CURVES[key.curve.name]
    if isinstance(key, Ed25519PrivateKey):
        return key, "EdDSA"
    raise ProviderRefusedClientError(
        "the client's secret is no private key that can sign; operators have to enter it again", cause="private_key"
    )
