"""The admin flows over the store in memory, real keys and a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from textwrap import dedent

import pytest

from broker.adapters import presets
from broker.adapters.config_file import parse_config
from broker.adapters.keys.keyring import Keyring
from broker.adapters.memory import MemoryStore
from broker.core import lease
from broker.core.api_keys import build_api_key, maced_api_key
from broker.core.audit import Action, AuditEvent
from broker.core.config import ConfigFile
from broker.core.config_values import catalog_objects
from broker.core.errors import InvalidRequestError, ProviderUnavailableError
from broker.core.models import ApiKey, Catalog, Grant, Kind, Origin
from broker.core.sealing import Sealed
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.api_keys import ApiKeys
from broker.flows.apply_config import Applied, ApplyConfig
from broker.flows.check_config import CheckConfig
from broker.flows.edit_object import EditObject, Put
from broker.flows.first_secrets import FirstSecrets
from broker.flows.resolve_providers import ResolveProviders
from broker.flows.trail import Trail
from broker.flows.unfreeze_provider import UnfreezeProvider
from broker.ports import SecretSource
from tests.support.times import TIMES

FROZEN = """\
    revision: 1
    providers: [{name: corp, preset: generic, issuer: "https://id.example"LISTED}]
    clients: [{name: desk, provider: corp, client_id: a}]
    grants: [{name: person, client: desk, type: refresh_token, scopes: [read]}]
"""


class Clock:
    """Time as a test says it."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds

    def boottime(self) -> float:
        return self.seconds


class Metadata:
    """The port Discovery over a mapping of issuers to their metadata; counts how often it is asked."""

    def __init__(self) -> None:
        self.published: dict[str, Mapping[str, object]] = {}
        self.asked = 0
        self.hold: asyncio.Event | None = None

    async def discover(self, issuer: str, *, insecure_loopback: bool) -> Mapping[str, object]:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if issuer not in self.published:
            raise ProviderUnavailableError("the provider does not answer", metadata={"failure": "connect"})
        return self.published[issuer]


