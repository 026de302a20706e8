"""Logins nobody goes on with end when their time is over; what was received is settled, or given up, by any replica."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from broker.core.audit import Action
from broker.core.authorization import Failure, LoginPhase, Way, drop_code, fail
from broker.core.errors import BrokerError
from broker.flows.settle_login import SettleLogin
from broker.flows.trail import Trail
from broker.ports import AuthorizationStore, Clock, LoginReading

EVERY: Final = 5.0
"""Seconds between two looks."""
AT_ONCE: Final = 50
FORGOTTEN_MS: Final = 24 * 3600 * 1000
"""How long a login that is over can still be asked after."""


class TendLogins:
    """The flow; one per process."""

    def __init__(self, *, logins: AuthorizationStore, settle: SettleLogin, clock: Clock, owner: str) -> None:
        self._logins = logins
        self._settle = settle
        self._clock = clock
        self._owner = owner

    async def __call__(self) -> None:
        """Look once; what cannot be ended now is looked at again.

        Raises:
            BrokerError: the store is away.
        """
        for reading in await self._logins.unsettled_logins(AT_ONCE):
            await self._end(reading)
        await self._logins.forget_logins(FORGOTTEN_MS)

    async def for_ever(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            with suppress(BrokerError):
                await self()

    async def _end(self, reading: LoginReading) -> None:
        login = reading.login
        trail = Trail(method="tend-logins", peer="", request_id=login.facts.id[:16], actor=f"broker:{self._owner}")
        trail.grant = login.facts.grant
        if login.phase is LoginPhase.RECEIVED:
            with suppress(BrokerError):
                if login.facts.way is Way.APP and not login.taken:
                    await self._give_up(reading, trail)
                else:
                    await self._settle(login, trail)
            return
        failure = Failure.PROVIDER_UNAVAILABLE if login.phase is LoginPhase.EXCHANGING else Failure.EXPIRED
        event = trail.event(
            Action.LOGIN_FAIL,
            self._clock.now(),
            object_kind="login",
            object_name=login.facts.id[:16],
            detail=failure.value,
        )
        await self._logins.move_login(fail(login, failure), event)

    async def _give_up(self, reading: LoginReading, trail: Trail) -> None:
        """End an app's login that nobody completed, once nobody can: not the token of one that the grant has by now."""
        dropped = drop_code(reading.login, reading.now)
        if await self._logins.move_login(dropped):
            await self._settle.give_up(dropped, Failure.NOT_COMPLETED, trail)
