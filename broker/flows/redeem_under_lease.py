"""One redeem of a refresh token under a lease (RFC 6749 §6): spent once, its successor kept before anything else.

pay the provider's budget ▸ open the token and the client's secret ▸ connect ▸ SENT, committed: the licence to write
▸ read the reply ▸ KEEP and LAND ▸ what is the access token? ▸ FINISH ▸ note the outcome

The protocol's table stands in `core/lease.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TypeVar

from broker.core import lease
from broker.core.audit import Action
from broker.core.back_off import back_off
from broker.core.errors import (
    BrokerError,
    GrantConflictError,
    GrantUncertainError,
    ProviderRefusedClientError,
    ScopeNotGrantedError,
    StoreUnavailableError,
)
from broker.core.evidence import Landmark
from broker.core.grant_state import GrantState, Health, RedeemTimes
from broker.core.models import Provider
from broker.core.oauth.reply import Outcome, Reading
from broker.core.oauth.rfc6749 import RefreshToken
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.flows.ask_for_login import consent_required, quarantined
from broker.flows.keep_received import KeepReceived
from broker.flows.provider_call import PreparedCall, ProviderCall
from broker.flows.receive import Receive, Received
from broker.flows.token_cache import CachedToken
from broker.flows.trail import Trail
from broker.flows.until_stored import Trouble, until_stored
from broker.flows.wish import Wish, kills_older
from broker.ports import (
    AccessTokenStore,
    AttemptRecord,
    Cipher,
    Clock,
    GrantStore,
    ReceivedToken,
    RedeemTelemetry,
    SealBrokenError,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tenure:
    """One lease of a grant.

    Attributes:
        wish: what is redeemed for.
        state: the row as leased: its attempt, generation and consent fence every write.
        trouble: told at once when an outcome cannot be stored yet, while storing it goes on.
        goes_on: asked at the end whether the lease is to be taken again, in the same commit.
    """

    wish: Wish
    state: GrantState
    trouble: Trouble
    goes_on: Callable[[], bool]

    @property
    def grant_id(self) -> str:
        """The grant's id."""
        return self.wish.grant.id

    @property
    def attempt(self) -> int:
        """The attempt the lease is for."""
        return self.state.attempt


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What came of it: a token, the reason why there is none, or neither when none was wanted; and the row finished."""

    received: Received | BrokerError | None
    finished: GrantState | None = None


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request that was written, or could not be: what was in it, what came of it, and when it began."""

    prepared: PreparedCall
    reading: Reading
    started: float


