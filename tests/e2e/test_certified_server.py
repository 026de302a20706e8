"""GetToken against a certified authorization server (npm `oidc-provider`): the generic preset meets a real one.

The broker is a process of its own on SQLite, and everything goes over real sockets. The server rotates refresh tokens,
and one that it sees twice costs the whole grant.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt import ExpiredSignatureError
from jwt.algorithms import ECAlgorithm

from aries.broker.admin.v1 import config_pb2, config_pb2_grpc
from aries_broker import AsyncClient, BrokerError, Narrowing
from tests.support.certified import EVERY_SCOPE, PHANTOM, CertifiedBroker, certified_broker, secrets
from tests.support.oidc import OidcProvider, SeenRequest, oidc_provider
from tests.support.postgres import PostgresServer
from tests.support.waiting import until_told
from tests.support.world import postgres_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = ec.generate_private_key(ec.SECP256R1())
SECRETS = secrets(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
CONSENTED = ("read", "trade", "withdraw")
GOOD = ("idle", "ok", True)
QUARANTINED = ("idle", "quarantined", True)


@pytest.fixture(scope="module")
def server() -> Iterator[OidcProvider]:
    """One server for the module; each test takes refresh tokens of its own."""
    public = json.loads(ECAlgorithm.to_jwk(KEY.public_key()))
    with oidc_provider(client_jwks={"keys": [{**public, "alg": "ES256", "use": "sig"}]}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(server: OidcProvider, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CertifiedBroker]:
    """One broker on SQLite for the module; each test makes grants of its own."""
    async with certified_broker(tmp_path_factory.mktemp("broker"), server, SECRETS) as running:
        yield running


class Requests:
    """The token requests the server answers from here on."""

    def __init__(self, server: OidcProvider) -> None:
        self._server = server
        self._before = len(server.requests())

    def new(self) -> list[SeenRequest]:
        """Return them."""
        return self._server.requests()[self._before :]

    def spent(self) -> list[str]:
        """Return the refresh tokens among them."""
        return [request.refresh_token for request in self.new() if request.refresh_token]


@contextmanager
def short_lived(server: OidcProvider, seconds: int, reply_delay: int = 0) -> Iterator[None]:
    """Let access tokens given in the block live so long, and every answer come some milliseconds late."""
    server.set_access_ttl(seconds)
    server.set_reply_delay(reply_delay)
    try:
        yield
    finally:
        server.set_access_ttl(300)
        server.set_reply_delay(0)


# --- client_credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "label"),
    [(EVERY_SCOPE, Narrowing.EXACT), (("trade", "read"), Narrowing.NARROWED), (("read",), Narrowing.NARROWED)],
)
async def test_a_token_carries_just_what_was_asked(
    server: OidcProvider, broker: CertifiedBroker, asked: Sequence[str], label: Narrowing
) -> None:
    """The JWT verifies with the server's keys; claims and reply state the scopes asked for, and their label."""
    grant = await broker.new_grant("svc", EVERY_SCOPE)
    token = await broker.get(grant, *asked)
    claims = server.claims(token.access_token)
    assert ("svc", sorted(asked)) == (claims["client_id"], sorted(claims["scope"].split()))
    assert (tuple(sorted(asked)), label, ()) == (token.provider_scopes, token.narrowing, token.excess_scopes)
    assert 290 < token.lifetime <= 300


async def test_the_issuer_is_all_there_is_to_know(server: OidcProvider, broker: CertifiedBroker) -> None:
    """The broker read the server's metadata, and posts to the endpoint that stands there."""
    documents = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
    assert 200 in {request.status for path in documents for request in server.requests(path)}
    listed = await broker.call(
        config_pb2_grpc.ConfigServiceStub, "ListObjects", config_pb2.ListObjectsRequest(kind="provider")
    )
    told = {item.provider.name: item.provider for item in listed.objects}["narrowing"]
    assert (server.issuer, server.token_url) == (told.issuer, told.token_url)


@pytest.mark.parametrize(
    ("client", "auth"),
    [
        ("svc", "client_secret_basic"),
        ("svc-basic", "client_secret_basic"),
        ("svc-post", "client_secret_post"),
        ("svc-keyed", "private_key_jwt"),
    ],
)
async def test_a_client_authenticates_in_the_one_pinned_way(
    server: OidcProvider, broker: CertifiedBroker, client: str, auth: str
) -> None:
    """One request, with the credential in just the configured place; Basic where nothing is configured."""
    requests = Requests(server)
    await broker.get(await broker.new_grant(client, ["read"]), "read")
    assert [(200, auth)] == [(request.status, request.auth) for request in requests.new()]