class Offered:
    """The port AuditSink as far as reading stories use it."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> int:
        self.events.append(event)
        return 0

    def offer(self, event: AuditEvent) -> bool:
        self.events.append(event)
        return True


@dataclass(slots=True)
class Source:
    """A place of a secret that counts how often it is read."""

    secret: Secret
    read_times: int = 0

    def read(self) -> Secret:
        self.read_times += 1
        return self.secret


@dataclass(slots=True)
class AdminKit:
    """The flows and what they stand on."""

    keyring: Keyring
    clock: Clock = field(default_factory=Clock)
    discovery: Metadata = field(default_factory=Metadata)
    audit: Offered = field(default_factory=Offered)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    ids: Iterator[int] = field(default_factory=lambda: count(1))
    store: MemoryStore = field(default_factory=lambda: MemoryStore(TIMES, lambda: 0))
    first_secrets: FirstSecrets = field(init=False)
    apply_config: ApplyConfig = field(init=False)
    edit: EditObject = field(init=False)
    api_keys: ApiKeys = field(init=False)
    unfreeze: UnfreezeProvider = field(init=False)

    def __post_init__(self) -> None:
        self.first_secrets = FirstSecrets(secrets=self.store, cipher=self.keyring, clock=self.clock)
        resolve = ResolveProviders(presets=presets, discovery=self.discovery)
        check = CheckConfig(resolve=resolve, keys=self.store, clock=self.clock, trusts_spiffe=True)
        self.apply_config = ApplyConfig(
            catalogs=self.store,
            grants=self.store,
            clock=self.clock,
            check=check,
            resolve=resolve,
            first_secrets=self.first_secrets,
            changing=self.changing,
            new_id=self.new_id,
        )
        self.edit = EditObject(
            catalogs=self.store,
            grants=self.store,
            clock=self.clock,
            check=check,
            resolve=resolve,
            changing=self.changing,
            new_id=self.new_id,
        )
        self.unfreeze = UnfreezeProvider(
            catalogs=self.store, grants=self.store, secrets=self.store, clock=self.clock, changing=self.changing
        )
        self.api_keys = ApiKeys(
            keys=self.store,
            catalogs=self.store,
            macs=self.keyring,
            audit=self.audit,
            clock=self.clock,
            changing=self.changing,
            trusts_spiffe=True,
            random_bytes=lambda length: next(self.ids).to_bytes(length, "big"),
        )

    def new_id(self) -> str:
        return f"id-{next(self.ids)}"

    async def apply(
        self, text: str, secrets: Mapping[str, Secret | SecretSource] | None = None, *, dry_run: bool = False
    ) -> Applied:
        """Apply a file."""
        return await self.apply_config(config(text), secrets or {}, trail(), dry_run=dry_run)

    async def refused(self, text: str) -> Mapping[str, str]:
        """Apply a file that is refused; return the wrong fields."""
        with pytest.raises(InvalidRequestError) as caught:
            await self.apply(text)
        return caught.value.fields

    async def put(self, text: str, *, detach: bool = False) -> Put:
        """Put the one object of a file by RPC."""
        return await self.edit.put(config(text), trail(), detach=detach)

    async def remove(self, kind: Kind, name: str, *, detach: bool = False) -> int:
        """Remove an object by RPC."""
        return await self.edit.remove(kind, name, trail(), detach=detach)

    async def catalog(self) -> Catalog:
        """Return what is stored."""
        return await self.store.load_catalog()

    async def grant(self, name: str) -> Grant:
        """Return a grant that is there."""
        found = await self.store.find_grant(name)
        assert found is not None
        return found

    async def consent(self, name: str) -> None:
        """Give a grant a refresh token without a flow."""
        grant = await self.grant(name)
        await self.store.keep_and_consent(
            grant.id,
            lease.Consented(f"fp-{name}"),
            grant.state.consent,
            Sealed("k", b"x"),
            "subject",
            trail().event(Action.GRANT_IMPORT, self.clock.now()),
            expected_attempt=grant.state.attempt,
        )

    async def revoke(self, name: str) -> None:
        """Revoke a grant without a flow, as if its provider had been told of its token."""
        grant = await self.grant(name)
        event = trail().event(Action.CONFIG_PUT, self.clock.now())
        await self.store.hold(grant.id, lease.Revoke(), event)
        await self.store.apply(grant.id, lease.TokenRevoked(f"fp-{name}"))
        assert await self.store.apply(grant.id, lease.Revoked()) is not None

    async def freeze(self, *, endpoint: str = "https://new.example/token", listed: bool = True) -> Applied:
        """Apply a discovered provider with a client and a grant, then again once discovery names another endpoint."""
        origins = f", endpoint_origins: ['{origin_of(endpoint)}']" if listed else ""
        text = dedent(FROZEN).replace("LISTED", origins)
        self.discovery.published["https://id.example"] = {"token_endpoint": "https://id.example/token"}
        await self.apply(text, {"desk": Secret("canary-secret")})
        await self.consent("person")
        self.discovery.published["https://id.example"] = {"token_endpoint": endpoint}
        return await self.apply(text.replace("revision: 1", "revision: 2"))

    async def events(self) -> Sequence[AuditEvent]:
        """Return the events stored with changes so far."""
        return [pending.event for pending in await self.store.undelivered(1000)]

    async def actions(self) -> Sequence[Action]:
        """Return what those events tell of."""
        return [event.action for event in await self.events()]

    async def add_key(self, name: str, *, bootstrap_until: int | None = None) -> ApiKey:
        """Store an API key without a flow."""
        key_id, secret = build_api_key(next(self.ids).to_bytes(8, "big"), bytes(32))
        mac_key_id, mac = self.keyring.mac(maced_api_key(secret, name, bootstrap_until))
        key = ApiKey(key_id, name, mac, mac_key_id, bootstrap_until=bootstrap_until)
        await self.store.add_api_key(key, trail().event(Action.KEY_CREATE, self.clock.now()))
        return key


def config(text: str) -> ConfigFile:
    """Return the configuration of a file."""
    return parse_config(dedent(text)).config


def trail() -> Trail:
    """Return an operator's trail."""
    return Trail(method="/test", peer="ipv4:127.0.0.1:1", request_id="r-1", actor="key:ops")


def names(catalog: Catalog, origin: Origin) -> set[str]:
    """Return the names of one origin's objects, whatever their kind."""
    return {value.name for value in catalog_objects(catalog) if value.origin is origin}
