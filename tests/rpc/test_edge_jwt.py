"""JWT bearers over real sockets: the broker's edge, and an issuer that publishes its keys by HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from aries.broker.v1 import token_pb2_grpc
from broker.adapters.jwks import Jwks
from broker.core.identity import CallerId
from tests.rpc.issuer import RSA_KEY, SUBJECT, LiveIssuer, jwk_of, live_issuer, public_pem
from tests.rpc.kit import ACCESS_TOKEN, WISH, Kit, bearer, refusal, token_stub


@dataclass
class Vouched:
    """An edge that believes one live issuer."""

    kit: Kit
    issuer: LiveIssuer
    stub: token_pb2_grpc.TokenServiceAsyncStub

    def good(self, **claims: object) -> str:
        """Return a good JWT, but for these claims."""
        return self.issuer.sign(self.issuer.claims(self.kit.clock.now(), **claims))


@pytest.fixture
async def vouched() -> AsyncIterator[Vouched]:
    """Serve both."""
    kit = Kit()
    kit.signatures = Jwks(kit.clock)
    async with live_issuer() as issuer, kit.serve() as (port,), token_stub(port) as stub:
        kit.catalog = replace(kit.catalog, issuers=(issuer.configured(),))
        yield Vouched(kit, issuer, stub)


async def test_a_jwt_is_a_caller(vouched: Vouched) -> None:
    """The caller is the issuer's name and the subject; the second call asks nobody."""
    token = vouched.good()
    assert ACCESS_TOKEN == (await vouched.stub.GetToken(WISH, metadata=bearer(token))).access_token
    await vouched.stub.GetToken(WISH, metadata=bearer(token))
    assert CallerId("k8s", SUBJECT) == vouched.kit.get_token.requests[0].caller
    assert 1 == vouched.issuer.fetches


Make = Callable[[Vouched], str]
"""Makes a bad JWT."""


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _alg_none(vouched: Vouched) -> str:
    header, claims, _ = vouched.good().split(".")
    del header
    return f"{_b64(json.dumps({'alg': 'none', 'kid': 'k1'}).encode())}.{claims}."


def _confused(vouched: Vouched) -> str:
    _, claims, _ = vouched.good().split(".")
    header = _b64(json.dumps({"alg": "HS256", "kid": "k1"}).encode())
    tag = hmac.digest(public_pem(vouched.issuer.key), f"{header}.{claims}".encode(), hashlib.sha256)
    return f"{header}.{claims}.{_b64(tag)}"


def _changed(vouched: Vouched) -> str:
    header, claims, signature = vouched.good().split(".")
    other = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return f"{header}.{_b64(json.dumps({**other, 'sub': 'admin'}).encode())}.{signature}"


def _with(**claims: object) -> Make:
    def make(vouched: Vouched) -> str:
        now = int(vouched.kit.clock.now())
        return vouched.good(
            **{name: now + value if isinstance(value, int) else value for name, value in claims.items()}
        )

    return make


def _header(**header: object) -> Make:
    return lambda vouched: vouched.issuer.sign(
        vouched.issuer.claims(vouched.kit.clock.now()), header={"kid": "k1", **header}
    )


def _foreign(vouched: Vouched) -> str:
    return vouched.issuer.sign(
        vouched.issuer.claims(vouched.kit.clock.now()), key=ec.generate_private_key(ec.SECP256R1())
    )


