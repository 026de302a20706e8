"""The redeem protocol: how a rotating refresh token is spent so that it is neither lost nor spent twice.

`step(state, event, now, times)` is the specification; the stores carry the same conditions as one-row conditional
statements and one contract suite holds both to it. A step that returns None did not happen: somebody else moved the
grant, and whoever tried must look again before doing anything.

Three independent facts, so that a freeze during a redeem overwrites nothing:

    phase   idle | prepared | sent | landed | unknown    the redeem
    health  ok | quarantined                             the provider's verdict
    hold    none | frozen | revoking | revoked           ours

`attempt` fences owners, `generation` counts refresh tokens, `consent` counts logins; all three only grow. `epoch`
counts changes of the authorization and belongs to the key of cached access tokens. Clocks only give liveness (a lease
ends); safety rests on attempt, generation, consent and `first_sent_at`.

A token is "new" when it belongs to this grant and consent, was never sent, never refused and is not the current one.

    Step           Moves                                             Condition
    ─────────────  ────────────────────────────────────────────────  ───────────────────────────────────────────────
    Take           idle → prepared; attempt+1, owner, lease          hold=none, health=ok, nothing sent and in doubt,
                                                                     not_before passed, a token is there; idle, or
                                                                     prepared/landed whose lease is over
    Extend         lease from now                                    attempt; prepared, sent or landed
    Sent           prepared → sent; first_sent_at, replay_until,     attempt, generation, prepared, hold=none, lease
                   sends+1; its commit is the licence to write       not over
    Keep           the reply's refresh token is inserted             none: unconditional, in Land's transaction
    Land           current=new, generation+1, doubt cleared, ok;     generation, consent, hold in {none, frozen},
                   landed if attempt is mine, else idle, attempt+1   (attempt is mine or phase≠sent); never the lease
    NotRotated     landed, doubt cleared, same generation            attempt; sent or unknown
    NotSent        back to idle, or to unknown while an earlier      attempt; prepared or sent
                   send is in doubt; sends-1 if counted; not_before;
                   the token unsent again if this was its first send
    NotConsumed    as NotSent, the send stays counted                attempt, sent
    Refused        token refused; then the newest new token,         attempt, generation, consent, sent
                   else quarantined
    Unknown        sent → unknown                                    sent, and attempt is mine or the lease is over
    Finish         landed → idle; its owner may take it again in     attempt, landed
                   the same transaction, for the next who waits
    Consented      consent, generation, attempt, epoch +1; current,  hold=none
                   idle, ok, doubt cleared; a token kept already and
                   never used is sealed anew, of this login

Not in the table of the first draft and added here: NotSent from `prepared` (a connection refused before the licence
to write was taken gives the lease back at once instead of making others wait for its end).

NotRotated counts from `unknown` too: others may say so once the lease is over, while the owner still reads a good
reply. Whoever would send again has to raise the attempt, which fences that owner off.

Refused has no token in doubt to fall back to: a token leaves `current` only when it was rotated, refused or belongs to
an older login, and a rotated token is spent, so sending it would be reuse. A step that replaces a token whose fate is
open (the adoption of a successor) has to mark the one it replaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from broker.core.grant_state import GrantState, Health, Hold, KeptToken, Phase, RedeemTimes, is_new, was_used


@dataclass(frozen=True, slots=True)
class Take:
    """Lease the grant for one redeem."""

    owner: str


@dataclass(frozen=True, slots=True)
class Extend:
    """Keep the lease while its owner lives."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Ask for the licence to write; `replay_for` is the provider's window less deadline and margin, if it has one."""

    attempt: int
    generation: int
    replay_for: int | None


