"""What a store promises of logins: one version after the other, a bound per starter, what was received never lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.core.audit import Action, AuditEvent
from broker.core.authorization import (
    Authorization,
    AuthorizationFacts,
    Failure,
    LoginPhase,
    Way,
    begin_exchange,
    come_back,
    confirm,
    connect,
    fail,
    give_code,
    know,
    sign_in,
)
from broker.core.sealing import Sealed
from broker.ports import ReceivedLogin
from tests.contract.backends import EVENT, SEALED, Backend

LIFE = 600_000
FACTS = AuthorizationFacts(
    id="login-1",
    grant_id="id-a",
    grant="a",
    client_id="c1",
    provider_id="p1",
    starter="key:ops",
    way=Way.PAGE,
    scopes=("read", "trade"),
    redirect_uri="https://broker.example/callback/aries",
    app_state="its own \N{SNOWMAN}",
    short_code="code-fp",
)
RECEIVED = AuditEvent(EVENT.time, Action.LOGIN_RECEIVE, actor="key:ops")
GOT = ReceivedLogin("login-1", "id-a", Sealed("aead-1", b"\x00received\xff"), ("read", "trade"), RECEIVED)


def login(login_id: str = "login-1", **facts: object) -> Authorization:
    """Return a login that nobody has stored yet."""
    return Authorization(replace(FACTS, id=login_id, **facts), SEALED, 0)  # type: ignore[arg-type]  # names of its fields


async def added(backend: Backend, login_id: str = "login-1", **facts: object) -> Authorization:
    """Store a login and return it as it is stored."""
    new = login(login_id, **facts)
    expires_at = await backend.store.add_login(new, LIFE, 32, EVENT)
    assert expires_at is not None
    return replace(new, expires_at=expires_at)


async def moved(backend: Backend, after: Authorization) -> Authorization:
    """Store a step that has to be stored, and return it."""
    assert await backend.store.move_login(after)
    return after


async def exchanging(backend: Backend, login_id: str = "login-1", **facts: object) -> Authorization:
    """Store a login whose code is being exchanged."""
    stored = await added(backend, login_id, **facts)
    confirmed = await moved(backend, confirm(stored, "browser", "code-fp", f"state of {login_id}", 0))
    now = confirmed.expires_at - LIFE
    return await moved(backend, begin_exchange(confirmed, "me", now))


async def events(backend: Backend) -> list[Action]:
    """Return the actions of the events stored with steps."""
    return sorted(pending.event.action for pending in await backend.store.undelivered(100))


async def test_every_fact_of_a_login_is_read_back(backend: Backend) -> None:
    """With the store's clock, by which it is open for as long as was said; nobody else's id finds it."""
    stored = await added(backend)
    reading = await backend.store.find_login("login-1")
    assert reading is not None
    assert (stored, None) == (reading.login, await backend.store.find_login("login-2"))
    assert LIFE - 8_000 < stored.expires_at - reading.now <= LIFE
    everything = replace(
        stored,
        phase=LoginPhase.FAILED,
        failure=Failure.SUBJECT_MISMATCH,
        browser="b",
        tries=3,
        state="s",
        code="c",
        taken=True,
        received=Sealed("aead-1", b"\xff"),
        granted=("read",),
        owner="me",
        version=1,
    )
    await moved(backend, everything)
    read_back = await backend.store.find_login("login-1")
    assert read_back is not None
    assert everything == read_back.login


async def test_of_two_steps_at_once_one_is_made(backend: Backend) -> None:
    """The other is told, and changes nothing; its event is not stored either."""
    stored = await added(backend)
    one, other = sign_in(stored, "one", "state", 0), fail(stored, Failure.CANCELLED)
    told = await asyncio.gather(backend.store.move_login(one, EVENT), backend.store.move_login(other, EVENT))
    reading = await backend.store.find_login("login-1")
    assert reading is not None
    assert [False, True] == sorted(told)
    assert (one if told[0] else other) == reading.login
    assert 2 == len(await events(backend))


async def test_a_login_is_found_by_its_state_and_code_as_long_as_they_stand(backend: Backend) -> None:
    """An empty one finds nothing, however many logins have none."""
    stored = await added(backend)
    await added(backend, "login-2")
    signing_in = await moved(backend, sign_in(stored, "browser", "sign-in", 0))
    by_state = await backend.store.find_by_state("sign-in")
    assert by_state is not None
    assert signing_in == by_state.login
    back = await moved(backend, come_back(signing_in, "browser", 0))
    signed_in = await moved(backend, know(back, "ada at https://corp.example"))
    confirmed = await moved(backend, confirm(signed_in, "browser", "code-fp", "state", 0))
    assert await backend.store.find_by_state("sign-in") is None
    by_state = await backend.store.find_by_state("state")
    assert by_state is not None
    assert confirmed == by_state.login
    sent = await moved(backend, begin_exchange(confirmed, "me", 0))
    assert await backend.store.receive_login(GOT)
    received = await backend.store.find_login("login-1")
    assert received is not None
    coded = await moved(backend, give_code(received.login, "code", received.now))
    by_code = await backend.store.find_by_code("code")
    assert by_code is not None
    assert (coded, sent.facts) == (by_code.login, by_code.login.facts)
    nothing = [await backend.store.find_by_state(text) for text in ("", "state", "other")]
    assert [None] * 4 == [*nothing, await backend.store.find_by_code("")]


async def test_open_logins_of_one_starter_are_bounded(backend: Backend) -> None:
    """Also when they come at once; the newest is refused, others' are not counted, nor those that are over."""
    at_once = (backend.store.add_login(login(f"login-{number}"), LIFE, 3, EVENT) for number in range(6))
    told = await asyncio.gather(*at_once)
    assert 3 == len([expires_at for expires_at in told if expires_at is not None])
    assert await backend.store.add_login(login("other", starter="key:other"), LIFE, 3, EVENT) is not None
    names = [f"login-{number}" for number, expires_at in enumerate(told) if expires_at is not None]
    reading = await backend.store.find_login(names[0])
    assert reading is not None
    await moved(backend, fail(reading.login, Failure.CANCELLED))
    assert await backend.store.add_login(login("again"), LIFE, 3, EVENT) is not None
    assert await backend.store.add_login(login("too many"), LIFE, 3, EVENT) is None
    await backend.advance(LIFE + 1)
    assert await backend.store.add_login(login("later"), LIFE, 3, EVENT) is not None


