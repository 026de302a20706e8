"""The provider's adapter against a certified authorization server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from broker.adapters.client_assertion import ClientAssertionSigner
from broker.adapters.discovery import HttpDiscovery
from broker.adapters.http_exchange import HttpExchange
from broker.adapters.presets import resolve
from broker.adapters.provider_http import ProviderHttp
from broker.core.errors import Reason
from broker.core.models import Client, Origin, Provider, TokenEndpointAuth
from broker.core.oauth.reply import Outcome, Reading, read_reply
from broker.core.oauth.rfc6749 import ClientCredentials, ClientProof, RefreshToken, build_token_request
from broker.core.provider_config import ProviderConfig
from broker.core.secret import Secret
from tests.support.oidc import OidcProvider, oidc_provider

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def upstream() -> Iterator[OidcProvider]:
    """Return a server for the module; each test takes its own refresh tokens."""
    public = json.loads(ECAlgorithm.to_jwk(KEY.public_key()))
    with oidc_provider(client_jwks={"keys": [{**public, "alg": "ES256", "use": "sig"}]}) as running:
        yield running


async def discovered(upstream: OidcProvider, auth: str | None = None) -> Provider:
    """Return the server as the generic preset finds it."""
    config = ProviderConfig("oidc", "generic", issuer=upstream.issuer, insecure_loopback=True, token_endpoint_auth=auth)
    metadata = await HttpDiscovery(HttpExchange()).discover(upstream.issuer, insecure_loopback=True)
    return resolve(config, metadata, provider_id="p1", origin=Origin.FILE)


async def ask(
    provider: Provider, client_id: str, grant: ClientCredentials | RefreshToken, secret: str | None = None
) -> Reading:
    """Send one token request of this client and read the reply."""
    client = Client("c1", client_id, Origin.FILE, provider.name, client_id)
    held = Secret(secret or f"{client_id}-secret")
    now = time.time()
    signed = None
    if provider.token_endpoint_auth is TokenEndpointAuth.PRIVATE_KEY_JWT:
        signed = ClientAssertionSigner().sign(provider, client, held, now=now)

    async def before_write() -> None:
        """Let it be written."""

    proof = ClientProof(provider.token_endpoint_auth, client_id, held, signed)
    request = build_token_request(provider, grant, proof)
    reply = await ProviderHttp(HttpExchange()).send(provider, request, before_write=before_write, reply_deadline=10)
    return read_reply(reply, grant_type=grant.type, provider=provider, sent_at=now, now=now)


def granted(reading: Reading) -> frozenset[str] | None:
    """Return the wire scopes of a good reading."""
    assert reading.tokens is not None
    return reading.tokens.granted


def own(*scopes: str) -> ClientCredentials:
    """Return a client credentials grant."""
    return ClientCredentials(frozenset(scopes))


async def test_client_credentials_are_narrowed_by_scope(upstream: OidcProvider) -> None:
    """A token carries the scopes asked for, and says so in reply and claims."""
    reading = await ask(await discovered(upstream), "svc", own("read", "trade"))
    assert reading.tokens is not None
    asked = frozenset({"read", "trade"})
    assert (asked, asked) == (reading.tokens.reply_scopes, reading.tokens.unverified_claim_scopes)
    assert 298 <= reading.tokens.expires_in <= 300
    claims = jwt.decode(reading.tokens.access_token.reveal(), options={"verify_signature": False})
    assert (upstream.resource, upstream.issuer, "svc") == (claims["aud"], claims["iss"], claims["client_id"])


@pytest.mark.parametrize(
    ("auth", "client_id", "secret"),
    [
        ("client_secret_basic", "svc", "svc-secret"),
        ("client_secret_post", "svc", "svc-secret"),
        ("private_key_jwt", "svc-key", PEM),
    ],
)
async def test_each_method_of_client_authentication(
    upstream: OidcProvider, auth: str, client_id: str, secret: str
) -> None:
    """A real server accepts each standard method the broker can be pinned to."""
    assert frozenset({"read"}) == granted(await ask(await discovered(upstream, auth), client_id, own("read"), secret))


async def test_an_unknown_scope_is_answered_without_a_word_of_scope(upstream: OidcProvider) -> None:
    """This server answers 200 and states no scope; the reading says that nothing was stated."""
    assert None is granted(await ask(await discovered(upstream), "svc", own("bogus")))


async def test_a_scope_the_client_may_not_have(upstream: OidcProvider) -> None:
    """`invalid_scope` is told as such."""
    reading = await ask(await discovered(upstream), "svc-read", own("read", "withdraw"))
    assert (Outcome.NOT_CONSUMED, "invalid_scope") == (reading.outcome, reading.cause)


async def test_a_wrong_secret(upstream: OidcProvider) -> None:
    """A wrong client secret is the broker's own trouble and no verdict on the grant."""
    token = RefreshToken(Secret(upstream.refresh_token()))
    reading = await ask(await discovered(upstream), "web", token, "wrong")
    assert (Outcome.NOT_CONSUMED, "invalid_client") == (reading.outcome, reading.cause)
    assert Outcome.LANDED is (await ask(await discovered(upstream), "web", token)).outcome


async def test_a_narrowed_refresh_keeps_the_grant(upstream: OidcProvider) -> None:
    """A refresh narrows the access token; the rotated refresh token still covers everything consented to."""
    provider = await discovered(upstream)
    first = Secret(upstream.refresh_token(["read", "trade"]))
    narrowed = await ask(provider, "web", RefreshToken(first, frozenset({"read"})))
    assert frozenset({"read"}) == granted(narrowed)
    assert narrowed.refresh_token is not None
    assert first != narrowed.refresh_token
    whole = await ask(provider, "web", RefreshToken(narrowed.refresh_token, frozenset({"read", "trade"})))
    assert frozenset({"read", "trade"}) == granted(whole)


async def test_a_refresh_token_sent_twice_ends_the_grant(upstream: OidcProvider) -> None:
    """Reuse is refused, and the newest refresh token dies with it: why nothing is ever sent twice."""
    provider = await discovered(upstream)
    first = Secret(upstream.refresh_token())
    second = (await ask(provider, "web", RefreshToken(first))).refresh_token
    assert second is not None
    assert Outcome.REFUSED is (await ask(provider, "web", RefreshToken(first))).outcome
    newest = await ask(provider, "web", RefreshToken(second))
    assert (Outcome.REFUSED, "invalid_grant", Reason.GRANT_QUARANTINED) == (
        newest.outcome,
        newest.cause,
        newest.error and newest.error.reason,
    )


async def test_metadata_of_a_real_server(upstream: OidcProvider) -> None:
    """Discovery finds the token endpoint of a server that serves OpenID Connect Discovery."""
    provider = await discovered(upstream)
    assert (upstream.token_url, upstream.issuer) == (provider.token_url, provider.issuer)
