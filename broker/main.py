"""The composition root: the only place that names concrete classes."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Final

import structlog
import uvloop
from sqlalchemy import Engine

from broker.adapters import presets
from broker.adapters.audit.log import TableAuditLog
from broker.adapters.audit.postgres import PostgresAuditTable, postgres_audit_engine
from broker.adapters.audit.sink import TableAuditSink
from broker.adapters.audit.sqlite import SqliteAuditTable, sqlite_audit_engine
from broker.adapters.client_assertion import ClientAssertionSigner
from broker.adapters.clock import SystemClock
from broker.adapters.config_file import read_config
from broker.adapters.discovery import HttpDiscovery
from broker.adapters.http_exchange import HttpExchange
from broker.adapters.jwks import Jwks
from broker.adapters.keys.files import make_bootstrap_key_file, read_bootstrap_key_file
from broker.adapters.keys.kek import open_kek, open_or_make_local_kek
from broker.adapters.keys.keyring import Keyring, open_keyring
from broker.adapters.logs import configure_logs
from broker.adapters.memory.buckets import MemoryBuckets
from broker.adapters.metrics import CONTENT_TYPE, Metrics
from broker.adapters.process import forbid_core_dumps
from broker.adapters.provider_http import ProviderHttp
from broker.adapters.secret_sources import sources_on_server
from broker.adapters.sql.database import SqlStore, open_database
from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.migrate import migrate as migrate_database
from broker.adapters.tls_files import TlsFiles
from broker.core.audit import Action
from broker.core.errors import AuditUnavailableError, StoreUnavailableError
from broker.core.lease import RedeemTimes
from broker.core.listening import AdminOn
from broker.core.models import GrantType
from broker.flows.add_secret import AddFirstSecret
from broker.flows.api_keys import ApiKeys
from broker.flows.apply_config import ApplyConfig
from broker.flows.bootstrap import Bootstrap, BootstrapKey
from broker.flows.catalog_view import CatalogView
from broker.flows.check_config import CheckConfig
from broker.flows.edit_object import EditObject
from broker.flows.explain_policy import ExplainPolicy
from broker.flows.first_secrets import FirstSecrets
from broker.flows.get_token import GetToken
from broker.flows.import_grant import ImportGrant
from broker.flows.list_events import ListEvents
from broker.flows.lookout import Lookout
from broker.flows.obtain import Obtain
from broker.flows.prove_narrowing import ProveNarrowing
from broker.flows.provider_call import ProviderCall
from broker.flows.read_config import ReadConfig
from broker.flows.receive import Receive
from broker.flows.record_denial import RecordDenial
from broker.flows.redeem_client_credentials import RedeemClientCredentials
from broker.flows.redeem_now import RedeemNow
from broker.flows.redeem_refresh_token import RedeemRefreshToken
from broker.flows.relay_outbox import RelayOutbox
from broker.flows.resolve_providers import ResolveProviders
from broker.flows.token_cache import TokenCache
from broker.flows.trail import Trail
from broker.rpc.authenticate import Authenticate
from broker.rpc.edge import Edge
from broker.rpc.listeners import ListenerConfig
from broker.rpc.methods import (
    AUDIT_SERVICE,
    CONFIG_SERVICE,
    GRANTS_SERVICE,
    KEYS_SERVICE,
    SECRETS_SERVICE,
    TOKEN_SERVICE,
)
from broker.rpc.server import BrokerServer
from broker.rpc.servicers.audit import AuditServicer
from broker.rpc.servicers.config import ConfigServicer
from broker.rpc.servicers.grants import GrantsServicer
from broker.rpc.servicers.keys import KeysServicer
from broker.rpc.servicers.secrets import SecretsServicer
from broker.rpc.servicers.token import TokenServicer
from broker.settings import Settings
from broker.web.app import build_app
from broker.web.server import WebServer

TIMES: Final = RedeemTimes(
    lease=15_000,
    extend_every=5_000,
    refresh_reply=60_000,
    client_credentials_reply=20_000,
    replay_margin=2_000,
    write_within=1_000,
)
"""The durations of the redeem, in milliseconds; no setting changes them."""

GRACE: Final = 20.0
"""Seconds that calls running, and then redeems running, have to end after SIGTERM."""

RELAY_SECONDS: Final = 1.0
"""How often the outbox is looked at."""

log = structlog.get_logger("broker")


@dataclass(frozen=True, slots=True)
class Foundation:
    """What everything else stands on: the store, the keys, the audit, what is known of the configuration."""

    store: SqlStore
    keyring: Keyring
    audit: TableAuditSink
    audit_log: TableAuditLog
    view: CatalogView
    metrics: Metrics
    clock: SystemClock
    buckets: MemoryBuckets
    exchange: HttpExchange
    owner: str


@asynccontextmanager
async def foundation(settings: Settings) -> AsyncIterator[Foundation]:
    """Open store, keys and audit in this order and close them in the other, the store last.

    Raises:
        StoreRefusedError, KeyringError, AuditTableError: a clear reason not to start.
        StoreUnavailableError: the database is away.
    """
    async with AsyncExitStack() as stack:
        database = await open_database(_database_url(settings), settings.data_dir)
        stack.push_async_callback(database.aclose)
        keks = [
            await open_or_make_local_kek(uri, database)
            if settings.makes_own_keys and not settings.kek
            else open_kek(uri)
            for uri in settings.keks
        ]
        keyring = await open_keyring(database, keks)
        store = database.store(keyring, TIMES)
        engine, table = _audit_table(settings, store)
        audit = TableAuditSink(table)
        stack.push_async_callback(audit.aclose)
        view = CatalogView(store, store)
        await view.load()
        clock = SystemClock()
        yield Foundation(
            store=store,
            keyring=keyring,
            audit=audit,
            audit_log=TableAuditLog(engine),
            view=view,
            metrics=Metrics(store.grant_counts),
            clock=clock,
            buckets=MemoryBuckets(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000),
            exchange=HttpExchange(),
            owner=f"{os.uname().nodename[:32]}-{secrets.token_hex(4)}",
        )


def _database_url(settings: Settings) -> str | None:
    """Return the URL of PostgreSQL, None for SQLite in the data folder."""
    return settings.database_url.reveal() if settings.is_postgres and settings.database_url is not None else None


def _audit_table(settings: Settings, store: SqlStore) -> tuple[Engine, SqliteAuditTable | PostgresAuditTable]:
    url = _database_url(settings)
    if url is not None:
        engine = postgres_audit_engine(url)
        return engine, PostgresAuditTable(engine)
    engine = sqlite_audit_engine(settings.data_dir / "audit.db")
    return engine, SqliteAuditTable(engine, store.version)


@dataclass(frozen=True, slots=True)
class TokenFlows:
    """The flows that hand out tokens, and the one that must be waited for at the end."""

    get_token: GetToken
    obtain: Obtain
    redeem_now: RedeemNow
    prove_narrowing: ProveNarrowing


def token_flows(base: Foundation, *, refuse_sandbox: bool) -> TokenFlows:
    """Wire GetToken and what it stands on."""
    random = SystemRandom()
    receive = Receive(base.keyring, base.clock)
    cache = TokenCache()
    call = ProviderCall(
        secrets=base.store,
        cipher=base.keyring,
        endpoint=ProviderHttp(base.exchange),
        signer=ClientAssertionSigner(),
        buckets=base.buckets,
        clock=base.clock,
        telemetry=base.metrics,
        limits=lambda: base.view.catalog.limits,
        refuse_sandbox=refuse_sandbox,
    )
    redeem_refresh_token = RedeemRefreshToken(
        grants=base.store,
        call=call,
        receive=receive,
        cipher=base.keyring,
        audit=base.audit,
        clock=base.clock,
        times=TIMES,
        owner=base.owner,
    )
    redeem_client_credentials = RedeemClientCredentials(
        grants=base.store, call=call, receive=receive, clock=base.clock, times=TIMES, owner=base.owner
    )
    obtain = Obtain(
        grants=base.store,
        cache=cache,
        receive=receive,
        lookout=Lookout(base.store, base.clock, random),
        redeem={
            GrantType.REFRESH_TOKEN: redeem_refresh_token,
            GrantType.CLIENT_CREDENTIALS: redeem_client_credentials,
        },
        clock=base.clock,
    )
    get_token = GetToken(
        view=base.view,
        grants=base.store,
        cache=cache,
        obtain=obtain,
        buckets=base.buckets,
        audit=base.audit,
        clock=base.clock,
        telemetry=base.metrics,
        random=random,
    )
    return TokenFlows(
        get_token=get_token,
        obtain=obtain,
        redeem_now=RedeemNow(view=base.view, catalog_store=base.store, grants=base.store, obtain=obtain),
        prove_narrowing=ProveNarrowing(view=base.view, grants=base.store, redeem=redeem_refresh_token),
    )


@dataclass(frozen=True, slots=True)
class AdminFlows:
    """The flows of operators, the first admin's among them, and their servicers by full service name."""

    bootstrap: Bootstrap
    apply_config: ApplyConfig
    servicers: Mapping[str, object]


