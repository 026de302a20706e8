"""Serving: from the first key to the last commit."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Final

import structlog
import uvloop

from broker.adapters.config_file import ConfigFileError, read_config
from broker.adapters.evidence_file import NoEvidence
from broker.adapters.jwks import Jwks
from broker.adapters.logs import configure_logs
from broker.adapters.metrics import CONTENT_TYPE
from broker.adapters.process import forbid_core_dumps, raise_open_files
from broker.adapters.secret_sources import sources_on_server, unread_on_server
from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.limit_sweep import sweep_for_ever
from broker.adapters.sql.migrate import migrate as migrate_database
from broker.adapters.tls_files import TlsFiles
from broker.core.audit import Action
from broker.core.errors import AuditUnavailableError, InvalidRequestError, RevisionStaleError, StoreUnavailableError
from broker.core.identity import Role
from broker.core.listening import AdminOn, is_loopback
from broker.flows.api_keys import RESERVED
from broker.flows.catalog_view import CatalogView
from broker.flows.exchange_code import REPLY_DEADLINE
from broker.flows.record_denial import RecordDenial
from broker.flows.relay_outbox import RelayOutbox
from broker.flows.trail import Trail
from broker.main.admin_flows import AdminFlows, admin_flows
from broker.main.foundation import SEAMS, TIMES, Foundation, Seams, database_url, foundation
from broker.main.login_flows import LoginFlows, login_flows
from broker.main.token_flows import TokenFlows, token_flows
from broker.rpc.authenticate import Authenticate
from broker.rpc.edge import Edge
from broker.rpc.listeners import ListenerConfig
from broker.rpc.methods import AUTHORIZATION_SERVICE, TOKEN_SERVICE
from broker.rpc.server import BrokerServer
from broker.rpc.servicers.token import TokenServicer
from broker.settings import Settings
from broker.web.app import build_app
from broker.web.server import WebServer

GRACE: Final = 20.0
"""Seconds that calls running have to end after SIGTERM."""

REDEEM_GRACE: Final = TIMES.refresh_reply / 1000 + 10
"""Seconds that redeems running have to end after that: a token that was sent is waited for as long as its reply may
take, and stored."""

PAGES_PATIENCE: Final = REPLY_DEADLINE + 10
"""Seconds a browser has for a request and its answer: the callback's takes as long as the provider's may."""

RELAY_SECONDS: Final = 1.0
"""How often the outbox is looked at."""

NO_SECOND_PLACE: Final = (
    "a restored backup cannot be told from the database it replaces, and refresh tokens spent since would be sent once "
    "more: name a folder on another disk in BROKER_EVIDENCE_DIR"
)

log = structlog.get_logger("broker")


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

    def serves(self, service: str, view: CatalogView) -> bool:
        """Tell whether a gRPC service can serve now; the broker as a whole ("") does not depend on the store."""
        return self.started and not self.draining and (service == "" or view.reachable)

    def end_with(self, task: asyncio.Task[None]) -> None:
        """End the broker when one of its own tasks ended by itself: that is a bug, and half a broker is none."""
        if not task.cancelled():
            log.error("background_task_ended", task=task.get_name(), exc_info=task.exception())
            self.failed = True
            self.stop.set()


def serve(settings: Settings, config: Path | None, seams: Seams = SEAMS) -> None:
    """Run the broker until SIGTERM or SIGINT.

    Args:
        settings: checked.
        config: a configuration file to apply at the start.
        seams: for tests.

    Raises:
        SystemExit: with 1, when a part of the broker failed while it ran.
        Exception: a clear reason not to start.
    """
    configure_logs(settings.log_level)
    forbid_core_dumps()
    raise_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failed = runner.run(_serve(settings, config, seams))
    if failed:
        raise SystemExit(1)


async def _serve(settings: Settings, config: Path | None, seams: Seams) -> bool:
    life = Life(asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.stop.set)
    async with foundation(settings, seams) as base:
        if isinstance(base.evidence, NoEvidence):
            log.warning("no_evidence", advice=NO_SECOND_PLACE)
        trail = Trail(method="start", peer="", request_id=f"{base.owner}/start", actor=f"broker:{base.owner}")
        tokens = token_flows(base, refuse_sandbox=not settings.on_loopback)
        admin = admin_flows(base, settings, tokens)
        logins = login_flows(base, tokens, settings.public_url, lambda: life.draining)
        await base.heart.beat()
        await tokens.drain_journal()
        await tokens.rollback.compare()
        await admin.bootstrap(trail)
        if config is not None:
            await _apply_at_start(admin, settings, config, trail)
        await base.view.catch_up(base.store.version())
        await base.audit.record(trail.event(Action.BROKER_START, base.clock.now(), detail=_told_twice(settings)))
        relay = RelayOutbox(base.store, base.audit)
        await relay(recovered=True)
        async with AsyncExitStack() as to_the_end:
            _in_background(to_the_end, life, base.heart.beat_for_ever(), "heartbeat")
            async with AsyncExitStack() as stack:
                await _listen(stack, settings, base, tokens, admin, logins, life, trail)
                _in_background(stack, life, base.view.poll(), "follow-configuration")
                _in_background(stack, life, tokens.drain_journal.for_ever(), "drain-journal")
                _in_background(stack, life, _relay_for_ever(relay), "relay-outbox")
                _in_background(stack, life, tokens.tend_grants.for_ever(), "tend-grants")
                _in_background(stack, life, tokens.renew.for_ever(), "renew")
                _in_background(stack, life, logins.tend.for_ever(), "tend-logins")
                _in_background(stack, life, tokens.rollback.for_ever(), "watch-for-rollback")
                if settings.is_postgres:
                    _in_background(stack, life, sweep_for_ever(base.store.lanes), "sweep-limits")
                life.started = True
                await life.stop.wait()
                life.draining = True
                log.info("stopping")
            await asyncio.gather(
                tokens.aclose(REDEEM_GRACE),
                admin.import_grant.aclose(REDEEM_GRACE),
                logins.exchange.aclose(REDEEM_GRACE),
            )
            await tokens.rollback.look()
        if base.journal.held:
            log.error("journal_not_empty")  # and the next start on this volume goes on with it
            life.failed = True
        try:
            await relay()
            await base.audit.record(trail.event(Action.BROKER_STOP, base.clock.now()))
        except (StoreUnavailableError, AuditUnavailableError) as error:
            log.warning("stopping_unrecorded", cause=error.cause)  # the next start copies what the outbox still holds
    log.info("stopped")
    return life.failed


def _told_twice(settings: Settings) -> str:
    """Repeat in the audit log that tokens may be read on the way, where operators said so."""
    exposed = settings.tls_cert is None and not is_loopback(settings.listen)
    return f"plaintext on {settings.listen}" if exposed else ""


async def _listen(  # noqa: PLR0913 - everything that is served
    stack: AsyncExitStack,
    settings: Settings,
    base: Foundation,
    tokens: TokenFlows,
    admin: AdminFlows,
    logins: LoginFlows,
    life: Life,
    trail: Trail,
) -> None:
    """Bind everything; leaving the stack stops taking calls and lets running ones end."""
    tls = _tls(settings, base)
    if tls is not None:
        _in_background(stack, life, tls.watch(), "watch-tls-files")
    denials = RecordDenial(base.audit, base.clock, base.metrics)
    stack.push_async_callback(denials.close)
    _in_background(stack, life, denials.sweep(), "sweep-denials")

    async def follow() -> None:
        await base.view.catch_up(await base.store.read_version())
        if any(binding.role is Role.ADMIN and binding.name != RESERVED for binding in base.view.catalog.roles):
            await admin.bootstrap.retire(trail)
            await base.view.catch_up(base.store.version())

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
        buckets=base.own_buckets,
        limiter=base.limiter,
        record_denial=denials,
        telemetry=base.metrics,
        clock=base.clock,
        jitter=SystemRandom().random,
        follow=follow,
    )
    server = BrokerServer(
        edge,
        {
            TOKEN_SERVICE: TokenServicer(tokens.get_token, tokens.watch_revocations),
            AUTHORIZATION_SERVICE: logins.servicer,
            **admin.servicers,
        },
        _listeners(settings, tls),
        is_serving=lambda service: life.serves(service, base.view),
        reflection=settings.reflection,
    )
    web = WebServer(
        build_app(not_ready=life.not_ready, metrics=base.metrics.render, metrics_type=CONTENT_TYPE),
        settings.http_listen,
    )
    http_port = await web.start()
    stack.push_async_callback(web.stop)
    pages_port = await _serve_pages(stack, settings, logins)
    ports = await server.start()
    stack.push_async_callback(server.stop, GRACE)
    names = ["listen", "mtls_listen"] if settings.mtls_listen else ["listen"]
    addresses = {name: _with_port(getattr(settings, name), port) for name, port in zip(names, ports, strict=True)}
    if settings.public_listen is not None:
        addresses["public_listen"] = _with_port(settings.public_listen, pages_port)
    log.info("serving", **addresses, http_listen=_with_port(settings.http_listen, http_port), version=base.view.version)


async def _serve_pages(stack: AsyncExitStack, settings: Settings, logins: LoginFlows) -> int:
    """Serve the pages of logins, where they are wanted; return the port, 0 where they are not."""
    if settings.public_listen is None or settings.public_url is None:
        return 0
    from broker.web.connect import ConnectPages  # noqa: PLC0415 - templates are loaded where there are pages

    pages = WebServer(
        ConnectPages(logins.connect, settings.public_url).app(), settings.public_listen, patience=PAGES_PATIENCE
    )
    port = await pages.start()
    stack.push_async_callback(pages.stop)
    return port


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


async def _apply_at_start(admin: AdminFlows, settings: Settings, config: Path, trail: Trail) -> None:
    """Apply a file; its secrets are read here, on the server, only below BROKER_SECRETS_DIR or from BROKER_SECRET_."""
    try:
        parsed = read_config(config)
    except ConfigFileError as error:
        raise error.beside(lambda references: unread_on_server(references, settings.secrets_dir)) from None
    sources = sources_on_server(parsed.secrets, settings.secrets_dir)
    try:
        applied = await admin.apply_config(parsed.config, sources, trail)
    except RevisionStaleError as error:  # the store is ahead of this replica's file, or an operator detached something
        log.warning("configuration_not_applied", why=error.public, **error.metadata)
        return
    except InvalidRequestError as error:
        if not error.fields:
            raise
        raise ConfigFileError(parsed.problems(error.fields)) from None  # where in the file, not only what
    for warning in applied.warnings:
        log.warning("configuration", warning=warning)


def migrate(settings: Settings) -> None:
    """Bring the database to this version's tables."""
    configure_logs(settings.log_level)
    asyncio.run(_migrate(settings))


async def _migrate(settings: Settings) -> None:
    url = database_url(settings)
    if url is None:
        raise StoreRefusedError("SQLite is brought up to date when the broker starts: there is nothing to migrate")
    await migrate_database(url)
