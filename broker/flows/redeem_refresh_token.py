"""refresh_token: the redeem of a rotating token, so that it is neither lost nor spent twice (RFC 6749 §6).

The protocol's table stands in `core/lease.py`. Here it is told in time: TAKE the lease, pay the provider's budget,
connect, commit SENT as the licence to write, read the reply, keep what came before judging it, FINISH. An owner for
whose grant others wait takes it again in the same commit and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from broker.core import lease
from broker.core.audit import Action
from broker.core.errors import (
    BrokerError,
    ConsentRequiredError,
    GrantConflictError,
    GrantQuarantinedError,
    GrantUncertainError,
    RateLimitedError,
    ScopeNotGrantedError,
    StoreUnavailableError,
)
from broker.core.grant_state import GrantState, Health, Phase, RedeemTimes
from broker.core.models import Provider
from broker.core.oauth.reply import Outcome, Reading
from broker.core.oauth.rfc6749 import RefreshToken
from broker.core.scope_sets import check_one_more
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.flows.beat import beating
from broker.flows.provider_call import PreparedCall, ProviderCall
from broker.flows.receive import Receive, Received
from broker.flows.token_cache import CachedToken
from broker.flows.trail import Trail
from broker.flows.wish import Wish
from broker.ports import (
    AttemptRecord,
    Cipher,
    Clock,
    GrantStore,
    NotSentError,
    SealBrokenError,
)

BACK_OFF: Final = 1_000
"""Milliseconds before the next redeem after one that came to nothing; a Retry-After longer than that counts, to"""
MAX_BACK_OFF: Final = 300_000

FIRST_PAUSE: Final = 0.05
"""Seconds before an outcome that could not be stored is tried again; doubled each time, to"""
LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Tenure:
    """One lease of a grant: the fences its writes carry, and whom to tell when the store is away."""

    wish: Wish
    attempt: int
    generation: int
    consent: int
    trouble: Callable[[BrokerError], None]
    others_wait: Callable[[], bool]

    @property
    def grant_id(self) -> str:
        return self.wish.grant.id


class RedeemRefreshToken:
    """Redeem a grant's refresh token for one scope set, or find that another owner is at it."""

    def __init__(  # noqa: PLR0913 - each is a port or a fact of the process
        self,
        *,
        grants: GrantStore,
        call: ProviderCall,
        receive: Receive,
        cipher: Cipher,
        clock: Clock,
        times: RedeemTimes,
        owner: str,
    ) -> None:
        self._grants = grants
        self._call = call
        self._receive = receive
        self._cipher = cipher
        self._clock = clock
        self._times = times
        self._owner = owner
        self._taken_again: dict[str, GrantState] = {}

    async def __call__(
        self,
        wish: Wish,
        trouble: Callable[[BrokerError], None],
        wanted: Callable[[], Awaitable[bool]],
        others_wait: Callable[[], bool] = lambda: False,
    ) -> Received | None:
        """Return the token, or None while another owner's lease lives, the grant backs off or none is wanted any more.

        Run it in a task of its own: once SENT is committed it must reach its end whoever hangs up.

        Args:
            wish: what to redeem for.
            trouble: told at once when an outcome cannot be stored yet, while storing it goes on.
            wanted: asked under the lease, before anything is spent: another owner may have brought it just before.
            others_wait: asked at the end: whether the lease is to be kept for another scope set, whose redeem follows.

        Raises:
            BrokerError: why there is no token.
        """
        check_one_more(await self._grants.live_scope_sets(wish.grant.id, wish.key), wish.asked_by)
        state = self._taken_again.pop(wish.grant.id, None)
        if state is None:
            state = await self._grants.apply(wish.grant.id, lease.Take(self._owner))
        if state is None:
            return None
        tenure = _Tenure(wish, state.attempt, state.generation, state.consent, trouble, others_wait)
        async with beating(
            self._times.extend_every / 1000,
            lambda: self._grants.apply(tenure.grant_id, lease.Extend(tenure.attempt)),
        ):
            return await self._redeem(tenure, wanted)

    async def give_back(self, grant_id: str) -> None:
        """Free a lease that was kept for others who then did not need it; one that cannot be freed ends by itself."""
        state = self._taken_again.pop(grant_id, None)
        if state is not None:
            with suppress(StoreUnavailableError):
                await self._grants.apply(grant_id, lease.NotSent(state.attempt, 0))

    async def _redeem(self, tenure: _Tenure, wanted: Callable[[], Awaitable[bool]]) -> Received | None:
        try:
            if not await wanted():
                await self._apply(tenure, lease.NotSent(tenure.attempt, 0))
                return None
            await self._call.pay(tenure.wish)
            prepared = await self._prepare(tenure)
            started = self._clock.boottime()
            reading = await self._call.send(
                tenure.wish,
                prepared,
                before_write=lambda: self._take_licence(tenure),
                reply_deadline=self._reply_deadline(tenure.wish.provider) / 1000,
            )
        except BrokerError as error:
            back_off = 0 if isinstance(error, RateLimitedError) else BACK_OFF  # our own limit says when by itself
            await self._apply(tenure, lease.NotSent(tenure.attempt, back_off))
            raise
        received = await self._settle(tenure, reading, started)
        outcome = _outcome_name(reading)
        record = AttemptRecord(
            tenure.grant_id, tenure.attempt, self._owner, prepared.secret_version, outcome, reading.cause
        )
        await self._surely(tenure, lambda: self._grants.record_attempt(record))
        if isinstance(received, BrokerError):
            raise received
        return received

    async def _prepare(self, tenure: _Tenure) -> PreparedCall:
        stored = await self._grants.current_refresh_token(tenure.grant_id)
        if stored is None:
            raise ConsentRequiredError("the grant has no refresh token: a person has to log in, or import one")
        try:
            token = await self._cipher.open(
                stored.sealed,
                refresh_token_binding(tenure.grant_id, stored.consent, stored.attempt, tenure.wish.token_origin),
            )
        except SealBrokenError as error:
            raise ConsentRequiredError(
                "the grant was authorized for another token endpoint; it has to be authorized again",
                cause="token_sealed_elsewhere",
            ) from error
        wish = tenure.wish
        return await self._call.prepare(wish, RefreshToken(token, wish.scope_to_send, wish.key.resource))

    async def _take_licence(self, tenure: _Tenure) -> None:
        """Commit SENT; only within a second of asking may the socket be written, and nothing is awaited after that."""
        asked_at = self._clock.boottime()
        provider = tenure.wish.provider
        window = provider.replay_window
        deadline = self._reply_deadline(provider)
        replay_for = None if window is None else window * 1000 - deadline - self._times.replay_margin
        state = await self._grants.apply(tenure.grant_id, lease.Sent(tenure.attempt, tenure.generation, replay_for))
        if state is None:  # held, or taken by another owner, meanwhile
            raise GrantConflictError("the grant changed at the same moment; try again", cause="withheld")
        if (self._clock.boottime() - asked_at) * 1000 >= self._times.write_within:
            raise NotSentError("withheld")

    def _reply_deadline(self, provider: Provider) -> int:
        """Milliseconds to wait for the reply; a replay window has to leave time for a replay."""
        window = provider.replay_window
        return self._times.refresh_reply if window is None else min(self._times.refresh_reply, window * 1000 // 3)

    async def _settle(self, tenure: _Tenure, reading: Reading, started: float) -> Received | BrokerError:
        """Store what became of the refresh token first; then look at the rest of the reply."""
        match reading.outcome:
            case Outcome.NOT_SENT:
                await self._apply(tenure, lease.NotSent(tenure.attempt, _back_off(reading)))
                return reading.problem()
            case Outcome.NOT_CONSUMED:
                await self._apply(tenure, lease.NotConsumed(tenure.attempt, _back_off(reading)))
                return reading.problem()
            case Outcome.REFUSED:
                return await self._refused(tenure)
            case Outcome.UNKNOWN:
                await self._apply(tenure, lease.Unknown(tenure.attempt))
                return GrantUncertainError(
                    "a refresh token was sent and no usable answer came; it is not sent again until its fate is known",
                    cause=reading.cause,
                )
            case Outcome.LANDED:  # pragma: no branch - the last there is, as mypy knows
                return await self._landed(tenure, reading, started)

    async def _refused(self, tenure: _Tenure) -> BrokerError:
        refused = lease.Refused(tenure.attempt, tenure.generation, tenure.consent)
        record = self._trail(tenure).event(Action.GRANT_QUARANTINE, self._clock.now())
        state = await self._surely(tenure, lambda: self._grants.apply(tenure.grant_id, refused, record=record))
        if state is not None and state.health is Health.QUARANTINED:
            return GrantQuarantinedError(
                "the provider refused the grant; it is kept and has to be authorized again", cause="invalid_grant"
            )
        return GrantConflictError("the grant changed at the same moment; try again", cause="refused_elsewhere")

    async def _landed(self, tenure: _Tenure, reading: Reading, started: float) -> Received | BrokerError:
        if reading.refresh_token is None:
            await self._apply(tenure, lease.NotRotated(tenure.attempt))
        elif not await self._keep(tenure, reading.refresh_token):
            return GrantConflictError("the grant changed at the same moment; try again", cause="landed_elsewhere")
        if reading.tokens is None:
            await self._finish(tenure, None)
            return reading.problem()
        received = self._receive.judge(tenure.wish, reading.tokens, tenure.attempt, started)
        await self._finish(tenure, received.token)
        return received

    async def _keep(self, tenure: _Tenure, token: Secret) -> bool:
        """Keep the received token, first and alone; tell whether it became the grant's current one."""
        origin = tenure.wish.token_origin
        sealed = await self._cipher.seal(
            token, refresh_token_binding(tenure.grant_id, tenure.consent, tenure.attempt, origin)
        )
        land = lease.Land(tenure.attempt, tenure.generation, tenure.consent, self._cipher.fingerprint(token))
        event = self._trail(tenure).event(Action.GRANT_REDEEM, self._clock.now(), fingerprint=land.fingerprint)
        state = await self._surely(tenure, lambda: self._grants.keep_and_land(tenure.grant_id, land, sealed, event))
        return state.current == land.fingerprint

    async def _finish(self, tenure: _Tenure, token: CachedToken | None) -> None:
        sealed = None if token is None else await self._receive.seal(token)

        async def write() -> GrantState | None:
            aged = None if sealed is None or token is None else self._receive.aged(sealed, token)
            finish = lease.Finish(tenure.attempt, self._owner if tenure.others_wait() else None)
            return await self._grants.finish(tenure.grant_id, finish, aged, tenure.wish.asked_by)

        state = await self._surely(tenure, write)
        if state is not None and state.phase is Phase.PREPARED:
            self._taken_again[tenure.grant_id] = state

    async def _apply(self, tenure: _Tenure, event: lease.Event) -> GrantState | None:
        return await self._surely(tenure, lambda: self._grants.apply(tenure.grant_id, event))

    async def _surely(self, tenure: _Tenure, write: Callable[[], Awaitable[T]]) -> T:
        """Repeat a write until the store takes it: what the provider said must not be lost to a short outage.

        The process's end is the only other end; whoever waits is told at the first failure.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                return await write()
            except StoreUnavailableError as error:
                tenure.trouble(error)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)

    def _trail(self, tenure: _Tenure) -> Trail:
        wish = tenure.wish
        return Trail(
            method="redeem",
            peer="",
            request_id=f"{tenure.grant_id}/{tenure.attempt}",
            actor=f"broker:{self._owner}",
            grant=wish.grant.name,
            client=wish.client.name,
            provider=wish.provider.name,
            scopes=" ".join(sorted(wish.asked)),
        )


def _back_off(reading: Reading) -> int:
    """Milliseconds before the next take; a refusal of the scopes says nothing about other scopes."""
    if isinstance(reading.error, ScopeNotGrantedError):
        return 0
    wanted = 0 if reading.retry_after is None else round(reading.retry_after * 1000)
    return min(MAX_BACK_OFF, max(BACK_OFF, wanted))


def _outcome_name(reading: Reading) -> str:
    if reading.outcome is Outcome.LANDED and reading.refresh_token is None:
        return "not_rotated"
    return reading.outcome.value
