"""Giving the store what a process before this one received and could not store.

Each entry is stored as whoever received it would have done, read back, and only then removed. Storing one twice changes
nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from broker.core.errors import StoreUnavailableError
from broker.flows.heart import Heart
from broker.ports import (
    AuthorizationStore,
    GrantStore,
    Journal,
    JournalError,
    Received,
    ReceivedLogin,
    ReceivedToken,
    RedeemTelemetry,
    ReplicaStore,
)

TRY_AGAIN: Final = 5.0
"""Seconds before what the store did not take is tried again."""


class DrainJournal:
    """Empties the journal that was found at the start, and tells the store that it is empty."""

    def __init__(  # noqa: PLR0913 - each is a port or a fact of the process
        self,
        *,
        grants: GrantStore,
        logins: AuthorizationStore,
        replicas: ReplicaStore,
        journal: Journal,
        heart: Heart,
        telemetry: RedeemTelemetry,
        owner: str,
    ) -> None:
        self._grants = grants
        self._logins = logins
        self._replicas = replicas
        self._journal = journal
        self._heart = heart
        self._telemetry = telemetry
        self._owner = owner
        self._left = dict(journal.found())
        self._told = False

    async def __call__(self) -> None:
        """Store what is left; what cannot be stored now stays for the next call."""
        self._telemetry.journal_holds(self._journal.held)
        for place, received in list(self._left.items()):
            try:
                await self._store(place, received)
            except StoreUnavailableError as error:
                if not error.may_pass:
                    self._telemetry.store_refused(received.grant_id, "drain", error.cause)
        if not self._left and not self._told:
            try:
                await self._heart.beat()
                await self._replicas.drained(self._owner)
            except StoreUnavailableError:
                return
            self._told = True

    async def for_ever(self) -> None:
        """Try on and on until the journal is empty and the store knows, then wait to be cancelled."""
        while not self._told:
            await asyncio.sleep(TRY_AGAIN)
            await self()
        await asyncio.Event().wait()

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for the store to take what is left: nobody else can give it that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._left:
                    await self()
                    await asyncio.sleep(TRY_AGAIN if self._left else 0)

    async def _store(self, place: int, received: Received) -> None:
        kept = await self._kept_login(received) if isinstance(received, ReceivedLogin) else await self._kept(received)
        if not kept:
            self._telemetry.store_refused(received.grant_id, "drain", "not_kept")
            return
        try:
            await self._journal.clear(place)
        except JournalError:
            self._telemetry.journal_failed(received.grant_id)
            return
        self._journal.release(place)
        self._telemetry.journal_holds(self._journal.held)
        del self._left[place]

    async def _kept_login(self, received: ReceivedLogin) -> bool:
        """Store it; what the login made of it since is read back."""
        return await self._logins.receive_login(received) and await self._logins.find_login(received.id) is not None

    async def _kept(self, received: ReceivedToken) -> bool:
        """Store it as whoever received it would have, and read it back."""
        land = received.land
        await self._grants.keep_and_land(
            received.grant_id, land, received.sealed, received.event, announce=received.announce
        )
        if await self._grants.refresh_token(received.grant_id, land.fingerprint) is not None:
            return True
        # Told to the provider and wiped meanwhile, or not there at all: only the former is in the grant's history.
        grant = await self._grants.get_grant(received.grant_id)
        return grant is None or any(kept.fingerprint == land.fingerprint for kept in grant.state.tokens)