def admin_flows(base: Foundation, settings: Settings, tokens: TokenFlows) -> AdminFlows:
    """Wire what operators do; changes of the configuration come one after the other."""
    store, keyring, audit, clock = base.store, base.keyring, base.audit, base.clock
    changing = asyncio.Lock()
    trusts_spiffe = settings.trust_domain is not None
    first_secrets = FirstSecrets(secrets=store, cipher=keyring, clock=clock)
    resolve = ResolveProviders(presets=presets, discovery=HttpDiscovery(base.exchange))
    check = CheckConfig(resolve=resolve, keys=store, clock=clock, trusts_spiffe=trusts_spiffe)
    apply_config = ApplyConfig(
        catalogs=store,
        grants=store,
        clock=clock,
        check=check,
        resolve=resolve,
        first_secrets=first_secrets,
        changing=changing,
        new_id=_new_id,
    )
    edit_object = EditObject(
        catalogs=store, grants=store, clock=clock, check=check, resolve=resolve, changing=changing, new_id=_new_id
    )
    bootstrap = Bootstrap(
        catalogs=store,
        keys=store,
        macs=keyring,
        clock=clock,
        first_key=_first_key(settings),
        trusts_spiffe=trusts_spiffe,
        new_id=_new_id,
    )
    api_keys = ApiKeys(
        keys=store,
        catalogs=store,
        macs=keyring,
        audit=audit,
        clock=clock,
        changing=changing,
        trusts_spiffe=trusts_spiffe,
        random_bytes=secrets.token_bytes,
    )
    import_grant = ImportGrant(catalogs=store, grants=store, cipher=keyring, clock=clock, redeem_now=tokens.redeem_now)
    read_config = ReadConfig(catalogs=store, grants=store, audit=audit, clock=clock)
    servicers = {
        CONFIG_SERVICE: ConfigServicer(
            apply_config=apply_config,
            edit_object=edit_object,
            read_config=read_config,
            explain_policy=ExplainPolicy(catalogs=store, grants=store, audit=audit, clock=clock),
            prove_narrowing=tokens.prove_narrowing,
        ),
        SECRETS_SERVICE: SecretsServicer(AddFirstSecret(catalogs=store, first_secrets=first_secrets)),
        GRANTS_SERVICE: GrantsServicer(read_config=read_config, import_grant=import_grant),
        KEYS_SERVICE: KeysServicer(api_keys),
        AUDIT_SERVICE: AuditServicer(ListEvents(log=base.audit_log, audit=audit, clock=clock)),
    }
    return AdminFlows(bootstrap, apply_config, servicers)


