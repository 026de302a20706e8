"""Keys of issuers: how they are fetched, what is believed, what happens when they cannot be had."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from structlog.testing import capture_logs

from broker.adapters import jwks
from broker.adapters.jwks import Jwks
from broker.core.errors import UnauthenticatedError
from broker.core.models import Issuer
from tests.rpc.authorities import Authority
from tests.rpc.issuer import RSA_KEY, LiveIssuer, jwk_of, live_issuer, public_pem
from tests.rpc.kit import Clock
from tests.support.waiting import ENOUGH


@pytest.fixture
async def issuer() -> AsyncIterator[LiveIssuer]:
    """Serve an issuer by HTTP on loopback."""
    async with live_issuer() as live:
        yield live


async def _cause(keys: Jwks, issuer: Issuer, token: str, algorithm: str = "ES256", kid: str | None = "k1") -> str:
    """Verify and return the cause of the refusal, or the empty string."""
    try:
        await keys.verify(issuer, token, algorithm, kid)
    except UnauthenticatedError as error:
        return error.cause
    return ""


def _token(issuer: LiveIssuer) -> str:
    return issuer.sign(issuer.claims(Clock().now()))


@pytest.mark.parametrize(
    "manners",
    [
        {"status": "302 Found"},
        {"status": "500 Internal Server Error"},
        {"body": b"<html>"},
        {"body": b"[]"},
        {"body": b"{}"},
        {"body": b'{"keys": 7}'},
        {"body": b'{"keys": []}'},
        {"body": b"[" * 100_000},
        {"body": b" " * (256 * 1024 + 1)},
    ],
    ids=range(9),
)
async def test_an_issuer_with_bad_manners_vouches_for_nobody(issuer: LiveIssuer, manners: dict[str, object]) -> None:
    """No redirect is followed, nothing but a bounded JWK set is taken, and the issuer is not asked again at once."""
    for name, value in manners.items():
        setattr(issuer, name, value)
    keys = Jwks(Clock())
    token = _token(issuer)
    assert ["jwks_unavailable"] * 3 == [await _cause(keys, issuer.configured(), token) for _ in range(3)]
    assert 1 == issuer.fetches


async def test_an_issuer_that_hangs_is_given_up(issuer: LiveIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch is bounded in time as a whole."""
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    issuer.hang = True
    asked = _cause(Jwks(Clock()), issuer.configured(), _token(issuer))
    assert "jwks_unavailable" == await asyncio.wait_for(asked, ENOUGH)


async def test_keys_in_hand_outlive_a_short_outage(issuer: LiveIssuer) -> None:
    """An issuer that is away stops nobody for an hour, and everybody after it."""
    clock = Clock()
    keys = Jwks(clock)
    token = _token(issuer)
    assert "" == await _cause(keys, issuer.configured(), token)
    issuer.status = "503 Service Unavailable"
    clock.ahead = 3000
    assert "" == await _cause(keys, issuer.configured(), token)
    clock.ahead = 3601
    assert "jwks_unavailable" == await _cause(keys, issuer.configured(), token)


async def test_the_generation_grows_with_changed_keys_only(issuer: LiveIssuer) -> None:
    """What was proved under the old keys can be told from what was proved under the new."""
    clock = Clock()
    keys = Jwks(clock)
    token = _token(issuer)
    generations = []
    for number in range(3):
        if number == 2:
            issuer.keys.append(jwk_of(ec.generate_private_key(ec.SECP256R1()), "k2"))
        clock.ahead = number * 301.0
        await _cause(keys, issuer.configured(), token)
        await asyncio.gather(*keys._refreshing)
        generations.append(keys.generation)
    assert [1, 1, 2] == generations


