"""Policies, holds and providers that change while a call runs; the audit log away; nothing slips through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from broker.core.audit import Action
from broker.core.errors import (
    AuditUnavailableError,
    BrokerError,
    GrantConflictError,
    GrantHeldError,
    PolicyDeniedError,
    ProviderRefusedClientError,
    StoreUnavailableError,
)
from broker.core.models import Kind
from tests.flows.world import NARROWING, PROVIDER, SECRET, Replica, World, policy
from tests.support.waiting import until

Change = Callable[[World], Awaitable[None]]


async def no_policy(world: World) -> None:
    """Take the policy away."""
    await world.remove(Kind.POLICY, "orders")


async def freeze_grant(world: World) -> None:
    """Hold the grants."""
    await world.hold("desk")
    await world.hold("person")


async def freeze_provider(world: World) -> None:
    """Hold every grant of the provider."""
    await world.put(replace(PROVIDER, frozen=True))


async def role(world: World) -> None:
    """Let the policy be for others."""
    await world.put(policy("orders", "key:others", "desk person", "read trade"))


CHANGES = [
    (no_policy, PolicyDeniedError),
    (role, PolicyDeniedError),
    (freeze_grant, GrantHeldError),
    (freeze_provider, GrantHeldError),
]


@pytest.mark.parametrize(("change", "kind"), CHANGES)
@pytest.mark.parametrize("seen", ["by this call", "by the poll"])
@pytest.mark.parametrize("cached", [True, False])
async def test_change_while_the_event_is_written_withholds_the_token(
    world: World, replica: Replica, change: Change, kind: type[BrokerError], seen: str, cached: bool
) -> None:
    """What moved before the audit commit holds for this call, whoever brought the view up to date meanwhile."""
    if cached:
        await replica.get()

    async def move() -> None:
        await change(world)
        if seen == "by the poll":
            await replica.view.catch_up(await world.store.inner.read_version())

    world.audit.on_record = [move]
    with pytest.raises(kind):
        await replica.get()
    assert cached + 1 == len(world.audit.events)
    assert ["provider"] * cached == world.counted.issued


@pytest.mark.parametrize(("change", "kind"), CHANGES)
@pytest.mark.parametrize("name", ["desk", "person"])
async def test_change_while_waiting_is_decided_again(
    world: World, replica: Replica, change: Change, kind: type[BrokerError], name: str
) -> None:
    """After every wait the wish is decided anew; the redeem itself reaches its end."""
    world.endpoint.hold = asyncio.Event()
    asked = asyncio.create_task(replica.get("read", "trade", grant=name))
    await until(lambda: len(world.endpoint.requests) == 1)
    await change(world)
    await replica.view.catch_up(await world.store.read_version())
    world.endpoint.hold.set()
    with pytest.raises(kind):
        await asked
    assert [] == world.audit.events
    if name == "person":
        assert "canary-rt-1" == await world.refresh_token("person")


async def test_unrelated_change_costs_one_more_decision(world: World, replica: Replica) -> None:
    """The token is handed out when the new version means the same for it; the buckets are not paid again."""

    async def move() -> None:
        await world.put(policy("unrelated", "key:x", "x", "read"))

    world.audit.on_record = [move]
    assert "provider" == (await replica.get()).source
    assert 1 == len(world.audit.events)
    assert await world.store.read_version() == replica.view.version


async def test_new_consent_while_the_event_is_written(world: World, replica: Replica) -> None:
    """A new epoch is another key: the old login's token is not handed out, the new one's is."""

    async def move() -> None:
        await world.consent("person", world.endpoint.live)

    world.audit.on_record = [move]
    await replica.get("read", "trade", grant="person")
    assert 2 == len(world.endpoint.requests)
    assert ["provider", "provider"] == [event.source for event in world.audit.events]
    assert world.audit.events[0].fingerprint != world.audit.events[1].fingerprint


async def test_repointed_provider_while_the_event_is_written(world: World, replica: Replica) -> None:
    """A token of the former endpoint is withheld although its key and policy are the same."""

    async def move() -> None:
        await world.put(replace(PROVIDER, token_url="https://elsewhere.example/token"))

    await replica.get()
    world.audit.on_record = [move]
    with pytest.raises(ProviderRefusedClientError):
        await replica.get()


async def test_changed_provider_is_told_in_the_reply(world: World, replica: Replica) -> None:
    """The reply names the origins as of the version its event was written at."""

    async def move() -> None:
        await world.put(replace(PROVIDER, api_origins=("https://new.example",)))

    world.audit.on_record = [move]
    assert ("https://new.example",) == (await replica.get()).api_origins


async def test_policy_that_accepts_less_counts(world: World, replica: Replica) -> None:
    """A changed policy is judged anew even if it still covers the request."""

    async def move() -> None:
        await world.put(policy("orders", "key:orders", "desk", "read"))

    world.audit.on_record = [move]
    await replica.get()
    assert ["provider", "provider"] == [event.source for event in world.audit.events]


async def test_configuration_that_never_rests(world: World, replica: Replica) -> None:
    """A call that was overtaken again and again gives up and says so."""
    turn = 0

    async def move() -> None:
        nonlocal turn
        turn += 1
        await world.put(replace(PROVIDER, default_expires_in=300 + turn))

    world.audit.on_record = [move] * 10
    with pytest.raises(GrantConflictError):
        await replica.get()
    assert [] == world.counted.issued


async def test_view_that_cannot_follow_withholds(world: World, replica: Replica) -> None:
    """Where the new version cannot be read, nothing is handed out."""

    async def move() -> None:
        await no_policy(world)
        world.store.away.add("load_catalog")

    await replica.get()
    world.audit.on_record = [move]
    with pytest.raises(StoreUnavailableError):
        await replica.get()


async def test_audit_log_away_hands_out_nothing(world: World, replica: Replica) -> None:
    """No durable event, no token, cached or not; the next call is served."""

    async def away() -> None:
        raise AuditUnavailableError("away", cause="full")

    world.audit.on_record = [away, away]
    for _ in range(2):
        with pytest.raises(AuditUnavailableError):
            await replica.get()
    assert [] == world.counted.issued
    assert "memory" == (await replica.get()).source


async def test_event_says_what_was_decided(world: World, replica: Replica) -> None:
    """Grant, client, provider, policy, scopes asked and granted; no token, no secret anywhere."""
    issued = await replica.get("trade", "read")
    (event,) = world.audit.events
    assert (Action.TOKEN_ISSUE, "key:orders", "peer", "r1", "GetToken") == (
        event.action,
        event.actor,
        event.peer,
        event.request_id,
        event.method,
    )
    assert ("desk", "desk", "aries", "orders") == (event.grant, event.client, event.provider, event.policy)
    assert ("read trade", "account:information order:execution order:information") == (event.scopes, event.granted)
    printed = f"{event!r}{issued!r}{replica.cache.__dict__!r}{world.endpoint.requests[0].keys()!r}"
    for secret in (SECRET, issued.access_token.reveal() + "'", "canary"):
        assert secret not in printed


async def test_trail_of_a_denial_tells_what_is_known(replica: Replica) -> None:
    """A denial's event can name the grant and the scopes asked for; the rest was not decided."""
    with pytest.raises(PolicyDeniedError):
        await replica.get("trade", "read", caller="reports")
    (trail,) = replica.trails
    assert ("desk", "read trade", "", "") == (trail.grant, trail.scopes, trail.policy, trail.client)


async def test_narrowing_that_was_unproved_meanwhile(world: World) -> None:
    """A provider no longer proved to narrow ends the service of subsets, cached ones too."""
    await world.put(NARROWING)
    replica = await world.replica()
    await replica.get("read", grant="person")

    async def move() -> None:
        await world.put(PROVIDER)

    world.audit.on_record = [move]
    with pytest.raises(BrokerError, match="another grant"):
        await replica.get("read", grant="person")
