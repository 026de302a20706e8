"""CompleteAuthorization, GetAuthorization, CancelAuthorization: what the starter of a login does beside the browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.core.audit import Action
from broker.core.authorization import (
    Authorization,
    Failure,
    LoginPhase,
    Obstacle,
    StepError,
    Way,
    digest,
    fail,
    is_over,
    take_code,
)
from broker.core.errors import GrantConflictError, InvalidRequestError, PolicyDeniedError
from broker.core.identity import CallerId
from broker.core.models import LimitTarget
from broker.core.secret import Secret
from broker.flows.catalog_view import CatalogView
from broker.flows.exchange_code import ExchangeCode
from broker.flows.limits import Limiter
from broker.flows.login_standing import LoginStanding
from broker.flows.settle_login import SettleLogin
from broker.flows.trail import Trail
from broker.ports import AuthorizationStore, Clock, GrantStore, LoginReading

LONGEST_WAIT: Final = 30.0
"""Seconds that GetAuthorization waits at most."""
LOOK_EVERY: Final = 0.5
"""Seconds between two looks while it waits."""

NO_LOGIN: Final = "there is no such login of this caller"
CODE_WRONG: Final = "the code is not good, was shown before, came too late, or not with what the app began with"


@dataclass(frozen=True, slots=True)
class ShownLogin:
    """A login as its starter sees it; `expires_in` in seconds, 0 once it is over."""

    login: Authorization
    subject: str | None
    expires_in: float


class CompleteAuthorization:
    """The flow; one per process."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        logins: AuthorizationStore,
        grants: GrantStore,
        standing: LoginStanding,
        exchange: ExchangeCode,
        settle: SettleLogin,
        limiter: Limiter,
        clock: Clock,
        is_draining: Callable[[], bool],
    ) -> None:
        self._view = view
        self._logins = logins
        self._grants = grants
        self._standing = standing
        self._exchange = exchange
        self._settle = settle
        self._limiter = limiter
        self._clock = clock
        self._is_draining = is_draining

    async def app(
        self, caller: CallerId, code: Secret, redirect_uri: str, code_verifier: str, trail: Trail
    ) -> ShownLogin:
        """Redeem an app's one-time code, once.

        Raises:
            InvalidRequestError: it is not good; which of the ways is not told.
            BrokerError: the store or the provider is away; what was received is settled later.
        """
        await self._pay(caller)
        reading = await self._logins.find_by_code(digest(code.reveal()))
        if reading is None:
            raise _wrong_code()
        trail.grant = reading.login.facts.grant
        try:
            taken = take_code(reading.login, str(caller), redirect_uri, code_verifier, reading.now)
        except StepError:
            raise _wrong_code() from None
        if not await self._logins.move_login(taken):
            raise _wrong_code()
        return await self._shown(await self._settle(taken, trail), reading.now)

    async def direct(
        self, caller: CallerId, flow_id: Secret, code: Secret, redirect_uri: str, trail: Trail
    ) -> ShownLogin:
        """Exchange the provider's code of a direct login.

        Raises:
            PolicyDeniedError: no such login of this caller.
            InvalidRequestError: it is not direct, is over, or was begun with another redirect URI.
            BrokerError: why nothing was sent.
        """
        await self._pay(caller)
        reading = await self._mine(caller, flow_id, trail)
        login, facts = reading.login, reading.login.facts
        if facts.way is not Way.DIRECT or facts.redirect_uri != redirect_uri:
            told = "must be that of a direct login, and its redirect URI the one it was begun with"
            raise InvalidRequestError(f"flow_id: {told}", fields={"flow_id": told})
        found = await self._standing(login)
        if found is None:
            raise GrantConflictError(
                "the grant, its client, its provider or the right to log in for it changed since the login began"
            )
        try:
            after = await self._exchange(login, *found, code, reading.now, trail)
        except StepError as error:
            raise _over(error.obstacle) from None
        return await self._shown(after, reading.now)

    async def get(self, caller: CallerId, flow_id: Secret, wait: float, trail: Trail) -> ShownLogin:
        """Return a login, or wait up to `wait` seconds, at most 30, for it to get further than it is.

        Nobody waits for a process that is about to end.

        Raises:
            PolicyDeniedError: no such login of this caller.
        """
        await self._pay(caller)
        reading = await self._mine(caller, flow_id, trail)
        version = reading.login.version
        give_up = self._clock.boottime() + min(wait, LONGEST_WAIT)
        while (
            not is_over(reading.login)
            and reading.login.version == version
            and self._clock.boottime() < give_up
            and not self._is_draining()
        ):
            await asyncio.sleep(LOOK_EVERY)
            reading = await self._mine(caller, flow_id, trail)
        return await self._shown(reading.login, reading.now)

    async def cancel(self, caller: CallerId, flow_id: Secret, trail: Trail) -> ShownLogin:
        """End a login that nobody has confirmed yet, or that is at the provider; one that got further goes on.

        Raises:
            PolicyDeniedError: no such login of this caller.
        """
        await self._pay(caller)
        reading = await self._mine(caller, flow_id, trail)
        login = reading.login
        if login.phase in {LoginPhase.STARTED, LoginPhase.CONFIRMED}:
            event = trail.event(
                Action.LOGIN_FAIL,
                self._clock.now(),
                object_kind="login",
                object_name=login.facts.id[:16],
                detail=Failure.CANCELLED.value,
            )
            cancelled = fail(login, Failure.CANCELLED)
            if await self._logins.move_login(cancelled, event):
                return await self._shown(cancelled, reading.now)
            reading = await self._mine(caller, flow_id, trail)
        return await self._shown(reading.login, reading.now)

    async def _pay(self, caller: CallerId) -> None:
        await self._limiter.spend(LimitTarget.GET_TOKEN, {"caller": str(caller)})

    async def _mine(self, caller: CallerId, flow_id: Secret, trail: Trail) -> LoginReading:
        reading = await self._logins.find_login(digest(flow_id.reveal()))
        if reading is None or reading.login.facts.starter != str(caller):
            raise PolicyDeniedError(NO_LOGIN)
        trail.grant = reading.login.facts.grant
        return reading

    async def _shown(self, login: Authorization, now: int) -> ShownLogin:
        subject = None
        if login.phase is LoginPhase.CONNECTED:
            grant = await self._grants.get_grant(login.facts.grant_id)
            subject = None if grant is None else grant.subject
        return ShownLogin(login, subject, 0.0 if is_over(login) else max(0, login.expires_at - now) / 1000)


def _wrong_code() -> InvalidRequestError:
    return InvalidRequestError(f"app.code: {CODE_WRONG}", fields={"app.code": CODE_WRONG})


def _over(obstacle: Obstacle) -> InvalidRequestError:
    told = "its time is over" if obstacle is Obstacle.EXPIRED else "it is over, or its code was brought already"
    return InvalidRequestError(f"flow_id: {told}", fields={"flow_id": told})
