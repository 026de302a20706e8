"""KEEP and LAND: a received refresh token is stored first and alone, whatever else is wrong or away.

The journal takes it as soon as the store fails or is slow, and holds it until the store has it: a crash in between
loses nothing. The store is asked on and on; there is nothing better to do with a token that exists nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from broker.core.errors import BrokerError, OverloadedError, StoreUnavailableError
from broker.core.grant_state import GrantState, RedeemTimes
from broker.flows.until_stored import Trouble, until_stored
from broker.ports import (
    AuthorizationStore,
    GrantStore,
    Journal,
    JournalError,
    Received,
    ReceivedLogin,
    ReceivedToken,
    RedeemTelemetry,
)

T = TypeVar("T")

ASK_AGAIN: Final = 10.0
"""Seconds before a store that refuses a token for good is asked again: operators have to act."""


class KeepReceived:
    """Stores received tokens."""

    def __init__(
        self,
        *,
        grants: GrantStore,
        logins: AuthorizationStore,
        journal: Journal,
        telemetry: RedeemTelemetry,
        times: RedeemTimes,
    ) -> None:
        self._grants = grants
        self._logins = logins
        self._journal = journal
        self._telemetry = telemetry
        self._times = times

    def reserve(self) -> int:
        """Take a place in the journal for what a request may bring; nothing is sent without one.

        Raises:
            OverloadedError: there is none.
        """
        place = self._journal.reserve()
        if place is None:
            raise OverloadedError("too many tokens are being received at once", retry_after=1.0, cause="journal_full")
        return place

    def release(self, place: int) -> None:
        """Give a place back; one that holds an entry stays taken."""
        self._journal.release(place)

    async def __call__(self, received: ReceivedToken, place: int, trouble: Trouble) -> GrantState:
        """Store a token; return the grant's row, whose `current` tells whether it became that.

        Args:
            received: the token, sealed, and how it is to land.
            place: in the journal.
            trouble: told of each failure of the store.

        What is no error of the store's but a mistake of ours is raised, with the token in the journal for a process
        that makes it no more.
        """
        return await self._kept(
            received,
            lambda: self._grants.keep_and_land(
                received.grant_id, received.land, received.sealed, received.event, announce=received.announce
            ),
            place,
            trouble,
        )

    async def login(self, received: ReceivedLogin, place: int, trouble: Trouble) -> bool:
        """Store what a login's code brought, in the same way; False when the login is forgotten."""
        return await self._kept(received, lambda: self._logins.receive_login(received), place, trouble)

    async def _kept(self, received: Received, write: Callable[[], Awaitable[T]], place: int, trouble: Trouble) -> T:
        first_failure = asyncio.Event()

        def report(error: BrokerError) -> None:
            trouble(error)
            first_failure.set()

        storing = asyncio.create_task(self._store(received, write, report))
        failing = asyncio.create_task(first_failure.wait())
        try:
            await asyncio.wait(
                {storing, failing}, timeout=self._times.journal_after / 1000, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            failing.cancel()
        stored = storing.done() and storing.exception() is None
        journalled = not stored and await self._write(place, received)
        result = await storing
        if journalled:
            await self._clear(received, place)
        return result

    async def _store(self, received: Received, write: Callable[[], Awaitable[T]], trouble: Trouble) -> T:
        while True:
            try:
                return await until_stored(write, trouble)
            except StoreUnavailableError as error:
                self._telemetry.store_refused(received.grant_id, "keep", error.cause)
                await asyncio.sleep(ASK_AGAIN)

    async def _write(self, place: int, received: Received) -> bool:
        try:
            await self._journal.write(place, received)
        except JournalError:
            self._telemetry.journal_failed(received.grant_id)
            return False
        self._telemetry.journal_holds(self._journal.held)
        return True

    async def _clear(self, received: Received, place: int) -> None:
        try:
            await self._journal.clear(place)
        except JournalError:  # the next start finds the entry once more, and storing it again changes nothing
            self._telemetry.journal_failed(received.grant_id)
        self._telemetry.journal_holds(self._journal.held)