class RedeemUnderLease:
    """Spends a leased grant's refresh token for one scope set."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        grants: GrantStore,
        access_tokens: AccessTokenStore,
        call: ProviderCall,
        keep_received: KeepReceived,
        receive: Receive,
        cipher: Cipher,
        telemetry: RedeemTelemetry,
        clock: Clock,
        times: RedeemTimes,
        owner: str,
        random: Random,
        noted: Callable[[str, Landmark], None],
    ) -> None:
        """Wire the flow; `noted` is told how far a grant has come, once that is committed."""
        self._grants = grants
        self._access_tokens = access_tokens
        self._call = call
        self._keep_received = keep_received
        self._receive = receive
        self._cipher = cipher
        self._telemetry = telemetry
        self._clock = clock
        self._times = times
        self._owner = owner
        self._random = random
        self._noted = noted

    async def __call__(self, tenure: Tenure, wanted: Callable[[], Awaitable[bool]]) -> Redeemed:
        """Redeem; every outcome is returned, none raised.

        Run it in a task of its own: once SENT is committed it must reach its end whoever hangs up.

        Args:
            tenure: the lease in hand.
            wanted: asked before anything is spent: another owner may have brought the token just before.
        """
        try:
            place = self._keep_received.reserve()
        except BrokerError as error:
            return await self._nothing_sent(tenure, error)
        try:
            try:
                sent = await self._send(tenure) if await wanted() else None
            except BrokerError as error:  # raised before anything was written; what comes later is returned
                return await self._nothing_sent(tenure, error)
            if sent is None:
                return await self._nothing_sent(tenure, None)
            redeemed = await self._settle(tenure, sent, place)
        finally:
            self._keep_received.release(place)
        await self._note(tenure, sent)
        return redeemed

    # --- before ------------------------------------------------------------------------------------------------------

    async def _send(self, tenure: Tenure) -> _Sent:
        """Return what came of the one request.

        Raises:
            BrokerError: nothing was written.
        """
        client, provider = tenure.wish.client, tenure.wish.provider
        await self._call.pay(client, provider, tenure.wish.grant.name)
        prepared = await self._prepare(tenure)
        started = self._clock.boottime()
        reading = await self._call.send(
            client,
            provider,
            prepared,
            before_write=lambda: self._take_licence(tenure, prepared),
            reply_deadline=self._reply_deadline(provider) / 1000,
        )
        return _Sent(prepared, reading, started)

    async def _prepare(self, tenure: Tenure) -> PreparedCall:
        stored = await self._grants.current_refresh_token(tenure.grant_id)
        if stored is None:
            raise consent_required(tenure.wish.grant)
        try:
            token = await self._cipher.open(
                stored.sealed,
                refresh_token_binding(tenure.grant_id, stored.consent, stored.attempt, tenure.wish.token_origin),
            )
        except SealBrokenError as error:
            raise consent_required(tenure.wish.grant, cause="token_sealed_elsewhere") from error
        wish = tenure.wish
        grant = RefreshToken(token, wish.scope_to_send, wish.key.resource)
        return await self._call.prepare(wish.client, wish.provider, grant)

    async def _take_licence(self, tenure: Tenure, prepared: PreparedCall) -> None:
        """Commit SENT; only within a second of asking may the socket be written, and nothing is awaited after that."""
        asked_at = self._clock.boottime()
        provider = tenure.wish.provider
        sent = lease.Sent(tenure.attempt, tenure.state.generation, self._replay_for(provider))
        state = await self._grants.licence(sent, self._record(tenure, prepared, "", ""))
        if state is None:  # held, or taken by another owner, meanwhile
            raise GrantConflictError("the grant changed at the same moment; try again", cause="withheld")
        self._noted(tenure.grant_id, Landmark(tenure.attempt, state.generation))
        if (self._clock.boottime() - asked_at) * 1000 >= self._times.write_within:
            raise StoreUnavailableError("the database took too long; nothing was sent, try again", cause="withheld")

    def _replay_for(self, provider: Provider) -> int | None:
        """Milliseconds from its first send in which a token may be sent again, if the provider has such a window."""
        window = provider.replay_window
        return None if window is None else window * 1000 - self._reply_deadline(provider) - self._times.replay_margin

    def _reply_deadline(self, provider: Provider) -> int:
        """Milliseconds to wait for the reply; a replay window has to leave time for a replay."""
        said, window = provider.refresh_reply_deadline, provider.replay_window
        longest = self._times.refresh_reply if said is None else said * 1000
        return longest if window is None else min(longest, window * 1000 // 3)

    # --- after -------------------------------------------------------------------------------------------------------

    async def _nothing_sent(self, tenure: Tenure, error: BrokerError | None) -> Redeemed:
        """Free the lease at once: what went wrong before the provider was asked says nothing about the grant."""
        await self._apply(tenure, lease.NotSent(tenure.attempt, 0))
        return Redeemed(error)

    async def _settle(self, tenure: Tenure, sent: _Sent, place: int) -> Redeemed:
        """Store what became of the refresh token first; then look at the rest of the reply."""
        reading = sent.reading
        wait = self._wait(tenure, reading)
        match reading.outcome:
            case Outcome.NOT_SENT:
                await self._apply(tenure, lease.NotSent(tenure.attempt, wait))
                return Redeemed(reading.problem())
            case Outcome.NOT_CONSUMED:
                await self._apply(tenure, lease.NotConsumed(tenure.attempt, wait))
                return Redeemed(reading.problem())
            case Outcome.REFUSED:
                return Redeemed(await self._refused(tenure))
            case Outcome.UNKNOWN:
                await self._apply(tenure, lease.Unknown(tenure.attempt, wait))
                return Redeemed(uncertain(reading.cause))
            case Outcome.LANDED:  # pragma: no branch - the last there is, as mypy knows
                return await self._landed(tenure, sent, place)

    async def _refused(self, tenure: Tenure) -> BrokerError:
        state, replay_for = tenure.state, self._replay_for(tenure.wish.provider)
        refused = lease.Refused(tenure.attempt, state.generation, state.consent, replay_for)
        record = self._trail(tenure).event(Action.GRANT_QUARANTINE, self._clock.now())
        write = partial(self._grants.apply, tenure.grant_id, refused, record=record)
        left = await self._surely(tenure, "Refused", write)
        if left is not None and left.health is Health.QUARANTINED:
            return quarantined(tenure.wish.grant, cause="invalid_grant")
        return GrantConflictError("the grant changed at the same moment; try again", cause="refused_elsewhere")

    async def _keep(self, tenure: Tenure, token: Secret, place: int) -> bool:
        """Keep the received token, first and alone; tell whether it became the grant's current one."""
        state = tenure.state
        binding = refresh_token_binding(tenure.grant_id, state.consent, tenure.attempt, tenure.wish.token_origin)
        sealed = await self._cipher.seal(token, binding)
        land = lease.Land(tenure.attempt, state.generation, state.consent, self._cipher.fingerprint(token))
        event = self._trail(tenure).event(Action.GRANT_REDEEM, self._clock.now(), fingerprint=land.fingerprint)
        received = ReceivedToken(tenure.grant_id, land, sealed, event, announce=kills_older(tenure.wish))
        after = await self._keep_received(received, place, tenure.trouble)
        self._noted(tenure.grant_id, Landmark(after.attempt, after.generation))
        return after.current == land.fingerprint

    async def _landed(self, tenure: Tenure, sent: _Sent, place: int) -> Redeemed:
        reading = sent.reading
        if reading.refresh_token is None:
            await self._not_rotated(tenure)
        elif not await self._keep(tenure, reading.refresh_token, place):
            return Redeemed(
                GrantConflictError("the grant changed at the same moment; try again", cause="landed_elsewhere")
            )
        if reading.tokens is None:
            return Redeemed(reading.problem(), await self._finish(tenure, None))
        received = self._receive.judge(tenure.wish, reading.tokens, tenure.attempt, sent.started)
        return Redeemed(received, await self._finish(tenure, received.token))

    async def _not_rotated(self, tenure: Tenure) -> None:
        event, announce = lease.NotRotated(tenure.attempt), kills_older(tenure.wish)
        write = partial(self._grants.apply, tenure.grant_id, event, announce=announce)
        await self._surely(tenure, "NotRotated", write)

    async def _finish(self, tenure: Tenure, token: CachedToken | None) -> GrantState | None:
        """Store the access token and free the lease, or take it again for the next set that waits here."""
        sealed = None if token is None else await self._receive.seal(token)
        finish = lease.Finish(tenure.attempt, self._owner if tenure.goes_on() else None)

        async def write() -> GrantState | None:
            aged = None if sealed is None or token is None else self._receive.aged(sealed, token)
            return await self._access_tokens.finish(tenure.grant_id, finish, aged, tenure.wish.asked_by)

        return await self._surely(tenure, "Finish", write)

    async def _note(self, tenure: Tenure, sent: _Sent) -> None:
        """Note the outcome in the grant's history: nothing more will come of this send."""
        record = self._record(tenure, sent.prepared, _outcome_name(sent.reading), sent.reading.cause)
        await self._surely(tenure, "note", lambda: self._grants.record_attempt(record))

    def _record(self, tenure: Tenure, prepared: PreparedCall, outcome: str, cause: str) -> AttemptRecord:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return AttemptRecord(tenure.grant_id, tenure.attempt, self._owner, prepared.secret_version, now, outcome, cause)

    async def _apply(self, tenure: Tenure, event: lease.Event) -> GrantState | None:
        return await self._surely(tenure, type(event).__name__, lambda: self._grants.apply(tenure.grant_id, event))

    async def _surely(self, tenure: Tenure, step: str, write: Callable[[], Awaitable[T | None]]) -> T | None:
        """Write, however long the store is away; what it refuses for good is told, and the lease ends by itself."""
        try:
            return await until_stored(write, tenure.trouble)
        except StoreUnavailableError as error:
            self._telemetry.store_refused(tenure.grant_id, step, error.cause)
            return None

    def _wait(self, tenure: Tenure, reading: Reading) -> int:
        """Milliseconds before the next redeem; what says nothing about this grant makes nobody wait for it."""
        if isinstance(reading.error, ScopeNotGrantedError | ProviderRefusedClientError):
            return 0
        return back_off(tenure.state.failures, reading.retry_after, self._random.random())

    def _trail(self, tenure: Tenure) -> Trail:
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


def uncertain(cause: str = "", retry_after: float | None = None) -> GrantUncertainError:
    """Return what those are told who want a token of a grant in doubt."""
    return GrantUncertainError(
        "a refresh token was sent and no usable answer came; it is not sent again until its fate is known",
        cause=cause,
        retry_after=retry_after,
    )


def _outcome_name(reading: Reading) -> str:
    if reading.outcome is Outcome.LANDED and reading.refresh_token is None:
        return "not_rotated"
    return reading.outcome.value