@dataclass(frozen=True, slots=True)
class Land:
    """Keep a received refresh token and make it current."""

    attempt: int
    generation: int
    consent: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class NotRotated:
    """The reply was good and held no refresh token."""

    attempt: int


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte was written; `back_off` milliseconds before the next take."""

    attempt: int
    back_off: int


@dataclass(frozen=True, slots=True)
class NotConsumed:
    """The provider answered without reading the token; `back_off` milliseconds before the next take."""

    attempt: int
    back_off: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider answered `invalid_grant`."""

    attempt: int
    generation: int
    consent: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether the token was consumed; without `attempt` it is said by anyone after the lease."""

    attempt: int | None


@dataclass(frozen=True, slots=True)
class Finish:
    """The access token is stored; the lease is free, or taken at once by `again`, whom others of the grant wait for."""

    attempt: int
    again: str | None = None


@dataclass(frozen=True, slots=True)
class Consented:
    """A login or an import brought a first refresh token."""

    fingerprint: str


Event = Take | Extend | Sent | Land | NotRotated | NotSent | NotConsumed | Refused | Unknown | Finish | Consented


def step(state: GrantState, event: Event, now: int, times: RedeemTimes) -> GrantState | None:  # noqa: C901, PLR0911 - a row of the table each
    """Return the grant after `event`, or None when the step's condition does not hold.

    Args:
        state: the grant as its row says.
        event: what somebody wants to happen.
        now: milliseconds of the store's clock.
        times: the protocol's durations.
    """
    match event:
        case Take():
            return _take(state, event, now, times)
        case Extend():
            return _extend(state, event, now, times)
        case Sent():
            return _sent(state, event, now, times)
        case Land():
            return _land(state, event, now)
        case NotRotated():
            return _not_rotated(state, event)
        case NotSent():
            return _not_sent(state, event, now)
        case NotConsumed():
            return _not_consumed(state, event, now)
        case Refused():
            return _refused(state, event, now)
        case Unknown():
            return _unknown(state, event, now)
        case Finish():
            return _finish(state, event, now, times)
        case Consented():
            return _consented(state, event, now)
        case _:
            assert_never(event)


def _lease_over(state: GrantState, now: int) -> bool:
    return state.lease_until <= now


def _keep(state: GrantState, fingerprint: str, consent: int, attempt: int, now: int) -> tuple[KeptToken, ...]:
    if any(token.fingerprint == fingerprint for token in state.tokens):
        return state.tokens
    return (*state.tokens, KeptToken(fingerprint, consent, attempt, received_at=now))


def _keep_anew(state: GrantState, fingerprint: str, consent: int, attempt: int, now: int) -> tuple[KeptToken, ...]:
    """Keep a token as received now; one that was sent or refused stays as it is."""
    others = tuple(token for token in state.tokens if token.fingerprint != fingerprint or was_used(token))
    return _keep(replace(state, tokens=others), fingerprint, consent, attempt, now)


def _take(state: GrantState, event: Take, now: int, times: RedeemTimes) -> GrantState | None:
    free = state.phase is Phase.IDLE or (state.phase in {Phase.PREPARED, Phase.LANDED} and _lease_over(state, now))
    if (
        state.current is None
        or state.hold is not Hold.NONE
        or state.health is not Health.OK
        or state.first_sent_at is not None
        or state.not_before > now
        or not free
    ):
        return None
    return replace(
        state,
        phase=Phase.PREPARED,
        attempt=state.attempt + 1,
        owner=event.owner,
        lease_until=now + times.lease,
    )


def _extend(state: GrantState, event: Extend, now: int, times: RedeemTimes) -> GrantState | None:
    if state.attempt != event.attempt or state.phase not in {Phase.PREPARED, Phase.SENT, Phase.LANDED}:
        return None
    return replace(state, lease_until=now + times.lease)


def _sent(state: GrantState, event: Sent, now: int, times: RedeemTimes) -> GrantState | None:
    if (
        state.attempt != event.attempt
        or state.phase is not Phase.PREPARED
        or state.generation != event.generation
        or state.hold is not Hold.NONE
        or _lease_over(state, now)
    ):
        return None
    first_sent_at = now if state.first_sent_at is None else state.first_sent_at
    tokens = tuple(
        replace(token, first_sent_at=first_sent_at)
        if token.fingerprint == state.current and token.first_sent_at is None
        else token
        for token in state.tokens
    )
    window_end = None if event.replay_for is None else now + event.replay_for
    return replace(
        state,
        phase=Phase.SENT,
        first_sent_at=first_sent_at,
        replay_until=window_end if state.replay_until is None else state.replay_until,
        sends=state.sends + 1,
        lease_until=now + times.lease,
        tokens=tokens,
    )


def _land(state: GrantState, event: Land, now: int) -> GrantState:
    """Keep unconditionally; move `current` only when the fences allow it."""
    kept = replace(state, tokens=_keep(state, event.fingerprint, event.consent, event.attempt, now))
    mine = state.attempt == event.attempt
    if (
        state.generation != event.generation
        or state.consent != event.consent
        or state.hold not in {Hold.NONE, Hold.FROZEN}
        or not (mine or state.phase is not Phase.SENT)
    ):
        return kept
    return replace(
        kept,
        current=event.fingerprint,
        generation=state.generation + 1,
        phase=Phase.LANDED if mine else Phase.IDLE,
        attempt=state.attempt if mine else state.attempt + 1,
        health=Health.OK,
        first_sent_at=None,
        replay_until=None,
        sends=0,
        probes=0,
    )


def _not_rotated(state: GrantState, event: NotRotated) -> GrantState | None:
    if state.attempt != event.attempt or state.phase not in {Phase.SENT, Phase.UNKNOWN}:
        return None
    return replace(state, phase=Phase.LANDED, first_sent_at=None, replay_until=None, sends=0, probes=0)


def _give_back(state: GrantState, sends: int, in_doubt: bool, not_before: int) -> GrantState:  # noqa: FBT001 - private
    if in_doubt:
        return replace(state, phase=Phase.UNKNOWN, sends=sends, not_before=not_before)
    return replace(state, phase=Phase.IDLE, sends=0, first_sent_at=None, replay_until=None, not_before=not_before)


def _not_sent(state: GrantState, event: NotSent, now: int) -> GrantState | None:
    if state.attempt != event.attempt or state.phase not in {Phase.PREPARED, Phase.SENT}:
        return None
    sends = state.sends - 1 if state.phase is Phase.SENT else state.sends
    back = _give_back(state, sends, in_doubt=sends > 0, not_before=now + event.back_off)
    return replace(back, tokens=_unsent(state)) if (state.phase, state.sends) == (Phase.SENT, 1) else back


def _unsent(state: GrantState) -> tuple[KeptToken, ...]:
    """Take back that the current token was sent, unless an earlier send, told by its own time, was written."""
    return tuple(
        replace(token, first_sent_at=None)
        if token.fingerprint == state.current and token.first_sent_at == state.first_sent_at
        else token
        for token in state.tokens
    )


def _not_consumed(state: GrantState, event: NotConsumed, now: int) -> GrantState | None:
    if state.attempt != event.attempt or state.phase is not Phase.SENT:
        return None
    return _give_back(state, state.sends, in_doubt=state.sends > 1, not_before=now + event.back_off)


def _refused(state: GrantState, event: Refused, now: int) -> GrantState | None:
    if (
        state.attempt != event.attempt
        or state.generation != event.generation
        or state.consent != event.consent
        or state.phase is not Phase.SENT
    ):
        return None
    tokens = tuple(
        replace(token, refused_at=now) if token.fingerprint == state.current else token for token in state.tokens
    )
    refused = replace(state, tokens=tokens, phase=Phase.IDLE, first_sent_at=None, replay_until=None, sends=0, probes=0)
    fresh = [token for token in tokens if is_new(state, token)]
    if fresh:
        newest = max(fresh, key=_age)
        return replace(refused, current=newest.fingerprint, generation=state.generation + 1, attempt=state.attempt + 1)
    return replace(refused, health=Health.QUARANTINED)


def _age(token: KeptToken) -> tuple[int, int, str]:
    return (token.received_at, token.attempt, token.fingerprint)


def _unknown(state: GrantState, event: Unknown, now: int) -> GrantState | None:
    if state.phase is not Phase.SENT:
        return None
    mine = event.attempt is not None and state.attempt == event.attempt
    if not mine and not (event.attempt is None and _lease_over(state, now)):
        return None
    return replace(state, phase=Phase.UNKNOWN)


def _finish(state: GrantState, event: Finish, now: int, times: RedeemTimes) -> GrantState | None:
    if state.attempt != event.attempt or state.phase is not Phase.LANDED:
        return None
    idle = replace(state, phase=Phase.IDLE)
    taken = None if event.again is None else _take(idle, Take(event.again), now, times)
    return taken or idle


def _consented(state: GrantState, event: Consented, now: int) -> GrantState | None:
    if state.hold is not Hold.NONE:
        return None
    consent = state.consent + 1
    attempt = state.attempt + 1
    return replace(
        state,
        tokens=_keep_anew(state, event.fingerprint, consent, attempt, now),
        consent=consent,
        generation=state.generation + 1,
        epoch=state.epoch + 1,
        attempt=attempt,
        current=event.fingerprint,
        phase=Phase.IDLE,
        health=Health.OK,
        first_sent_at=None,
        replay_until=None,
        sends=0,
        probes=0,
        not_before=0,
    )
