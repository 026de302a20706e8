"""What a journal promises: a place taken before a send holds what the send brings, also for the next process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.core import lease
from broker.core.audit import Action, AuditEvent
from broker.core.sealing import Sealed
from broker.flows.exchange_code import LONGEST_BUNDLE
from broker.ports import Journal, JournalError, ReceivedLogin, ReceivedToken
from tests.contract.backends import EVENT
from tests.contract.volumes import FileVolume, MemoryVolume, Volume


def received(number: int = 0, ciphertext: bytes = b"\x00sealed\xff") -> ReceivedToken:
    """Return a token as a redeem hands it over."""
    event = AuditEvent(EVENT.time, Action.GRANT_REDEEM, actor="broker:a", scopes="r\N{LATIN SMALL LETTER E WITH ACUTE}")
    land = lease.Land(number + 7, number + 3, 2, f"fingerprint-{number}")
    return ReceivedToken(f"grant-{number}", land, Sealed("aead-1", ciphertext), event, announce=number % 2 == 1)


def received_login(ciphertext: bytes = b"\x00sealed\xff") -> ReceivedLogin:
    """Return what a login's code brought."""
    event = AuditEvent(EVENT.time, Action.LOGIN_RECEIVE, actor="key:ops")
    return ReceivedLogin("login-1", "grant-1", Sealed("aead-1", ciphertext), ("read", "trade"), event)


@pytest.fixture(params=["memory", "file"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Volume]:
    """Every journal, on an empty volume."""
    opened: Volume = MemoryVolume() if request.param == "memory" else FileVolume(tmp_path / "data")
    yield opened
    opened.close()


def reserved(journal: Journal) -> int:
    """Take a place that has to be there."""
    place = journal.reserve()
    assert place is not None
    return place


def all_places(journal: Journal) -> list[int]:
    """Take every place that is free."""
    taken: list[int] = []
    while (place := journal.reserve()) is not None:
        taken.append(place)
    return taken


async def test_places_run_out_and_come_back(volume: Volume) -> None:
    """No place is given twice; with none left there is none, until one is given back."""
    taken = all_places(volume.journal)
    assert len(set(taken)) == len(taken) >= 100
    volume.journal.release(taken[5])
    assert (taken[5], None) == (volume.journal.reserve(), volume.journal.reserve())


async def test_an_entry_is_found_by_the_next_process(volume: Volume) -> None:
    """Every fact of it comes back, in its place, and the volume is the same; what was found stays as it was found."""
    assert (0, []) == (volume.journal.held, list(volume.journal.found()))
    place, named = reserved(volume.journal), volume.journal.volume
    await volume.journal.write(place, received(1))
    assert (1, []) == (volume.journal.held, list(volume.journal.found()))
    journal = volume.restart()
    assert ([(place, received(1))], 1, named) == (list(journal.found()), journal.held, journal.volume)
    await journal.clear(place)
    assert ([(place, received(1))], 0) == (list(journal.found()), journal.held)


async def test_what_a_login_brought_is_found_too(volume: Volume) -> None:
    """Beside tokens of redeems, and the longest that is sealed together fits."""
    place, longest = reserved(volume.journal), received_login(bytes(LONGEST_BUNDLE + 64))
    await volume.journal.write(place, longest)
    journal = volume.restart()
    assert [(place, longest)] == list(journal.found())


async def test_volumes_differ(volume: Volume, tmp_path: Path) -> None:
    """Another volume is not taken for this one: what is said of its journal says nothing of this one's."""
    other: Volume = MemoryVolume() if isinstance(volume, MemoryVolume) else FileVolume(tmp_path / "other")
    assert volume.journal.volume != other.journal.volume
    other.close()


async def test_a_cleared_entry_is_gone(volume: Volume) -> None:
    """The store has it; the next process finds nothing, and the place holds the next entry."""
    place = reserved(volume.journal)
    await volume.journal.write(place, received(1, b"a longer one" * 100))
    await volume.journal.clear(place)
    assert (0, []) == (volume.journal.held, list(volume.restart().found()))
    place = reserved(volume.journal)
    await volume.journal.write(place, received(2))
    assert [(place, received(2))] == list(volume.restart().found())


async def test_a_place_with_an_entry_is_not_given_away(volume: Volume) -> None:
    """Neither by giving it back, nor to the next process; only after the entry was cleared and the place given back."""
    place = reserved(volume.journal)
    await volume.journal.write(place, received())
    volume.journal.release(place)
    assert place not in all_places(volume.journal)
    journal = volume.restart()
    assert place not in all_places(journal)
    await journal.clear(place)
    assert journal.reserve() is None
    journal.release(place)
    assert place == journal.reserve()


async def test_a_disk_that_takes_nothing(volume: Volume) -> None:
    """An entry that was not written leaves its place free; one that was not cleared stays, and so does its place."""
    first, second = reserved(volume.journal), reserved(volume.journal)
    await volume.journal.write(first, received(1))
    with volume.broken():
        with pytest.raises(JournalError):
            await volume.journal.write(second, received(2))
        with pytest.raises(JournalError):
            await volume.journal.clear(first)
    for place in (first, second):
        volume.journal.release(place)
    free = all_places(volume.journal)
    assert (1, False, True) == (volume.journal.held, first in free, second in free)
    assert [(first, received(1))] == list(volume.restart().found())


async def test_a_disk_that_came_back(volume: Volume) -> None:
    """A place whose write failed takes the next."""
    place = reserved(volume.journal)
    with volume.broken(), pytest.raises(JournalError):
        await volume.journal.write(place, received(1))
    await volume.journal.write(place, received(2))
    assert [(place, received(2))] == list(volume.restart().found())


async def test_a_writer_that_is_cancelled(volume: Volume) -> None:
    """The entry may be there: its place is not given away, and the next process finds it whole."""
    place = reserved(volume.journal)
    writing = asyncio.create_task(volume.journal.write(place, received()))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    volume.journal.release(place)
    assert (False, 1) == (place in all_places(volume.journal), volume.journal.held)
    assert [(place, received())] == list(volume.restart().found())


async def test_many_write_and_clear_at_once(volume: Volume) -> None:
    """Each entry is its own: those that were cleared are gone, the others are whole."""
    entries = {reserved(volume.journal): received(number) for number in range(60)}

    async def keep(place: int, entry: ReceivedToken) -> None:
        await volume.journal.write(place, entry)
        if entry.announce:
            await volume.journal.clear(place)
            volume.journal.release(place)

    await asyncio.gather(*(keep(*each) for each in entries.items()))
    left = {place: entry for place, entry in entries.items() if not entry.announce}
    assert (30, left) == (volume.journal.held, dict(volume.restart().found()))