@pytest.mark.parametrize("meanwhile", ["nothing", "failed"])
async def test_what_was_received_is_stored_whatever_happened_meanwhile(backend: Backend, meanwhile: str) -> None:
    """With its event, once: brought again, as by a journal, it changes nothing."""
    sent = await exchanging(backend)
    if meanwhile == "failed":
        await moved(backend, fail(sent, Failure.PROVIDER_UNAVAILABLE))
    assert [True, True] == [await backend.store.receive_login(GOT) for _ in range(2)]
    reading = await backend.store.find_login("login-1")
    assert reading is not None
    now = (reading.login.phase, reading.login.failure, reading.login.received, reading.login.granted)
    assert (LoginPhase.RECEIVED, None, GOT.sealed, ("read", "trade")) == now
    assert 1 == (await events(backend)).count(Action.LOGIN_RECEIVE)
    assert 0 < reading.login.expires_at - reading.now <= 60_000


@pytest.mark.parametrize("ending", [connect, lambda received: fail(received, Failure.SUBJECT_MISMATCH)])
async def test_what_was_received_and_settled_does_not_come_again(backend: Backend, ending: object) -> None:
    """A journal that was away brings it late: the login stays at its end, and what was sealed stays forgotten."""
    await exchanging(backend)
    assert await backend.store.receive_login(GOT)
    received = await backend.store.find_login("login-1")
    assert received is not None
    ended = await moved(backend, ending(received.login))  # type: ignore[operator]  # a step
    assert await backend.store.receive_login(GOT)
    reading = await backend.store.find_login("login-1")
    assert reading is not None
    assert (ended, None) == (reading.login, reading.login.received)


async def test_what_no_login_waits_for_is_told(backend: Backend) -> None:
    """There is no row to keep it in: whoever brings it has to know."""
    assert False is await backend.store.receive_login(GOT)


async def test_logins_whose_time_is_over_are_looked_after(backend: Backend) -> None:
    """The oldest first, at most as many as asked; those at their end are not, and are forgotten after a while."""
    ended = await added(backend, "ended")
    await moved(backend, fail(ended, Failure.CANCELLED))
    for name in ("first", "second", "third"):
        await added(backend, name)
        await backend.advance(20)
    assert [] == await backend.store.unsettled_logins(10)
    await backend.advance(LIFE)
    over = await backend.store.unsettled_logins(2)
    assert ["first", "second"] == [reading.login.facts.id for reading in over]
    await backend.store.forget_logins(LIFE * 2)
    assert await backend.store.find_login("ended") is not None
    await backend.store.forget_logins(LIFE - 1_000)
    assert [None, True] == [
        await backend.store.find_login("ended"),
        await backend.store.find_login("first") is not None,
    ]