async def test_https_with_a_ca_and_a_token_of_files(tmp_path: Path) -> None:
    """As Kubernetes wants it: the cluster's CA and a service account's token."""
    authority = Authority()
    pair = authority.server()
    for name, content in {
        "crt": pair.certificate,
        "key": pair.key,
        "ca": authority.pem,
        "token": b"sa-token\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    async with live_issuer(context) as live:
        token = _token(live)
        with_ca = live.configured(ca_file=str(tmp_path / "ca"), token_file=str(tmp_path / "token"))
        assert "" == await _cause(Jwks(Clock()), with_ca, token)
        assert "authorization: Bearer sa-token\r\n" in live.seen[0]
        assert "jwks_unavailable" == await _cause(Jwks(Clock()), live.configured(), token)
        without = live.configured(ca_file="/nonexistent/ca")
        assert "jwks_unavailable" == await _cause(Jwks(Clock()), without, token)


async def test_authorities_that_are_none_are_named(issuer: LiveIssuer, tmp_path: Path) -> None:
    """The log tells which file and what to do, not that the issuer cannot be reached."""
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with capture_logs() as logged:
        configured = issuer.configured(ca_file=str(tmp_path / "ca.pem"))
        assert "jwks_unavailable" == await _cause(Jwks(Clock()), configured, _token(issuer))
    why = f"the ca_file {tmp_path / 'ca.pem'} cannot be read, or holds no certificate: name a PEM file of authorities"
    assert [why] == [event["problem"] for event in logged]


@pytest.mark.parametrize(
    "fields",
    [
        {"jwks_uri": "http://10.0.0.1/keys"},
        {"jwks_uri": "ftp://127.0.0.1/keys"},
        {"jwks_uri": "nonsense"},
        {"jwks_uri": None},
        {"jwks_uri": None, "jwks_file": "/nonexistent/keys"},
        {"token_file": "/nonexistent/token"},
    ],
    ids=range(6),
)
async def test_keys_come_by_https_or_from_loopback(issuer: LiveIssuer, fields: dict[str, object]) -> None:
    """Plain http elsewhere is not asked; files that cannot be read are as an issuer that is away."""
    assert "jwks_unavailable" == await _cause(Jwks(Clock()), issuer.configured(**fields), _token(issuer))
    assert 0 == issuer.fetches


async def test_keys_from_a_file(issuer: LiveIssuer, tmp_path: Path) -> None:
    """A file of keys needs no network, and is read anew for an unknown key id."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": issuer.keys}))
    configured = issuer.configured(jwks_uri=None, jwks_file=str(path))
    keys = Jwks(Clock())
    assert "" == await _cause(keys, configured, _token(issuer))
    successor = ec.generate_private_key(ec.SECP256R1())
    path.write_text(json.dumps({"keys": [jwk_of(successor, "k2")]}))
    fresh = issuer.sign(issuer.claims(Clock().now()), key=successor, header={"kid": "k2"})
    assert "" == await _cause(keys, configured, fresh, kid="k2")
    path.write_bytes(b" " * (256 * 1024 + 1))
    assert "jwks_unavailable" == await _cause(Jwks(Clock()), configured, fresh, kid="k2")


async def test_only_public_signature_keys_of_the_family_are_used(issuer: LiveIssuer) -> None:
    """Symmetric keys, encryption keys, keys of another algorithm, ambiguous ones and rubbish open nothing."""
    edwards = ed25519.Ed25519PrivateKey.generate()
    claims = issuer.claims(Clock().now())
    issuer.keys = [
        {"kty": "oct", "kid": "secret", "k": public_pem(issuer.key).hex()},
        jwk_of(issuer.key, "for-encryption", use="enc"),
        jwk_of(issuer.key, "other-algorithm", alg="ES384"),
        {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": 7},
        jwk_of(edwards, "ed"),
        jwk_of(issuer.key, "ec"),
        jwk_of(issuer.key, "twice"),
        jwk_of(issuer.key, "twice"),
    ]
    keys = Jwks(Clock())
    tokens = {
        "secret": (issuer.sign(claims), "ES256"),
        "for-encryption": (issuer.sign(claims), "ES256"),
        "other-algorithm": (issuer.sign(claims), "ES256"),
        "broken": (issuer.sign(claims), "ES256"),
        "twice": (issuer.sign(claims), "ES256"),
        "ed": (issuer.sign(claims, key=edwards, algorithm="EdDSA"), "EdDSA"),
        "ec": (issuer.sign(claims, key=RSA_KEY, algorithm="RS256"), "RS256"),
    }
    causes = {
        kid: await _cause(keys, issuer.configured(), token, algorithm, kid)
        for kid, (token, algorithm) in tokens.items()
    }
    assert {
        "secret": "jwt_key",
        "for-encryption": "jwt_key",
        "other-algorithm": "jwt_key",
        "broken": "jwt_signature",
        "twice": "jwt_key",
        "ed": "",
        "ec": "jwt_key",
    } == causes


async def test_a_short_rsa_key_is_refused(issuer: LiveIssuer) -> None:
    """An RSA key under 2048 bits vouches for nobody, whatever it signed."""
    issuer.keys = [jwk_of(rsa.generate_private_key(65537, 1024), "short")]  # noqa: S505 - that is the point
    token = issuer.sign(issuer.claims(Clock().now()))
    assert "jwt_key" == await _cause(Jwks(Clock()), issuer.configured(), token, "RS256", "short")
