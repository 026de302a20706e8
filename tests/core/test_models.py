"""The model's values: what two engineers would otherwise set differently."""

from __future__ import annotations

import dataclasses

import pytest

from broker.core import models
from broker.core.grant_state import Health, Hold, Phase
from broker.core.models import AbsentScope, AccessTokenKey, Catalog, Grant, GrantType, NarrowingProfile, Origin
from tests.core.values import policy, provider

VALUES = [kind for kind in vars(models).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type)]


@pytest.mark.parametrize("kind", VALUES)
def test_every_value_is_frozen(kind: type) -> None:
    """Nobody changes a value others hold."""
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_a_provider_is_trusted_with_nothing_by_default() -> None:
    """Unproved narrowing, silence refused, no plain http, no replay."""
    made = provider()
    expected = (NarrowingProfile.UNPROVED, AbsentScope.REFUSE, False, None)
    assert expected == (made.narrowing, made.absent_scope, made.insecure_loopback, made.replay_window)


def test_a_policy_accepts_nothing_beyond_the_request_by_default() -> None:
    """No excess, no login, no wildcard over all subjects."""
    made = policy("p")
    assert (frozenset(), False, False) == (made.accept_excess, made.authorize, made.any_subject)


def test_a_new_grant_has_no_token_and_no_past() -> None:
    """A grant starts idle, unheld, without consent."""
    state = Grant("g1", "desk", Origin.RPC, "c1", GrantType.REFRESH_TOKEN, frozenset({"read"})).state
    expected = (Phase.IDLE, Health.OK, Hold.NONE, None, 0, 0)
    assert expected == (state.phase, state.health, state.hold, state.current, state.consent, state.generation)


def test_an_empty_catalog_holds_nothing() -> None:
    """Nothing is configured until somebody does."""
    assert (0, {}, ()) == (Catalog().version, Catalog().providers, Catalog().policies)


@pytest.mark.parametrize(
    "other",
    [
        AccessTokenKey("g2", 1, "c", ("read",)),
        AccessTokenKey("g1", 2, "c", ("read",)),
        AccessTokenKey("g1", 1, "d", ("read",)),
        AccessTokenKey("g1", 1, "c", ("read", "trade")),
        AccessTokenKey("g1", 1, "c", ("read",), "https://api.example"),
    ],
)
def test_each_part_of_the_cache_key_counts(other: AccessTokenKey) -> None:
    """Tokens are interchangeable only when grant, epoch, client, scopes and resource are the same."""
    assert other != AccessTokenKey("g1", 1, "c", ("read",))