# --- scopes that are not granted -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "scope", "reason"),
    [("svc", "bogus", "INVALID_REQUEST"), ("svc-whole", PHANTOM, "SCOPE_NOT_SUPPORTED")],
)
async def test_an_unknown_scope_never_leaves_the_broker(
    server: OidcProvider, broker: CertifiedBroker, client: str, scope: str, reason: str
) -> None:
    """A scope no provider has, or that this grant's does not map, is refused, alone or in company, without a call."""
    grant = await broker.new_grant(client, ["read"])
    requests = Requests(server)
    assert reason == (await broker.refused(grant, scope)).reason
    assert reason == (await broker.refused(grant, "read", scope)).reason
    assert [] == requests.new()


@pytest.mark.parametrize(("asked", "granted"), [((PHANTOM,), ""), (("read", PHANTOM), "read")])
async def test_a_scope_the_server_does_not_know_is_not_granted(
    server: OidcProvider, broker: CertifiedBroker, asked: Sequence[str], granted: str
) -> None:
    """The server answers 200 with a token that lacks the scope; the broker hands it to nobody, and `read` works on."""
    grant = await broker.new_grant("svc", ["read", PHANTOM])
    requests = Requests(server)
    for _ in range(2):  # the second time from memory
        error = await broker.refused(grant, *asked)
        assert ("SCOPE_NOT_GRANTED", PHANTOM) == (error.reason, error.metadata["missing"])
    assert [(200, " ".join(sorted(asked)), granted)] == [
        (request.status, request.scope, request.granted) for request in requests.new()
    ]
    assert ("read",) == (await broker.get(grant, "read")).provider_scopes


async def test_a_scope_outside_the_clients_registration(server: OidcProvider, broker: CertifiedBroker) -> None:
    """`invalid_scope` is SCOPE_NOT_GRANTED; what the client is registered for it still gets."""
    grant = await broker.new_grant("svc-read", ["read", "withdraw"])
    requests = Requests(server)
    assert "SCOPE_NOT_GRANTED" == (await broker.refused(grant, "read", "withdraw")).reason
    assert [400] == [request.status for request in requests.new()]
    assert ("read",) == (await broker.get(grant, "read")).provider_scopes


async def test_a_consent_narrower_than_the_grant_costs_nothing(server: OidcProvider, broker: CertifiedBroker) -> None:
    """`invalid_scope` on a refresh is SCOPE_NOT_GRANTED; the refresh token was not consumed and serves what it has."""
    grant = await broker.new_grant("web", CONSENTED)
    requests = Requests(server)
    with pytest.raises(BrokerError) as caught:
        await broker.import_token(grant, server.refresh_token(["read", "withdraw"]))
    assert "SCOPE_NOT_GRANTED" == caught.value.reason
    assert "SCOPE_NOT_GRANTED" == (await broker.refused(grant, "read", "trade")).reason
    assert GOOD == await broker.health(grant)
    assert ("read", "withdraw") == (await broker.get(grant, "read", "withdraw")).provider_scopes
    assert ("withdraw",) == (await broker.get(grant, "withdraw")).provider_scopes
    statuses = [request.status for request in requests.new()]
    assert [400, 400, 200, 200] == statuses
    assert 2 == len(set(requests.spent()))


# --- a wrong client secret -------------------------------------------------------------------------------------------


async def test_a_wrong_secret_is_the_brokers_own_trouble(server: OidcProvider, broker: CertifiedBroker) -> None:
    """The caller is told PROVIDER_REFUSED_CLIENT, and not the provider's words."""
    error = await broker.refused(await broker.new_grant("svc-wrong", ["read"]), "read")
    assert ("PROVIDER_REFUSED_CLIENT", {}) == (error.reason, error.metadata)


async def test_a_wrong_secret_leaves_the_grant_untouched(server: OidcProvider, broker: CertifiedBroker) -> None:
    """The grant stays good and keeps its refresh token, which the server has not consumed."""
    grant = await broker.new_grant("web-wrong", CONSENTED)
    refresh_token = server.refresh_token()
    with pytest.raises(BrokerError) as caught:
        await broker.import_token(grant, refresh_token)
    reasons = [caught.value.reason, (await broker.refused(grant, *CONSENTED)).reason]
    assert ["PROVIDER_REFUSED_CLIENT"] * 2 == reasons
    assert GOOD == await broker.health(grant)
    assert (200, 0) == (server.redeem(refresh_token), server.revoked_grants())