def _family(vouched: Vouched) -> str:
    """Name the EC key but sign with RS256."""
    return vouched.issuer.sign(
        vouched.issuer.claims(vouched.kit.clock.now()), key=RSA_KEY, algorithm="RS256", header={"kid": "k1"}
    )


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_with(iat=-7200, exp=-3600), "jwt_expired"),
        (_with(iat=3600, exp=7200), "jwt_not_yet"),
        (_with(exp=90_000), "jwt_life"),
        (_with(aud="someone-else"), "jwt_audience"),
        (_with(aud=["aries-broker", "someone-else"]), "jwt_audience"),
        (_with(iss="https://evil.example"), "jwt_issuer"),
        (_with(sub=None), "jwt_subject"),
        (_alg_none, "jwt_algorithm"),
        (_confused, "jwt_algorithm"),
        (_changed, "jwt_signature"),
        (_foreign, "jwt_signature"),
        (_family, "jwt_key"),
        (_header(jku="https://evil.example"), "jwt_header"),
        (_header(jwk={"kty": "EC"}), "jwt_header"),
        (_header(x5u="https://evil.example"), "jwt_header"),
        (_header(crit=["exp"], exp=1), "jwt_header"),
        (_header(kid="unknown"), "jwt_key"),
        (lambda _vouched: "a" * 8193, "bearer_malformed"),
    ],
    ids=range(18),
)
async def test_a_bad_jwt_proves_nobody(vouched: Vouched, make: Make, cause: str) -> None:
    """Each is UNAUTHENTICATED with one text; the audit event says why."""
    told = await refusal(vouched.stub.GetToken(WISH, metadata=bearer(make(vouched))))
    assert (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED") == (told.code, told.reason)
    assert "the caller did not prove who it is" == told.text
    assert [("", cause)] == [(event.actor, event.detail) for event in vouched.kit.sink.events]


async def test_a_cached_jwt_ends_with_its_exp(vouched: Vouched) -> None:
    """Being remembered makes no JWT live longer."""
    token = vouched.good()
    await vouched.stub.GetToken(WISH, metadata=bearer(token))
    vouched.kit.clock.ahead = 631
    assert "CALLER_UNAUTHENTICATED" == (await refusal(vouched.stub.GetToken(WISH, metadata=bearer(token)))).reason


async def test_a_cached_jwt_falls_with_its_issuer(vouched: Vouched) -> None:
    """An issuer that is removed or changed vouches for nobody from that version on."""
    token = vouched.good()
    await vouched.stub.GetToken(WISH, metadata=bearer(token))
    vouched.kit.catalog = replace(vouched.kit.catalog, version=2, issuers=())
    assert "CALLER_UNAUTHENTICATED" == (await refusal(vouched.stub.GetToken(WISH, metadata=bearer(token)))).reason


async def test_what_was_proved_under_an_old_catalogue_does_not_outlive_it(vouched: Vouched) -> None:
    """A process may know that the store moved before it knows how; what it proves meanwhile falls when it does."""
    token = vouched.good()
    vouched.kit.store_version = 2
    await vouched.stub.GetToken(WISH, metadata=bearer(token))
    vouched.kit.catalog = replace(vouched.kit.catalog, version=2, issuers=())
    assert "CALLER_UNAUTHENTICATED" == (await refusal(vouched.stub.GetToken(WISH, metadata=bearer(token)))).reason


async def test_a_withdrawn_key_ends(vouched: Vouched) -> None:
    """A key the issuer no longer publishes is missed after five minutes at most, cached or not."""
    token = vouched.good(exp=int(vouched.kit.clock.now()) + 3600)
    await vouched.stub.GetToken(WISH, metadata=bearer(token))
    successor = ec.generate_private_key(ec.SECP256R1())
    vouched.issuer.keys = [jwk_of(successor, "k2")]
    vouched.kit.clock.ahead = 301
    await vouched.stub.GetToken(WISH, metadata=bearer(token))  # the keys in hand serve while new ones are fetched
    fresh = vouched.issuer.sign(vouched.issuer.claims(vouched.kit.clock.now()), key=successor, header={"kid": "k2"})
    await vouched.stub.GetToken(WISH, metadata=bearer(fresh))
    assert "CALLER_UNAUTHENTICATED" == (await refusal(vouched.stub.GetToken(WISH, metadata=bearer(token)))).reason


async def test_an_unknown_kid_is_looked_for_once(vouched: Vouched) -> None:
    """A new key is found at once; forged key ids make one fetch in 30 s."""
    await vouched.stub.GetToken(WISH, metadata=bearer(vouched.good()))
    successor = ec.generate_private_key(ec.SECP256R1())
    vouched.issuer.keys.append(jwk_of(successor, "k2"))
    claims = vouched.issuer.claims(vouched.kit.clock.now())
    fresh = vouched.issuer.sign(claims, key=successor, header={"kid": "k2"})
    await vouched.stub.GetToken(WISH, metadata=bearer(fresh))
    assert 2 == vouched.issuer.fetches
    for number in range(5):
        forged = vouched.issuer.sign(claims, header={"kid": f"forged-{number}"})
        await refusal(vouched.stub.GetToken(WISH, metadata=bearer(forged)))
    assert 2 == vouched.issuer.fetches
    vouched.kit.clock.ahead = 31
    await refusal(vouched.stub.GetToken(WISH, metadata=bearer(vouched.issuer.sign(claims, header={"kid": "forged"}))))
    assert 3 == vouched.issuer.fetches


async def test_failures_are_not_remembered(vouched: Vouched) -> None:
    """A JWT that came before its issuer was configured is good afterwards."""
    issuers = vouched.kit.catalog.issuers
    vouched.kit.catalog = replace(vouched.kit.catalog, issuers=())
    token = vouched.good()
    await refusal(vouched.stub.GetToken(WISH, metadata=bearer(token)))
    vouched.kit.catalog = replace(vouched.kit.catalog, issuers=issuers)
    assert ACCESS_TOKEN == (await vouched.stub.GetToken(WISH, metadata=bearer(token))).access_token


async def test_without_a_kid_the_family_has_to_decide(vouched: Vouched) -> None:
    """A JWT without kid is good while its issuer has one key it can mean, and only then."""
    claims = vouched.issuer.claims(vouched.kit.clock.now())
    without = vouched.issuer.sign(claims, key=RSA_KEY, algorithm="RS256", header={"x": "y"})
    assert ACCESS_TOKEN == (await vouched.stub.GetToken(WISH, metadata=bearer(without))).access_token
    vouched.issuer.keys.append(jwk_of(rsa.generate_private_key(65537, 2048), "r2"))
    vouched.kit.clock.ahead = 301
    again = vouched.issuer.sign({**claims, "x": 1}, key=RSA_KEY, algorithm="RS256", header={"kid": "unknown"})
    await refusal(vouched.stub.GetToken(WISH, metadata=bearer(again)))
    told = await refusal(vouched.stub.GetToken(WISH, metadata=bearer(without)))
    assert "CALLER_UNAUTHENTICATED" == told.reason
