"""Each step's condition on every store: from a state in which it happens, one fact at a time is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from broker.adapters.sql.clock import boot_ms
from broker.core import lease
from broker.core.grant_state import GrantState, Health, Hold, KeptToken, Phase
from broker.core.models import Kind
from broker.ports import ObjectChange
from tests.contract.backends import EVENT, SEALED, TIMES, Backend, moved, nearly, new_grant, relative

AT_ONCE = 6
"""Steps run at the same time, on grants of their own."""

SENT_TOKEN = KeptToken("t0", 2, 3, -90_000, first_sent_at=-60_000)
NEW, NEWER = KeptToken("t1", 2, 5, -80_000), KeptToken("t2", 2, 4, -70_000)
TOKENS = (
    (replace(SENT_TOKEN, first_sent_at=None),),
    (SENT_TOKEN,),
    (SENT_TOKEN, NEW),
    (SENT_TOKEN, NEW, NEWER),
    (SENT_TOKEN, NEW, replace(NEWER, received_at=NEW.received_at)),
    (SENT_TOKEN, replace(NEW, first_sent_at=-1_000)),
    (SENT_TOKEN, replace(NEW, refused_at=-1_000)),
    (SENT_TOKEN, replace(NEW, consent=1)),
)
"""Refresh tokens of a grant, the current one first."""

IDLE = GrantState(
    consent=2,
    generation=7,
    epoch=2,
    current="t0",
    attempt=4,
    owner="other",
    lease_until=-20_000,
    not_before=-20_000,
    tokens=TOKENS[0],
)
PREPARED = replace(IDLE, phase=Phase.PREPARED, lease_until=300_000)
SENT = replace(PREPARED, phase=Phase.SENT, first_sent_at=-60_000, replay_until=400_000, sends=1, tokens=TOKENS[1])
LANDED = replace(PREPARED, phase=Phase.LANDED)
QUARANTINED = replace(IDLE, health=Health.QUARANTINED)

STEPS: tuple[tuple[GrantState, lease.Event], ...] = (
    (IDLE, lease.Take("me")),
    (replace(PREPARED, lease_until=-20_000), lease.Take("me")),
    (PREPARED, lease.Extend(4)),
    (PREPARED, lease.Sent(4, 7, None)),
    (PREPARED, lease.Sent(4, 7, 60_000)),
    (SENT, lease.NotRotated(4)),
    (PREPARED, lease.NotSent(4, 30_000)),
    (SENT, lease.NotSent(4, 0)),
    (SENT, lease.NotConsumed(4, 30_000)),
    (SENT, lease.Refused(4, 7, 2)),
    (SENT, lease.Unknown(4)),
    (replace(SENT, lease_until=-20_000), lease.Unknown(None)),
    (LANDED, lease.Finish(4)),
    (LANDED, lease.Finish(4, "me")),
    (SENT, lease.Land(4, 7, 2, "t9")),
    (PREPARED, lease.Land(3, 7, 2, "t9")),
    (QUARANTINED, lease.Land(3, 7, 2, "t1")),
    (IDLE, lease.Consented("t9")),
    (QUARANTINED, lease.Consented("t1")),
)
"""A state and an event that happens in it."""


def neighbours(state: GrantState) -> Iterator[GrantState]:
    """Return the state, and those that differ from it in one fact."""
    yield state
    for phase in Phase:
        yield replace(state, phase=phase)
    for hold in Hold:
        yield replace(state, hold=hold)
    for tokens in TOKENS:
        yield replace(state, tokens=tokens)
    yield replace(state, health=Health.QUARANTINED)
    yield replace(state, current=None)
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
    for sends in range(4):
        yield replace(state, sends=sends)


CASES = {
    f"step-{number}": (state, event)
    for number, (state, event) in enumerate(
        (neighbour, event) for base, event in STEPS for neighbour in dict.fromkeys(neighbours(base))
    )
}


async def test_a_step_happens_exactly_where_the_core_says(backend: Backend) -> None:
    """In every state next to one where a step happens, store and core agree on whether and how it does."""
    grants = [ObjectChange(Kind.GRANT, name, new_grant(name, name)) for name in CASES]
    await backend.store.write_objects(grants, revision=None, event=EVENT)
    await backend.put_states({name: state for name, (state, _) in CASES.items()})
    gate = asyncio.Semaphore(AT_ONCE)
    began = boot_ms()

    async def run(name: str, state: GrantState, event: lease.Event) -> None:
        async with gate:
            # The store's clock went on while earlier cases ran; times are far enough apart not to mind.
            now = boot_ms()
            before = moved(state, began)
            expected = lease.step(before, event, now, TIMES)
            actual = await apply(backend, name, event, state)
            grant = await backend.store.get_grant(name)
            assert grant is not None
            assert (name, event, expected is None) == (name, event, actual is None)
            assert nearly(expected or before, now) == relative(grant.state, await backend.now())

    await asyncio.gather(*(run(name, state, event) for name, (state, event) in CASES.items()))


async def apply(backend: Backend, grant_id: str, event: lease.Event, state: GrantState) -> GrantState | None:
    """Run an event by the method that takes it."""
    if isinstance(event, lease.Land):
        return await backend.store.keep_and_land(grant_id, event, SEALED, EVENT)
    if isinstance(event, lease.Consented):
        return await backend.store.keep_and_consent(
            grant_id, event, state.consent, SEALED, None, EVENT, expected_attempt=state.attempt
        )
    return await backend.store.apply(grant_id, event)