def _new_id() -> str:
    return secrets.token_hex(16)


def _first_key(settings: Settings) -> Callable[[], BootstrapKey] | None:
    """Return how the first admin's key is had: from its file, or made in the data folder where that may be."""
    named = settings.bootstrap_admin_key_file
    if named is None and not settings.makes_own_keys:
        return None
    path = named or settings.data_dir / "admin.key"

    def read() -> BootstrapKey:
        if named is None and not path.exists():
            make_bootstrap_key_file(path)
        return BootstrapKey(read_bootstrap_key_file(path), str(path))

    return read


async def _apply_at_start(admin: AdminFlows, settings: Settings, config: Path, trail: Trail) -> None:
    """Apply a file; its secrets are read here, on the server, only below BROKER_SECRETS_DIR or from BROKER_SECRET_."""
    parsed = read_config(config)
    applied = await admin.apply_config(parsed.config, sources_on_server(parsed.secrets, settings.secrets_dir), trail)
    for warning in applied.warnings:
        log.warning("configuration", warning=warning)


# --- serving ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Life:
    """Where the process stands: what probes, health and the end of it look at."""

    stop: asyncio.Event
    started: bool = False
    draining: bool = False
    failed: bool = False

    def not_ready(self) -> str:
        """Return why calls should go elsewhere, or nothing."""
        if self.draining:
            return "draining"
        return "" if self.started else "starting"

    def end_with(self, task: asyncio.Task[None]) -> None:
        """End the broker when one of its own tasks ended by itself: that is a bug, and half a broker is none."""
        if not task.cancelled():
            log.error("background_task_ended", task=task.get_name(), exc_info=task.exception())
            self.failed = True
            self.stop.set()


def serve(settings: Settings, config: Path | None) -> None:
    """Run the broker until SIGTERM or SIGINT.

    Args:
        settings: checked.
        config: a configuration file to apply at the start.

    Raises:
        SystemExit: with 1, when a part of the broker failed while it ran.
        Exception: a clear reason not to start.
    """
    configure_logs(settings.log_level)
    forbid_core_dumps()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failed = runner.run(_serve(settings, config))
    if failed:
        raise SystemExit(1)


