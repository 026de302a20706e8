"""A client secret the provider refuses."""

from __future__ import annotations

import pytest

from broker.core.errors import ProviderRefusedClientError
from broker.core.sealing import client_secret_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.client_breaker import ClientBreaker
from broker.ports import ClientSecretVersion
from tests.flows.world import CLIENT, PROVIDER, Counted, ManualClock, World, error, grant, new_world, policy

REFUSAL = error("invalid_client", 401)


async def two_grants() -> World:
    """Return a world in which `orders` may use two grants of one client."""
    world = await new_world()
    await world.put(grant("other"), policy("other", "key:orders", "other", "read"))
    return world


async def test_a_refused_secret_is_not_sent_for_another_grant() -> None:
    """One refusal is enough for all grants of the client; they are told why, and when it is tried again."""
    world = await two_grants()
    replica = await world.replica()
    world.endpoint.answers = [REFUSAL]
    told = []
    for name in ("desk", "other", "person"):
        with pytest.raises(ProviderRefusedClientError) as caught:
            await replica.get(*(["read", "trade"] if name == "person" else ["read"]), grant=name)
        told.append((caught.value.cause, caught.value.retry_after))
    assert [("invalid_client", None), ("refused_before", 30.0), ("refused_before", 30.0)] == told
    assert (1, [True]) == (len(world.endpoint.requests), world.counted.clients_refused)
    assert ["idle", "ok", None] == [
        world.state("person").phase,
        world.state("person").health,
        world.state("person").first_sent_at,
    ]


async def test_one_request_tries_it_again() -> None:
    """After its time one request goes out; refused, the time doubles, up to ten minutes; believed, all is well."""
    world = await two_grants()
    replica = await world.replica()
    waits = []
    for _ in range(7):
        world.endpoint.answers = [REFUSAL]
        with pytest.raises(ProviderRefusedClientError):
            await replica.get()
        with pytest.raises(ProviderRefusedClientError) as caught:
            await replica.get(grant="other")
        waits.append(caught.value.retry_after)
        world.clock.advance(caught.value.retry_after or 0)
    assert [30, 60, 120, 240, 480, 600, 600] == waits
    assert "provider" == (await replica.get()).source
    assert "provider" == (await replica.get(grant="other")).source
    assert [True] * 7 + [False] == world.counted.clients_refused


async def test_a_new_version_is_a_new_beginning() -> None:
    """Operators who enter the right secret need not wait."""
    world = await new_world()
    replica = await world.replica()
    world.endpoint.answers = [REFUSAL]
    with pytest.raises(ProviderRefusedClientError):
        await replica.get()
    origin = origin_of(PROVIDER.token_url)
    sealed = await world.keyring.seal(Secret("right"), client_secret_binding(CLIENT.id, 2, origin))
    world.store.inner._secrets[CLIENT.id] = ClientSecretVersion(CLIENT.id, 2, sealed, origin)
    world.clock.advance(1)
    await replica.get()
    assert "right" == world.endpoint.requests[-1]["client_secret"]


def breaker(clock: ManualClock, counted: Counted) -> ClientBreaker:
    """Return a breaker by itself."""
    return ClientBreaker(clock=clock, telemetry=counted)


def test_refusals_of_requests_sent_before_count_once() -> None:
    """Ten requests under way when the first is refused make the wait no longer."""
    clock, counted = ManualClock(), Counted()
    at_once = breaker(clock, counted)
    for _ in range(10):
        at_once.refused(PROVIDER, CLIENT, 1)
    with pytest.raises(ProviderRefusedClientError) as caught:
        at_once.check(CLIENT, 1)
    assert (30.0, [True]) == (caught.value.retry_after, counted.clients_refused)


def test_a_try_of_which_nothing_came_is_made_again() -> None:
    """A timeout says nothing of the secret: half a minute later the next request tries."""
    clock = ManualClock()
    at_once = breaker(clock, Counted())
    at_once.refused(PROVIDER, CLIENT, 1)
    clock.advance(30)
    at_once.check(CLIENT, 1)
    with pytest.raises(ProviderRefusedClientError):
        at_once.check(CLIENT, 1)
    clock.advance(30)
    at_once.check(CLIENT, 1)
