"""Each step's condition on every store: from a state in which it happens, one fact at a time is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from broker.adapters.sql.clock import boot_ms
from broker.core import lease
from broker.core.grant_state import GrantState, Health, Hold, KeptToken, OpenSend, Phase
from broker.core.models import Kind
from broker.core.settled import Replica, settled
from broker.ports import ObjectChange
from tests.contract.backends import EVENT, SEALED, Backend, moved, nearly, new_grant, record_of, relative, seen
from tests.support.times import TIMES

AT_ONCE = 6
"""Steps run at the same time, on grants of their own."""

SENT_TOKEN = KeptToken("t0", 2, 3, 7, -90_000, first_sent_at=-60_000)
NEW, NEWER = KeptToken("t1", 2, 5, 7, -80_000), KeptToken("t2", 2, 4, 6, -70_000)
TOKENS = (
    (replace(SENT_TOKEN, first_sent_at=None),),
    (SENT_TOKEN,),
    (SENT_TOKEN, NEW),
    (SENT_TOKEN, NEW, NEWER),
    (SENT_TOKEN, NEW, replace(NEWER, received_at=NEW.received_at)),
    (SENT_TOKEN, replace(NEW, first_sent_at=-1_000)),
    (SENT_TOKEN, replace(NEW, refused_at=-1_000)),
    (SENT_TOKEN, replace(NEW, consent=1)),
    (replace(SENT_TOKEN, revoked_at=-1_000), replace(NEW, refused_at=-1_000)),
    (NEW,),
)
"""Refresh tokens of a grant, the current one first."""
EXCHANGED = (SENT_TOKEN, KeptToken("t1", 2, 2, 6, -95_000, first_sent_at=-70_000))
"""The current one was given for the other."""

LIVING = Replica("living", "volume-1", 300_000)  # it goes on beating, however long the cases take
GONE = Replica("gone", "volume-2", -100_000)
LONG_GONE = Replica("long-gone", "volume-3", -700_000)
RESTARTED = Replica("restarted", "volume-2", 300_000, drained_at=-50_000)
REPLICAS = (LIVING, GONE, LONG_GONE, RESTARTED)
OPEN_SENDS = (
    (OpenSend(4, "other", -200_000),),
    (OpenSend(4, "gone", -200_000),),
    (OpenSend(4, "long-gone", -900_000),),
    (OpenSend(4, "living", -200_000),),
    (OpenSend(3, "gone", -200_000),),
    (OpenSend(3, "other", -900_000), OpenSend(4, "other", -200_000)),
)
"""Open sends, the one of the newest attempt by processes in different states."""

IDLE = GrantState(
    consent=2,
    generation=7,
    epoch=2,
    current="t0",
    attempt=4,
    owner="other",
    lease_until=-20_000,
    not_before=-20_000,
    failures=1,
    landed=3,
    tokens=TOKENS[0],
)
PREPARED = replace(IDLE, phase=Phase.PREPARED, lease_until=300_000)
SENT = replace(
    PREPARED,
    phase=Phase.SENT,
    first_sent_at=-60_000,
    last_sent_at=-60_000,
    replay_until=400_000,
    sends=1,
    tokens=TOKENS[1],
    open_sends=OPEN_SENDS[0],
)
LANDED = replace(PREPARED, phase=Phase.LANDED)
QUARANTINED = replace(IDLE, health=Health.QUARANTINED)
UNKNOWN = replace(SENT, phase=Phase.UNKNOWN, lease_until=-20_000)
OVER = replace(UNKNOWN, replay_until=-20_000, last_sent_at=-200_000, open_sends=())
REVOKING = replace(IDLE, hold=Hold.REVOKING, tokens=(replace(SENT_TOKEN, revoked_at=-1_000),))

STEPS: tuple[tuple[GrantState, lease.Event], ...] = (
    (IDLE, lease.Take("me")),
    (replace(PREPARED, lease_until=-20_000), lease.Take("me")),
    (PREPARED, lease.Extend(4)),
    (PREPARED, lease.Sent(4, 7, None)),
    (PREPARED, lease.Sent(4, 7, 60_000)),
    (replace(UNKNOWN, phase=Phase.PREPARED, lease_until=300_000), lease.Sent(4, 7, 60_000)),
    (SENT, lease.NotRotated(4)),
    (PREPARED, lease.NotSent(4, 30_000)),
    (SENT, lease.NotSent(4, 0)),
    (UNKNOWN, lease.NotSent(4, 0)),
    (SENT, lease.NotConsumed(4, 30_000)),
    (SENT, lease.Refused(4, 7, 2)),
    (replace(SENT, doubted="t1"), lease.Refused(4, 7, 2)),
    (replace(SENT, doubted="t1", tokens=EXCHANGED), lease.Refused(4, 7, 2)),
    (replace(SENT, doubted="t1", tokens=EXCHANGED), lease.Refused(4, 7, 2, 100_000)),
    (replace(SENT, doubted="t1", tokens=EXCHANGED), lease.Refused(4, 7, 2, 10_000)),
    (replace(SENT, doubted="t1", tokens=TOKENS[5]), lease.Refused(4, 7, 2, 100_000)),
    (SENT, lease.Unknown(4)),
    (SENT, lease.Unknown(4, 30_000)),
    (replace(SENT, lease_until=-20_000), lease.Unknown(None)),
    (SENT, lease.Closed(4)),
    (LANDED, lease.Finish(4)),
    (LANDED, lease.Finish(4, "me")),
    (SENT, lease.Land(4, 7, 2, "t9")),
    (PREPARED, lease.Land(3, 7, 2, "t9")),
    (QUARANTINED, lease.Land(3, 7, 2, "t1")),
    (IDLE, lease.Consented("t9")),
    (QUARANTINED, lease.Consented("t1")),
    (replace(UNKNOWN, tokens=TOKENS[2]), lease.Adopt()),
    (replace(UNKNOWN, tokens=TOKENS[3]), lease.Adopt()),
    (replace(QUARANTINED, tokens=TOKENS[2]), lease.Adopt()),
    (UNKNOWN, lease.Replay("me")),
    (OVER, lease.Probe("me", settled=False)),
    (replace(OVER, last_sent_at=-60_000), lease.Probe("me", settled=False)),
    (replace(OVER, settled_at=-100_000, open_sends=OPEN_SENDS[0]), lease.Probe("me", settled=False)),
    (UNKNOWN, lease.Settle()),
    (IDLE, lease.Freeze()),
    (replace(UNKNOWN, hold=Hold.FROZEN), lease.Unfreeze()),
    (SENT, lease.Revoke()),
    (REVOKING, lease.TokenRevoked("t0")),
    (REVOKING, lease.Revoked()),
    (replace(REVOKING, phase=Phase.PREPARED), lease.Revoked()),
)
"""A state and an event that happens in it; the store finds out by itself whether a probe is settled."""


def neighbours(state: GrantState) -> Iterator[GrantState]:
    """Return the state, and those that differ from it in one fact."""
    yield state
    for phase in Phase:
        yield replace(state, phase=phase)
    for hold in Hold:
        yield replace(state, hold=hold)
    for tokens in TOKENS:
        yield replace(state, tokens=tokens)
    for open_sends in OPEN_SENDS:
        yield replace(state, open_sends=open_sends)
    yield replace(state, health=Health.QUARANTINED)
    yield replace(state, current=None)
    yield replace(state, doubted="t2")
    yield replace(state, attempt=5)
    yield replace(state, generation=8)
    yield replace(state, consent=3)
    yield replace(state, lease_until=-20_000)
    yield replace(state, lease_until=300_000)
    yield replace(state, not_before=300_000)
    yield replace(state, first_sent_at=None, replay_until=None)
    yield replace(state, first_sent_at=-30_000)
    yield replace(state, first_sent_at=-60_000, sends=1)
    yield replace(state, replay_until=200_000)
    yield replace(state, replay_until=None)
    yield replace(state, settled_at=-20_000, open_sends=OPEN_SENDS[1])
    for sends in range(4):
        yield replace(state, sends=sends)
    for probes in range(2):
        yield replace(state, probes=probes)


CASES = {
    f"step-{number}": (state, event)
    for number, (state, event) in enumerate(
        (neighbour, event) for base, event in STEPS for neighbour in dict.fromkeys(neighbours(base))
    )
}


PARTS = (
    pytest.param("memory", slice(None), id="memory"),
    pytest.param("sqlite", slice(0, None, 6), id="sqlite"),
    pytest.param("postgres", slice(3, None, 6), id="postgres"),
    pytest.param("sqlite", slice(None), id="sqlite-whole", marks=pytest.mark.crash),
    pytest.param("postgres", slice(None), id="postgres-whole", marks=pytest.mark.crash),
)
"""The statements are the same text on both databases: `make test` takes other neighbours on each, `make crash` all."""


@pytest.mark.parametrize(("shared_store", "part"), PARTS, indirect=["shared_store"], scope="session")
async def test_a_step_happens_exactly_where_the_core_says(backend: Backend, part: slice) -> None:
    """In every state next to one where a step happens, store and core agree on whether and how it does."""
    cases = dict(list(CASES.items())[part])
    grants = [ObjectChange(Kind.GRANT, name, new_grant(name, name)) for name in cases]
    await backend.store.write_objects(grants, revision=None, event=EVENT)
    await backend.put_replicas(REPLICAS)
    await backend.put_states({name: state for name, (state, _) in cases.items()})
    gate = asyncio.Semaphore(AT_ONCE)
    began = boot_ms()
    replicas = [seen(replica, began) for replica in REPLICAS]

    async def run(name: str, state: GrantState, event: lease.Event) -> None:
        async with gate:
            # The store's clock went on while earlier cases ran; times are far enough apart not to mind.
            now = boot_ms()
            before = moved(state, began)
            expected = lease.step(before, as_settled(before, event, replicas, now), now, TIMES)
            actual = await apply(backend, name, event, state)
            grant = await backend.store.get_grant(name)
            assert grant is not None
            assert (name, event, expected is None) == (name, event, actual is None)
            assert nearly(expected or before, now) == relative(grant.state, await backend.now())

    await asyncio.gather(*(run(name, state, event) for name, (state, event) in cases.items()))


def as_settled(state: GrantState, event: lease.Event, replicas: Sequence[Replica], now: int) -> lease.Event:
    """Return the event as it is when the store knows these processes."""
    if not isinstance(event, lease.Probe):
        return event
    return lease.Probe(event.owner, settled(state, replicas, now, TIMES))


async def apply(  # noqa: PLR0911 - a method each
    backend: Backend, grant_id: str, event: lease.Event, state: GrantState
) -> GrantState | None:
    """Run an event by the method that takes it."""
    store = backend.store
    match event:
        case lease.Land():
            return await store.keep_and_land(grant_id, event, SEALED, EVENT)
        case lease.Consented():
            return await store.keep_and_consent(
                grant_id, event, state.consent, SEALED, None, EVENT, expected_attempt=state.attempt
            )
        case lease.Sent():
            return await store.licence(event, record_of(grant_id, event.attempt, state.owner or ""))
        case lease.Closed():
            await store.record_attempt(record_of(grant_id, event.attempt, outcome="landed"))
            reading = await store.get_state(grant_id)
            return None if reading is None else reading.state
        case lease.Probe():
            return await store.probe(grant_id, event.owner)
        case lease.Freeze() | lease.Unfreeze() | lease.Revoke() | lease.Settle():
            return await store.hold(grant_id, event, EVENT)
        case _:
            return await store.apply(grant_id, event)