# --- refresh tokens --------------------------------------------------------------------------------------------------


async def test_an_imported_token_is_spent_at_once(server: OidcProvider, broker: CertifiedBroker) -> None:
    """The command takes it on standard input, has it rotated, says so and warns of the old holder."""
    grant = await broker.new_grant("web", CONSENTED)
    refresh_token = server.refresh_token()
    requests = Requests(server)
    code, out, err = await broker.command("admin", "grants", "import", grant, "--stdin", stdin=f"{refresh_token}\n")
    assert (0, "imported and rotated: the old token is spent\n") == (code, out)
    assert "old holder" in err
    assert refresh_token not in out + err
    assert [(200, "refresh_token")] == [(request.status, request.grant_type) for request in requests.new()]
    token = await broker.get(grant, *CONSENTED)
    assert (CONSENTED, Narrowing.EXACT) == (token.provider_scopes, token.narrowing)


async def test_a_rotation_is_saved(server: OidcProvider, broker: CertifiedBroker) -> None:
    """Every rotated token is redeemed once, the last of one process by the next; none that was spent is sent again."""
    requests = Requests(server)
    grant = await broker.new_grant("web", CONSENTED, server.refresh_token())
    assert ("read",) == (await broker.get(grant, "read")).provider_scopes
    await broker.restart()
    for scope in ("trade", "withdraw"):
        assert (scope,) == (await broker.get(grant, scope)).provider_scopes
    assert [200] * 4 == [request.status for request in requests.new()]
    assert 4 == len(set(requests.spent()))
    attempts = (await broker.status(grant)).attempts
    assert (["landed"] * 4, 2) == (
        [attempt.outcome for attempt in attempts],
        len({attempt.owner for attempt in attempts}),
    )


async def test_a_refresh_narrows(server: OidcProvider, broker: CertifiedBroker) -> None:
    """Each scope set has a token of its own, and narrowing one costs the grant nothing."""
    grant = await broker.new_grant("web", CONSENTED, server.refresh_token())
    requests = Requests(server)
    for asked, label in ((("read",), Narrowing.NARROWED), (("read", "trade"), Narrowing.NARROWED)):
        token = await broker.get(grant, *asked)
        assert (list(asked), label) == (server.claims(token.access_token)["scope"].split(), token.narrowing)
    assert ["read", "read trade"] == [request.scope for request in requests.new()]
    whole = await broker.get(grant, *CONSENTED)  # the import's, kept since
    assert (CONSENTED, Narrowing.EXACT) == (whole.provider_scopes, whole.narrowing)


async def test_narrowing_is_proved_on_a_throw_away_grant(server: OidcProvider, broker: CertifiedBroker) -> None:
    """The command finds that this server narrows as RFC 6749 says, though the provider's profile is unproved."""
    grant = await broker.new_grant("web-whole", CONSENTED, server.refresh_token())
    code, out, err = await broker.command("admin", "providers", "prove-narrowing", grant)
    assert (0, "") == (code, err)
    assert "narrowing: additional" == out.splitlines()[-1]
    assert "SCOPE_NOT_GRANTED" == (await broker.refused(grant, "read")).reason  # proved, and not configured


async def test_an_unproved_grant_serves_its_own_set(server: OidcProvider, broker: CertifiedBroker) -> None:
    """Where narrowing is not proved no scope is sent; the whole set is served, and a smaller one refused."""
    requests = Requests(server)
    grant = await broker.new_grant("web-whole", CONSENTED, server.refresh_token())
    token = await broker.get(grant, *CONSENTED)
    assert (CONSENTED, Narrowing.EXACT) == (token.provider_scopes, token.narrowing)
    assert "SCOPE_NOT_GRANTED" == (await broker.refused(grant, "read")).reason
    assert [(200, "")] == [(request.status, request.scope) for request in requests.new()]


# --- grants that the server ends -------------------------------------------------------------------------------------


