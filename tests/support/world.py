"""A whole world for end-to-end tests: sandbox, broker process, configuration, callers; and everything seen of it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import httpx2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from aries.broker.admin.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    config_pb2,
    config_pb2_grpc,
    grants_pb2,
    grants_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    secrets_pb2,
    secrets_pb2_grpc,
)
from aries.broker.v1 import token_pb2, token_pb2_grpc
from aries_broker.errors import BrokerError, parse_error
from broker.adapters.keys.files import make_bootstrap_key_file, make_kek_file
from broker.adapters.sql.migrate import migrate
from broker.sandbox import SandboxConfig
from broker.sandbox.config import WIRE_SCOPES, ClientSeed
from tests.support.broker import BrokerProcess, start_broker
from tests.support.canary import REFRESH_TOKEN_PREFIX, Seen, new_secret
from tests.support.postgres import PostgresServer
from tests.support.sandbox import NO_AUTHORITIES, SandboxDriver

CLIENT_ID: Final = "desk-app"
DEADLINE: Final = 20.0

Response = TypeVar("Response", bound=Message)


def sandbox_config() -> SandboxConfig:
    """Return a sandbox whose client secret and refresh tokens are canaries."""
    client = ClientSeed(CLIENT_ID, new_secret("client-secret"), scopes=WIRE_SCOPES)
    return SandboxConfig(clients=(client,), refresh_token_prefix=REFRESH_TOKEN_PREFIX)


def provider(name: str, url: str, **changes: Any) -> config_pb2.Provider:  # noqa: ANN401 - fields of the message
    """Return a provider at a sandbox's URL."""
    fields: dict[str, Any] = {
        "preset": "aries",
        "base_url": url,
        "insecure_loopback": url.startswith("http:"),
        "narrowing": "additional",
        "refresh_kills_older_access_tokens": False,
        "authorize_url": f"{url}/oauth2/authorize",
        "revocation_url": f"{url}/v1/oauth2/revoke",
        "scopes": [config_pb2.ScopeMapping(scope="withdraw", wire_scopes=["withdraw"])],
    }
    return config_pb2.Provider(name=name, **{**fields, **changes})


