"""Client assertions, verified as a provider would."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.adapters.client_assertion import ClientAssertionSigner
from broker.core.errors import ProviderRefusedClientError
from broker.core.models import Client, Origin, Provider, TokenEndpointAuth
from broker.core.secret import Secret
from broker.ports import AssertionSigner

NOW = 1_800_000_000.0
PROVIDER = Provider(
    id="p1",
    name="as",
    origin=Origin.FILE,
    preset="generic",
    issuer="https://as.example",
    token_url="https://as.example/token",
    token_endpoint_auth=TokenEndpointAuth.PRIVATE_KEY_JWT,
    scopes={},
)
CLIENT = Client(id="c1", name="desk", origin=Origin.FILE, provider="as", client_id="desk-app")
SIGNER: AssertionSigner = ClientAssertionSigner()

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey


def pem(key: Key) -> Secret:
    """Return the key as a client's secret holds it."""
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
    ids=["rsa", "p256", "p384", "p521", "ed25519"],
)
def test_an_assertion_verifies(key: Key, algorithm: str) -> None:
    """The kind of key decides the algorithm; the claims are those of RFC 7523, fresh each time."""
    assert not isinstance(key, dsa.DSAPrivateKey)
    first, second = (SIGNER.sign(PROVIDER, CLIENT, pem(key), now=NOW) for _ in range(2))
    claims = jwt.decode(
        first,
        key.public_key(),
        algorithms=[algorithm],
        audience="https://as.example",
        options={"verify_exp": False, "verify_iat": False},
    )
    jti = claims.pop("jti")
    assert {
        "iss": "desk-app",
        "sub": "desk-app",
        "aud": "https://as.example",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
    } == claims
    assert len(jti) >= 20
    assert first != second


@pytest.mark.parametrize(
    "secret",
    [
        Secret("hunter2-SECRET"),
        Secret("-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n"),
        pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - to be refused
        pem(ec.generate_private_key(ec.SECP256K1())),
        pem(dsa.generate_private_key(1024)),  # noqa: S505 - to be refused
    ],
    ids=["password", "broken", "short", "curve", "dsa"],
)
def test_what_cannot_sign_is_refused_without_a_word_of_it(secret: Secret) -> None:
    """A secret that is no usable private key is the broker's fault to mend, and is not quoted."""
    with pytest.raises(ProviderRefusedClientError) as raised:
        SIGNER.sign(PROVIDER, CLIENT, secret, now=NOW)
    assert ("private_key", False, None) == (
        raised.value.cause,
        "SECRET" in f"{raised.value} {raised.value.public}",
        raised.value.__cause__,
    )