async def test_reuse_elsewhere_quarantines_and_keeps_the_grant(server: OidcProvider, broker: CertifiedBroker) -> None:
    """An old holder's reuse kills the family: GRANT_QUARANTINED, nothing more is sent, a new consent heals."""
    refresh_token = server.refresh_token()
    grant = await broker.new_grant("web", CONSENTED, refresh_token)
    before = server.revoked_grants()
    assert (400, before + 1) == (server.redeem(refresh_token), server.revoked_grants())
    requests = Requests(server)
    reasons = [(await broker.refused(grant, scope)).reason for scope in ("read", "read", "trade")]
    assert ["GRANT_QUARANTINED"] * 3 == reasons
    assert 1 == len(requests.new())
    assert QUARANTINED == await broker.health(grant)
    assert (await broker.import_token(grant, server.refresh_token())).rotated
    assert ("read",) == (await broker.get(grant, "read")).provider_scopes


async def test_a_server_that_forgot_everything(server: OidcProvider, broker: CertifiedBroker) -> None:
    """A restarted server knows no grant: the broker quarantines its own and deletes nothing; clients work on."""
    own = await broker.new_grant("svc", EVERY_SCOPE)
    grant = await broker.new_grant("web", CONSENTED, server.refresh_token())
    server.restart()
    assert "GRANT_QUARANTINED" == (await broker.refused(grant, "read")).reason
    assert QUARANTINED == await broker.health(grant)
    assert "read" == server.claims((await broker.get(own, "read")).access_token)["scope"]


# --- many at once ----------------------------------------------------------------------------------------------------


async def test_a_herd_makes_one_refresh(server: OidcProvider, broker: CertifiedBroker) -> None:
    """A hundred callers ask at once for a grant whose token has run out: one refresh, one token for all."""
    with short_lived(server, 2):
        grant = await broker.new_grant("web", CONSENTED, server.refresh_token())
        old = await broker.get(grant, *CONSENTED)

    async def run_out() -> bool:
        try:
            server.claims(old.access_token)
        except ExpiredSignatureError:
            return True
        return False

    await until_told(run_out)
    requests, revoked = Requests(server), server.revoked_grants()
    async with broker.service() as client:
        tokens = await asyncio.gather(*(client.get_token(CONSENTED, grant) for _ in range(100)))
    assert [200] == [request.status for request in requests.new()]
    assert 1 == len({token.access_token for token in tokens})
    assert old.access_token != tokens[0].access_token
    assert revoked == server.revoked_grants()
    assert ("read",) == (await broker.get(grant, "read")).provider_scopes


async def test_two_brokers_never_burn_a_family(
    server: OidcProvider, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two brokers on one PostgreSQL share a rotating grant under load, over several lives of its tokens.

    The server answers late enough for the other broker to find the grant taken, each time.
    """
    folder = tmp_path_factory.mktemp("replicas")
    env = {**SECRETS, **await postgres_environment(postgres, folder / "one")}
    revoked = server.revoked_grants()
    with short_lived(server, 2, reply_delay=150):
        async with (
            certified_broker(folder / "one", server, env) as one,
            certified_broker(folder / "two", server, env, joins=one) as two,
            one.service() as first,
            two.service() as second,
        ):
            requests = Requests(server)
            grant = await one.new_grant("web", CONSENTED, server.refresh_token())
            enough = asyncio.Event()
            callers = [asyncio.create_task(_load(client, grant, enough)) for client in [first, second] * 6]
            while len(requests.spent()) < 4 and not any(caller.done() for caller in callers):
                await asyncio.wait(callers, timeout=0.05)
            enough.set()
            served = sum(await asyncio.gather(*callers), Counter[str]())
            assert GOOD == await two.health(grant)
    assert revoked == server.revoked_grants()
    assert {200} == {request.status for request in requests.new()}
    assert len(set(requests.spent())) == len(requests.spent())
    assert len(requests.spent()) >= len(served) >= 3


async def _load(client: AsyncClient, grant: str, enough: asyncio.Event) -> Counter[str]:
    """Ask for a grant's token again and again; count the tokens got.

    A machine that stalls may keep an audit event from being durable in time: such a call is refused and made again.
    """
    served = Counter[str]()
    while not enough.is_set():
        try:
            served[(await client.get_token(CONSENTED, grant)).access_token] += 1
        except BrokerError as error:
            if error.reason not in {"AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE", "GRANT_CONFLICT"}:
                raise
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), 0.01)  # the pace of a caller
    return served