@dataclass
class World:
    """A running broker and whoever talks to it.

    Attributes:
        process: the broker.
        sandbox: the provider it talks to.
        channel: to the broker.
        admin_key: an admin's API key.
        seen: replies, errors and whatever else tests add.
        revision: of the configuration applied last.
    """

    process: BrokerProcess
    sandbox: SandboxDriver
    channel: grpc.aio.Channel
    admin_key: str
    seen: Seen = field(default_factory=Seen)
    revision: int = 0
    clients: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- calling -----------------------------------------------------------------------------------------------------

    async def call(
        self, method: Callable[..., Any], request: Message, key: str | None = None, deadline: float = DEADLINE
    ) -> Any:  # noqa: ANN401 - the method's response
        """Call an RPC, as the admin unless a key is given; raises the client library's errors."""
        metadata = (("authorization", f"Bearer {key or self.admin_key}"),)
        try:
            response = await method(request, timeout=deadline, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            self.seen.add("error text", error.details() or "")
            for name, value in error.trailing_metadata() or ():
                self.seen.add(f"error {name}", value)
            raise parse_error(error) from None
        self._remember(response)
        return response

    def _remember(self, response: Message) -> None:
        kept = type(response)()
        kept.CopyFrom(response)
        if isinstance(kept, token_pb2.GetTokenResponse):
            kept.access_token = ""  # the one place where it belongs
        self.seen.add("reply", kept.SerializeToString())

    async def get_token(
        self,
        key: str,
        *scopes: str,
        grant: str = "",
        min_lifetime: float | None = None,
        rejected: str = "",
        deadline: float = DEADLINE,
    ) -> token_pb2.GetTokenResponse:
        """Call GetToken."""
        request = token_pb2.GetTokenRequest(grant=grant, scopes=scopes, rejected_fingerprint=rejected)
        if min_lifetime is not None:
            request.min_lifetime.CopyFrom(Duration(seconds=int(min_lifetime)))
        stub = token_pb2_grpc.TokenServiceStub(self.channel)
        response: token_pb2.GetTokenResponse = await self.call(stub.GetToken, request, key, deadline)
        return response

    async def refusal(self, call: Awaitable[object]) -> BrokerError:
        """Await a call that must fail; return its error."""
        try:
            await call
        except BrokerError as error:
            return error
        message = "the call was served"
        raise AssertionError(message)

    async def outcome(self, call: Awaitable[object]) -> BrokerError | None:
        """Await a call; return its error, if it has one."""
        try:
            await call
        except BrokerError as error:
            return error
        return None

    @staticmethod
    def list_of(kind: str) -> config_pb2.ListObjectsRequest:
        """Return the request that lists a kind's objects."""
        return config_pb2.ListObjectsRequest(kind=kind)

    @property
    def config(self) -> config_pb2_grpc.ConfigServiceAsyncStub:
        """The ConfigService."""
        return config_pb2_grpc.ConfigServiceStub(self.channel)

    @property
    def grants(self) -> grants_pb2_grpc.GrantsServiceAsyncStub:
        """The GrantsService."""
        return grants_pb2_grpc.GrantsServiceStub(self.channel)

    async def events(self, actor: str = "", limit: int = 200) -> Sequence[audit_pb2.Event]:
        """Return audit events, newest first; of one actor if given."""
        stub = audit_pb2_grpc.AuditServiceStub(self.channel)
        listed = await self.call(stub.ListEvents, audit_pb2.ListEventsRequest(limit=limit))
        return [event for event in listed.events if not actor or event.actor == actor]

    async def metrics(self) -> str:
        """Return the page of metrics."""
        page = (await self._page("metrics")).text
        self.seen.add("metrics", page)
        return page

    async def probe(self, name: str) -> int:
        """Return the status a probe answers with."""
        return (await self._page(name)).status_code

    async def _page(self, name: str) -> httpx2.Response:
        async with httpx2.AsyncClient(trust_env=False, verify=NO_AUTHORITIES) as http:
            return await http.get(f"{self.process.http}/{name}")

    # --- setting up --------------------------------------------------------------------------------------------------

    def new_name(self, kind: str) -> str:
        """Return a name nothing has yet."""
        return f"{kind}-{next(self._numbers)}"

    async def apply(self, *providers: config_pb2.Provider) -> None:
        """Apply a configuration: these providers, each with a client of its name, which has the sandbox's secret."""
        self.revision += 1
        clients = [config_pb2.Client(name=each.name, provider=each.name, client_id=CLIENT_ID) for each in providers]
        first = [config_pb2.ClientSecret(client=each.name, secret=self.right_secret) for each in providers]
        config = config_pb2.Config(revision=self.revision, providers=providers, clients=clients)
        await self.call(self.config.Apply, config_pb2.ApplyRequest(config=config, first_secrets=first))

    async def prove_narrowing(self, provider: str = "aries") -> str:
        """Let the broker find out how a provider narrows, with a grant made for that; return what it found."""
        desk = await self.desk("refresh_token", provider=provider)
        proof = await self.call(self.config.ProveNarrowing, config_pb2.ProveNarrowingRequest(grant=desk.grant))
        return str(proof.narrowing)

    async def put(self, **kind: Message) -> None:
        """Create or replace one object by RPC."""
        put = config_pb2.PutObjectRequest(object=config_pb2.Object(**kind))  # type: ignore[arg-type]
        await self.call(self.config.PutObject, put)

    async def new_client(self, secret: str) -> str:
        """Return the name of a further client for the sandbox's registration, with this secret."""
        name = self.new_name("client")
        await self.put(client=config_pb2.Client(name=name, provider="aries", client_id=CLIENT_ID))
        stub = secrets_pb2_grpc.SecretsServiceStub(self.channel)
        request = secrets_pb2.AddFirstClientSecretRequest(client=name, secret=secret)
        await self.call(stub.AddFirstClientSecret, request)
        return name

    @property
    def right_secret(self) -> str:
        """The secret of the sandbox's registration."""
        return self.sandbox.running.state.config.clients[0].client_secret or ""

    async def new_key(self) -> tuple[str, str]:
        """Return a new caller's name, and its key."""
        name = self.new_name("service")
        stub = keys_pb2_grpc.KeysServiceStub(self.channel)
        metadata = (("authorization", f"Bearer {self.admin_key}"),)
        created = await stub.CreateApiKey(keys_pb2.CreateApiKeyRequest(name=name), metadata=metadata)
        return name, created.api_key

    async def disable_key(self, name: str) -> None:
        """End a caller's key."""
        stub = keys_pb2_grpc.KeysServiceStub(self.channel)
        await self.call(stub.DisableApiKey, keys_pb2.DisableApiKeyRequest(name=name))

    async def allow(self, caller: str, grants: Sequence[str], scopes: Sequence[str] = ("read",)) -> str:
        """Allow a caller scopes of grants, by a further policy; return its name."""
        name = self.new_name("policy")
        await self.put(policy=config_pb2.Policy(name=name, callers=[f"key:{caller}"], grants=grants, scopes=scopes))
        return name

    async def import_token(self, grant: str, refresh_token: str) -> grants_pb2.ImportRefreshTokenResponse:
        """Import a refresh token into a grant."""
        request = grants_pb2.ImportRefreshTokenRequest(grant=grant, refresh_token=refresh_token)
        response: grants_pb2.ImportRefreshTokenResponse = await self.call(self.grants.ImportRefreshToken, request)
        return response

    async def grant_status(self, grant: str) -> grants_pb2.GetGrantResponse:
        """Return a grant's status and history."""
        response: grants_pb2.GetGrantResponse = await self.call(
            self.grants.GetGrant, grants_pb2.GetGrantRequest(name=grant)
        )
        return response

    async def desk(
        self,
        kind: str = "client_credentials",
        scopes: Sequence[str] = ("read", "trade"),
        *,
        provider: str = "aries",
        allowed: Sequence[str] | None = None,
        accept_excess: Sequence[str] = (),
        imported: bool = True,
        client: str = "",
    ) -> Desk:
        """Return a service of its own: a key, a grant, the policy between them, and a refresh token if one is due.

        Args:
            kind: the grant's type.
            scopes: the grant's own.
            provider: whose client the grant is for.
            allowed: scopes the policy allows, those of the grant if left out.
            accept_excess: of the policy.
            imported: import a refresh token where the grant has them.
            client: another client than the one that bears the provider's name.
        """
        caller, key = await self.new_key()
        grant = self.new_name("grant")
        await self.put(grant=config_pb2.Grant(name=grant, client=client or provider, type=kind, scopes=scopes))
        policy = config_pb2.Policy(
            name=f"policy-of-{caller}",
            callers=[f"key:{caller}"],
            grants=[grant],
            scopes=scopes if allowed is None else allowed,
            accept_excess=accept_excess,
        )
        await self.put(policy=policy)
        desk = Desk(self, caller, key, grant)
        if kind == "refresh_token" and imported:
            desk.consented = await self.sandbox.refresh_token(scopes=wire(scopes))
            await self.import_token(grant, desk.consented)
        return desk


READ: Final = frozenset({"account:information", "order:information", "position:information", "user:information"})
TRADE: Final = frozenset({"order:execution"})


def wire(scopes: Sequence[str]) -> frozenset[str]:
    """Return the wire scopes of product scopes, as the preset has them."""
    known = {"read": READ, "trade": TRADE, "withdraw": frozenset({"withdraw"})}
    return frozenset().union(*(known.get(scope, frozenset({scope})) for scope in scopes))


@dataclass
class Desk:
    """One service and the grant it may use."""

    world: World
    caller: str
    key: str
    grant: str
    consented: str = ""

    async def get(self, *scopes: str, **more: Any) -> token_pb2.GetTokenResponse:  # noqa: ANN401 - passed on
        """Get a token of the grant."""
        return await self.world.get_token(self.key, *scopes, **{"grant": self.grant, **more})

    async def refused(self, *scopes: str, **more: Any) -> BrokerError:  # noqa: ANN401 - passed on
        """Return the error that a wish for a token is answered with."""
        return await self.world.refusal(self.get(*scopes, **more))

    async def events(self) -> list[tuple[str, str]]:
        """Return action and reason of the caller's audit events, oldest first."""
        listed = await self.world.events(f"key:{self.caller}")
        return [(event.action, event.fields.get("reason", "")) for event in reversed(listed)]

    async def state(self) -> tuple[str, str]:
        """Return the grant's phase and health."""
        status = (await self.world.grant_status(self.grant)).grant
        return status.phase, status.health

    async def freeze(self) -> grants_pb2.FreezeResponse:
        """Freeze the grant."""
        stub = grants_pb2_grpc.GrantsServiceStub(self.world.channel)
        held: grants_pb2.FreezeResponse = await self.world.call(
            stub.Freeze, grants_pb2.FreezeRequest(name=self.grant), self.world.admin_key
        )
        return held

    async def unfreeze(self) -> None:
        """Let the grant go."""
        stub = grants_pb2_grpc.GrantsServiceStub(self.world.channel)
        await self.world.call(stub.Unfreeze, grants_pb2.UnfreezeRequest(name=self.grant), self.world.admin_key)

    async def revoke(self) -> None:
        """Revoke the grant."""
        stub = grants_pb2_grpc.GrantsServiceStub(self.world.channel)
        await self.world.call(stub.RevokeGrant, grants_pb2.RevokeGrantRequest(name=self.grant), self.world.admin_key)

    @asynccontextmanager
    async def watching(
        self, cursor: str = ""
    ) -> AsyncIterator[Callable[[], Awaitable[token_pb2.WatchRevocationsResponse]]]:
        """Watch for tokens that end, for the length of the block; what is given returns the next response."""
        stub: token_pb2_grpc.TokenServiceAsyncStub = token_pb2_grpc.TokenServiceStub(self.world.channel)
        request = token_pb2.WatchRevocationsRequest(cursor=cursor)
        watch = stub.WatchRevocations(request, metadata=(("authorization", f"Bearer {self.key}"),))

        async def following() -> token_pb2.WatchRevocationsResponse:
            response = await watch.read()
            assert isinstance(response, token_pb2.WatchRevocationsResponse)
            self.world.seen.add("reply", response.SerializeToString())
            return response

        yield following
        watch.cancel()


async def postgres_environment(postgres: PostgresServer, folder: Path, *, migrated: bool = True) -> dict[str, str]:
    """Make a database and the keys that a broker on PostgreSQL needs; return the settings that name them."""
    url = postgres.url(postgres.create_database())
    if migrated:
        await migrate(url)
    return {"BROKER_DATABASE_URL": url, **make_keys(folder)}


def make_keys(folder: Path) -> dict[str, str]:
    """Make a data folder with a KEK and the first admin's key; return the settings that name them."""
    folder.mkdir(mode=0o700, exist_ok=True)
    make_kek_file(folder / "made-kek.json")
    make_bootstrap_key_file(folder / "admin.key")
    return {
        "BROKER_KEK": f"file:{folder / 'made-kek.json'}",
        "BROKER_BOOTSTRAP_ADMIN_KEY_FILE": str(folder / "admin.key"),
    }


@asynccontextmanager
async def connected(
    process: BrokerProcess,
    sandbox: SandboxDriver,
    credentials: grpc.ChannelCredentials | None = None,
    **facts: Any,  # noqa: ANN401 - passed on
) -> AsyncIterator[World]:
    """Connect to a running broker as its admin, for the length of the block; by TLS where there are credentials."""
    address = process.address
    channel = grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
    async with channel:
        yield World(process, sandbox, channel, facts.pop("admin_key", "") or process.admin_key, **facts)


@asynccontextmanager
async def running_world(
    sandbox: SandboxDriver, data_dir: Path, env: dict[str, str] | None = None, seen: Seen | None = None
) -> AsyncIterator[World]:
    """Run a broker that knows the sandbox as provider `aries`; it must end with exit code 0 and leave no canary."""
    process = await start_broker(data_dir, env={"BROKER_LOG_LEVEL": "debug", **(env or {})})
    seen = seen or Seen()
    try:
        async with connected(process, sandbox, seen=seen) as world:
            await world.apply(provider("aries", sandbox.url))
            await world.prove_narrowing()
            yield world
            if process.process.returncode is None:
                await world.metrics()
    finally:
        code = await process.stop()
    seen.add("log", bytes(process.output))
    assert 0 == code, bytes(process.output).decode(errors="replace")


__all__ = ["BrokerError", "Desk", "World"]
