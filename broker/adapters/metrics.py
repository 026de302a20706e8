"""Metrics in the Prometheus format, in a registry of our own; no caller's or grant's name is ever a label."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from broker.core.errors import StoreUnavailableError
from broker.core.models import Provider

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets from a cached token's half millisecond to a provider's minute."""

COUNT_SECONDS: Final = 1.0
"""How long a scrape waits for the store's counters."""

log = structlog.get_logger("broker.metrics")


class Metrics:
    """`Telemetry`, `RedeemTelemetry` and `LimitTelemetry`, and the page that shows them."""

    def __init__(
        self,
        grant_counts: Callable[[], Awaitable[Mapping[str, int]]],
        providers: Callable[[], Iterable[Provider]],
        count_seconds: float = COUNT_SECONDS,
    ) -> None:
        """Make the registry.

        Args:
            grant_counts: returns the number of grants by state, from counters of the store.
            providers: returns those there are, as this process knows them.
            count_seconds: how long a scrape waits for the counters.
        """
        self._count_seconds = count_seconds
        self._grant_counts = grant_counts
        self._providers = providers
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "aries_broker_requests",
            "RPCs by full method, status code and reason.",
            ["method", "code", "reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "aries_broker_request_seconds",
            "Seconds from an RPC's arrival to its end.",
            ["method"],
            buckets=SECONDS,
            registry=registry,
        )
        self._ended: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}  # finding them costs more than counting
        self._tokens = Counter(
            "aries_broker_tokens_issued", "Tokens handed out, by where they came from.", ["source"], registry=registry
        )
        self._redeems = Counter(
            "aries_broker_redeems",
            "Redeem attempts by provider and outcome.",
            ["provider", "outcome"],
            registry=registry,
        )
        self._suspects = Counter(
            "aries_broker_suspects", "Grants held because the store was rolled back.", registry=registry
        )
        self._evidence_failures = Counter(
            "aries_broker_evidence_failures",
            "Notes of how far the store had come that were not taken.",
            registry=registry,
        )
        self._revocations = Counter(
            "aries_broker_revocations",
            "Tokens a provider was told are not to be used any more, by how that went.",
            ["provider", "told"],
            registry=registry,
        )
        self._journal = Gauge(
            "aries_broker_journal_entries",
            "Received refresh tokens that this process's journal holds, since only it has them.",
            registry=registry,
        )
        self._journal_failures = Counter(
            "aries_broker_journal_failures", "Entries the journal's disk did not take.", registry=registry
        )
        self._client_refused = Gauge(
            "aries_broker_client_refused",
            "1 while a provider refuses a client's credentials.",
            ["provider", "client"],
            registry=registry,
        )
        self._dropped = Counter(
            "aries_broker_denials_dropped", "Denials whose audit event was not stored.", registry=registry
        )
        self._grants = Gauge("aries_broker_grants", "Grants by state.", ["state"], registry=registry)
        self._frozen = Gauge(
            "aries_broker_provider_frozen",
            "1 while a provider is frozen, since discovery moved its endpoints.",
            ["provider"],
            registry=registry,
        )
        self._store_up = Gauge(
            "aries_broker_store_up", "1 when the store answered this scrape, else 0.", registry=registry
        )
        self._lanes_cut_off = Gauge(
            "aries_broker_limit_lanes_cut_off",
            "Lanes of the shared limits that keep to this replica's share, since the store does not answer them.",
            registry=registry,
        )
        self._by_share = Counter(
            "aries_broker_limit_share_decisions",
            "Requests whose limits were decided by this replica's share alone.",
            registry=registry,
        )
        self._certificate = Gauge(
            "aries_broker_tls_certificate_not_after_seconds",
            "End of the server certificate served now.",
            ["serial"],
            registry=registry,
        )
        self._refused = Counter(
            "aries_broker_tls_files_refused", "Changed TLS files that were not taken.", registry=registry
        )

    def request_finished(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Count and time one RPC."""
        ended = self._ended.get((method, code, reason))
        if ended is None:
            ended = self._requests.labels(method, code, reason), self._seconds.labels(method)
            self._ended[method, code, reason] = ended
        count, duration = ended
        count.inc()
        duration.observe(seconds)

    def token_issued(self, source: str) -> None:
        """Count one token handed out."""
        self._tokens.labels(source).inc()

    def redeem_finished(self, provider: str, client: str, outcome: str, cause: str) -> None:
        """Count one redeem attempt; one that failed is logged, since operators have to act on some."""
        self._redeems.labels(provider, outcome).inc()
        if cause:
            log.warning("redeem_failed", provider=provider, client=client, outcome=outcome, cause=cause)

    def store_refused(self, grant_id: str, step: str, cause: str) -> None:
        """Log a step that the store refused for good."""
        log.error("store_refused", grant_id=grant_id, step=step, cause=cause)

    def journal_holds(self, entries: int) -> None:
        """Show how many received tokens only the journal holds."""
        self._journal.set(entries)

    def journal_failed(self, grant_id: str) -> None:
        """Count and log an entry that the disk did not take."""
        self._journal_failures.inc()
        log.error("journal_failed", grant_id=grant_id)

    def rolled_back(self, grants: int) -> None:
        """Count and log grants held because the store was rolled back."""
        self._suspects.inc(grants)
        log.error(
            "store_rolled_back",
            grants=grants,
            advice="list them with `aries-broker admin grants suspects`, and release each once it is clear",
        )

    def evidence_failed(self) -> None:
        """Count and log evidence that was not taken."""
        self._evidence_failures.inc()
        log.error("evidence_failed")

    def revocation_finished(self, provider: str, client: str, told: str) -> None:
        """Count one token a provider was told of; one that has to be told again is logged."""
        self._revocations.labels(provider, told).inc()
        if told not in {"revoked", "unsupported"}:
            log.warning("revocation_failed", provider=provider, client=client, told=told)

    def client_refused(self, provider: str, client: str, *, refused: bool) -> None:
        """Show, and log when it begins, that a provider refuses a client's credentials."""
        self._client_refused.labels(provider, client).set(refused)
        if refused:
            log.error("client_refused", provider=provider, client=client)

    def limits_cut_off(self, cause: str) -> None:
        """Show and log that a lane of the shared limits keeps to this replica's share."""
        self._lanes_cut_off.inc()
        log.warning("limits_cut_off", cause=cause)

    def limits_shared_again(self) -> None:
        """Show and log that such a lane is back."""
        self._lanes_cut_off.dec()
        log.info("limits_shared_again")

    def limit_decided_by_share(self) -> None:
        """Count one request decided by this replica's share alone."""
        self._by_share.inc()

    def denials_dropped(self, count: int) -> None:
        """Count denials whose event was not stored."""
        self._dropped.inc(count)

    def certificate_served(self, serial: str, not_after: float) -> None:
        """Show the server certificate served now, and only that one."""
        self._certificate.clear()
        self._certificate.labels(serial).set(not_after)

    def certificate_refused(self) -> None:
        """Count one set of TLS files that was not taken."""
        self._refused.inc()

    async def render(self) -> bytes:
        """Return the page; a store that is away leaves its numbers out and shows as `aries_broker_store_up 0`."""
        self._frozen.clear()
        for provider in self._providers():
            self._frozen.labels(provider.name).set(provider.frozen)
        self._grants.clear()
        try:
            async with asyncio.timeout(self._count_seconds):
                counts = await self._grant_counts()
        except (StoreUnavailableError, TimeoutError):
            log.warning("grant_counts_unavailable")
            self._store_up.set(0)
        else:
            self._store_up.set(1)
            for state, count in counts.items():
                self._grants.labels(state).set(count)
        return generate_latest(self._registry)
