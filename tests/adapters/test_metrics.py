"""The metrics page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from broker.adapters.metrics import Metrics
from broker.core.errors import StoreUnavailableError
from tests.core.oauth_values import PROVIDER


async def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = (await metrics.render()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


async def _counts() -> Mapping[str, int]:
    return {"ok": 3, "quarantined": 1}


async def test_what_is_counted_is_shown() -> None:
    """Requests by method, code and reason; tokens by source; redeems by provider and outcome; grants by state."""
    metrics = Metrics(_counts, lambda: (PROVIDER, replace(PROVIDER, name="corp", frozen=True)))
    metrics.request_finished("/s/M", "OK", "", 0.002)
    metrics.request_finished("/s/M", "UNAVAILABLE", "STORE_UNAVAILABLE", 1.0)
    metrics.token_issued("memory")
    metrics.redeem_finished("aries", "desk", "landed", "")
    metrics.journal_holds(2)
    metrics.rolled_back(2)
    metrics.evidence_failed()
    metrics.revocation_finished("aries", "desk", "revoked")
    metrics.journal_failed("id-1")
    metrics.client_refused("aries", "desk", refused=True)
    metrics.denials_dropped(3)
    metrics.limits_cut_off("timeout")
    metrics.limits_cut_off("connection")
    metrics.limits_shared_again()
    metrics.limit_decided_by_share()
    metrics.certificate_served("aa", 1.0)
    metrics.certificate_served("bb", 2.0)
    metrics.certificate_refused()
    assert {
        ("aries_broker_requests_total", (("code", "OK"), ("method", "/s/M"), ("reason", ""))): 1.0,
        (
            "aries_broker_requests_total",
            (("code", "UNAVAILABLE"), ("method", "/s/M"), ("reason", "STORE_UNAVAILABLE")),
        ): 1.0,
        ("aries_broker_request_seconds_count", (("method", "/s/M"),)): 2.0,
        ("aries_broker_request_seconds_sum", (("method", "/s/M"),)): 1.002,
        ("aries_broker_tokens_issued_total", (("source", "memory"),)): 1.0,
        ("aries_broker_redeems_total", (("outcome", "landed"), ("provider", "aries"))): 1.0,
        ("aries_broker_journal_entries", ()): 2.0,
        ("aries_broker_journal_failures_total", ()): 1.0,
        ("aries_broker_suspects_total", ()): 2.0,
        ("aries_broker_evidence_failures_total", ()): 1.0,
        ("aries_broker_revocations_total", (("provider", "aries"), ("told", "revoked"))): 1.0,
        ("aries_broker_client_refused", (("client", "desk"), ("provider", "aries"))): 1.0,
        ("aries_broker_denials_dropped_total", ()): 3.0,
        ("aries_broker_grants", (("state", "ok"),)): 3.0,
        ("aries_broker_grants", (("state", "quarantined"),)): 1.0,
        ("aries_broker_provider_frozen", (("provider", "aries"),)): 0.0,
        ("aries_broker_provider_frozen", (("provider", "corp"),)): 1.0,
        ("aries_broker_store_up", ()): 1.0,
        ("aries_broker_limit_lanes_cut_off", ()): 1.0,
        ("aries_broker_limit_share_decisions_total", ()): 1.0,
        ("aries_broker_tls_certificate_not_after_seconds", (("serial", "bb"),)): 2.0,
        ("aries_broker_tls_files_refused_total", ()): 1.0,
    } == await _samples(metrics)


@pytest.mark.parametrize(
    ("outcome", "cause", "told"),
    [
        ("landed", "", False),
        ("landed", "echo", True),
        ("not_consumed", "invalid_client", True),
        ("unknown", "timeout", True),
    ],
)
def test_a_redeem_that_failed_is_logged(outcome: str, cause: str, told: bool) -> None:
    """Operators read which provider and client it was and why; who asked is no business of the log."""
    with capture_logs() as logged:
        Metrics(_counts, tuple).redeem_finished("aries", "desk", outcome, cause)
    line = {"event": "redeem_failed", "log_level": "warning", "provider": "aries", "client": "desk"}
    assert [line | {"outcome": outcome, "cause": cause}] * told == logged


def test_limits_that_are_not_shared_are_logged() -> None:
    """Operators read when and why this replica keeps to its share, and when it ends."""
    metrics = Metrics(_counts, tuple)
    with capture_logs() as logged:
        metrics.limits_cut_off("timeout")
        metrics.limits_shared_again()
    assert [
        {"event": "limits_cut_off", "log_level": "warning", "cause": "timeout"},
        {"event": "limits_shared_again", "log_level": "info"},
    ] == logged


async def test_a_store_that_is_away_leaves_its_numbers_out() -> None:
    """The page still comes, without numbers that may be wrong."""
    away = False

    async def counts() -> Mapping[str, int]:
        if away:
            raise StoreUnavailableError("away")
        return {"ok": 3}

    metrics = Metrics(counts, tuple)
    assert 3.0 == (await _samples(metrics))["aries_broker_grants", (("state", "ok"),)]
    away = True
    samples = await _samples(metrics)
    assert 0.0 == samples["aries_broker_store_up", ()]
    assert [] == [name for name, _ in samples if name == "aries_broker_grants"]


async def test_a_store_that_hangs_does_not_hold_the_page() -> None:
    """A scrape is bounded."""

    async def counts() -> Mapping[str, int]:
        await asyncio.Event().wait()
        return {}

    metrics = Metrics(counts, tuple, count_seconds=0.01)
    assert 0.0 == (await _samples(metrics))["aries_broker_store_up", ()]