async def _serve(settings: Settings, config: Path | None) -> bool:
    life = Life(asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.stop.set)
    async with foundation(settings) as base:
        trail = Trail(method="start", peer="", request_id=f"{base.owner}/start", actor=f"broker:{base.owner}")
        tokens = token_flows(base, refuse_sandbox=not settings.on_loopback)
        admin = admin_flows(base, settings, tokens)
        await admin.bootstrap(trail)
        if config is not None:
            await _apply_at_start(admin, settings, config, trail)
        await base.view.catch_up(base.store.version())
        await base.audit.record(trail.event(Action.BROKER_START, base.clock.now()))
        relay = RelayOutbox(base.store, base.audit)
        await relay(recovered=True)
        async with AsyncExitStack() as stack:
            await _listen(stack, settings, base, tokens, admin, life)
            _in_background(stack, life, base.view.poll(), "follow-configuration")
            _in_background(stack, life, _relay_for_ever(relay), "relay-outbox")
            life.started = True
            await life.stop.wait()
            life.draining = True
            log.info("stopping")
        await tokens.obtain.aclose(GRACE)
        await relay()
        await base.audit.record(trail.event(Action.BROKER_STOP, base.clock.now()))
    log.info("stopped")
    return life.failed


async def _listen(  # noqa: PLR0913 - everything that is served
    stack: AsyncExitStack, settings: Settings, base: Foundation, tokens: TokenFlows, admin: AdminFlows, life: Life
) -> None:
    """Bind everything; leaving the stack stops taking calls and lets running ones end."""
    tls = _tls(settings, base)
    if tls is not None:
        _in_background(stack, life, tls.watch(), "watch-tls-files")
    denials = RecordDenial(base.audit, base.clock, base.metrics)
    stack.push_async_callback(denials.close)
    _in_background(stack, life, denials.sweep(), "sweep-denials")
    edge = Edge(
        authenticate=Authenticate(
            catalog=lambda: base.view.catalog,
            version=base.store.version,
            keys=base.store,
            macs=base.keyring,
            signatures=Jwks(base.clock),
            clock=base.clock,
            tls=tls,
            trust_domain=settings.trust_domain,
        ),
        catalog=lambda: base.view.catalog,
        buckets=base.buckets,
        record_denial=denials,
        telemetry=base.metrics,
        clock=base.clock,
        jitter=SystemRandom().random,
        follow=lambda: base.view.catch_up(base.store.version()),
    )
    server = BrokerServer(
        edge,
        {TOKEN_SERVICE: TokenServicer(tokens.get_token), **admin.servicers},
        _listeners(settings, tls),
        is_serving=lambda _: life.started and not life.draining,
        reflection=settings.reflection,
    )
    web = WebServer(
        build_app(not_ready=life.not_ready, metrics=base.metrics.render, metrics_type=CONTENT_TYPE),
        settings.http_listen,
    )
    http_port = await web.start()
    stack.push_async_callback(web.stop)
    ports = await server.start()
    stack.push_async_callback(server.stop, GRACE)
    names = ["listen", "mtls_listen"] if settings.mtls_listen else ["listen"]
    addresses = {name: _with_port(getattr(settings, name), port) for name, port in zip(names, ports, strict=True)}
    log.info("serving", **addresses, http_listen=_with_port(settings.http_listen, http_port), version=base.view.version)


def _tls(settings: Settings, base: Foundation) -> TlsFiles | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return TlsFiles(
        settings.tls_cert, settings.tls_key, settings.tls_client_ca, clock=base.clock, telemetry=base.metrics
    )


def _listeners(settings: Settings, tls: TlsFiles | None) -> list[ListenerConfig]:
    admin_on = settings.serves_admin_on
    listeners = [ListenerConfig(settings.listen, tls, admin=admin_on is not AdminOn.MTLS)]
    if settings.mtls_listen is not None:
        listeners.append(
            ListenerConfig(settings.mtls_listen, tls, client_certificates=True, admin=admin_on is not AdminOn.LISTEN)
        )
    return listeners


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def _in_background(stack: AsyncExitStack, life: Life, work: Coroutine[object, object, None], name: str) -> None:
    """Run `work` until the stack ends; if it ends before, so does the broker."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(life.end_with)

    async def end() -> None:
        task.remove_done_callback(life.end_with)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


async def _relay_for_ever(relay: RelayOutbox) -> None:
    """Copy what changes leave in the outbox; a store or audit that is away is tried again."""
    while True:
        await asyncio.sleep(RELAY_SECONDS)
        with suppress(StoreUnavailableError, AuditUnavailableError):
            await relay()


def migrate(settings: Settings) -> None:
    """Bring the database to this version's tables."""
    configure_logs(settings.log_level)
    asyncio.run(_migrate(settings))


async def _migrate(settings: Settings) -> None:
    url = _database_url(settings)
    if url is None:
        raise StoreRefusedError("SQLite is brought up to date when the broker starts: there is nothing to migrate")
    await migrate_database(url)
