"""The redeem protocol: how a rotating refresh token is spent so that it is neither lost nor spent twice.

`step(state, event, now, times)` is the specification; the stores carry the same conditions as one-row conditional
statements, one contract suite holds both to it, and a model checker (`tests/model`) drives it against providers,
crashes and outages. A step that returns None did not happen: somebody else moved the grant, and whoever tried must look
again before doing anything.

`attempt` fences owners, `generation` counts refresh tokens, `consent` counts logins; all three only grow. Clocks only
give liveness (a lease ends); safety rests on attempt, generation, consent and `first_sent_at`.

A token is "new" when it belongs to this grant and consent, was never sent, never refused and is not the current one.
A grant is "in doubt" while `first_sent_at` is set: a token was sent, and nobody knows yet whether it was taken.

    Step           Moves                                             Condition
    ─────────────  ────────────────────────────────────────────────  ───────────────────────────────────────────────
    Take           idle → prepared; attempt+1, owner, lease          hold=none, health=ok, not in doubt, not_before
                                                                     passed, a token is there; idle, or prepared/landed
                                                                     whose lease is over
    Extend         lease from now                                    attempt; prepared, sent or landed
    Sent           prepared → sent; in doubt, replay_until, sends+1, attempt, generation, prepared, hold=none, lease
                   an open send; its commit is the licence to write  not over; not in doubt, or a probe, or now <
                                                                     replay_until
    Keep           the reply's refresh token is inserted             none: unconditional, in Land's transaction
    Land           current=new, generation+1, doubt cleared, ok;     generation, consent, hold in {none, frozen},
                   landed if attempt is mine, else idle, attempt+1   (attempt is mine or phase≠sent); never the lease
    NotRotated     landed, doubt cleared, same generation            attempt; sent or unknown
    NotSent        back to idle, or to unknown while an earlier      attempt; prepared; or sent or unknown with the
                   send is in doubt; sends-1 if counted; back-off;   attempt's own send open
                   the token unsent again if this was its first
                   send; the send is open no more
    NotConsumed    as NotSent, the send stays counted                attempt; sent or unknown
    Refused        token refused; then the newest new token, else    attempt, generation, consent; sent or unknown
                   the doubted one as unknown, with its window, if
                   that is open or it is not known to be spent;
                   else quarantined
    Unknown        sent → unknown; prepared in doubt → unknown       sent and attempt is mine; or sent, or prepared in
                                                                     doubt, and the lease is over
    Closed         the send is open no more                          none: its owner says that nothing more comes of it
    Adopt          current = newest new token, generation+1,         a new token; unknown or quarantined; hold in
                   attempt+1 → idle, ok; the replaced token is       {none, frozen}
                   doubted unless the new one descends from it and
                   its window, if it has one, is over
    Replay         unknown → prepared; attempt+1, owner, lease       no new token; now < replay_until; sends < 3; hold,
                                                                     health, not_before as Take
    Probe          as Replay; probes=1                               no new token; no window, or it is over; settled;
                                                                     hold, health, not_before as Take
    Settle         settled_at                                        unknown: an operator's word
    Finish         landed → idle; its owner may take it again in     attempt, landed
                   the same transaction, for the next who waits
    Consented      consent, generation, attempt, epoch +1; current,  hold=none
                   idle, ok, doubt cleared; a token kept already and
                   never used is sealed anew, of this login
    Freeze         hold none → frozen                                -
    Unfreeze       hold frozen → none                                -
    Release        hold frozen → none; attempt and generation at     -
                   least those of the evidence; or nothing is
                   current any more
    Revoke         hold → revoking; epoch+1                          hold in {none, frozen}; in any phase
    TokenRevoked   the provider was told of a token; its sealed      -
                   value is gone
    Revoked        hold → revoked                                    revoking; prepared or sent only with the lease
                                                                     over; the provider was told of every token that it
                                                                     did not refuse

Why each of the less obvious conditions is there; the checker finds the loss without it:

- Adopt before Replay and Probe: a token that was never sent may be the live successor of the one in doubt.
- Sent looks at the window once more: a replay that waited for permits or a connection may have outlived it.
- A `prepared` replay whose lease ends is `unknown` again, never idle: nothing was sent by it, but the doubt is older.
- Land asks for no lease: what was received is kept and, while nobody else is sending, made current.
- What the owner learnt of its own send counts from `unknown` too: others may say that once the lease is over, while the
  owner was paused or still reads. Whoever would send again has to raise the attempt, which fences that owner off.
- NotSent from `prepared` gives the lease back at once instead of making others wait for its end. It closes its send:
  said twice, since the answer of the first commit was lost, it must not be taken off the count twice.
- A token of so long ago that spent ones of its time are forgotten may be one of them, brought once more by a journal
  that was away: kept, but not new.
- A probe may follow a probe that nobody answered, once that is settled as well: what the first could have cost is lost
  already, and else a provider that is away for some minutes, or two crashes, would end a grant whose token still lives.
- A probe that was not sent, or not read, is none: it taught nothing and risked nothing.
- A token leaves `current` when it was rotated, refused, of an older login, or adopted away. Only the last can leave its
  fate open; if the adopted one descends from it, it is spent, and sent again only inside its window: a later send whose
  answer was lost may have ended the adopted one.
- Open sends outlive the doubt they belong to: a successor in a dead owner's journal is live whatever came since.
- Release lets attempts and generations go on from the evidence: they only grow, also over a restore of a backup.
- A token kept while the grant is revoking or revoked, or of an older consent, is revoked at the provider by whoever
  kept it: that is no step of the row but follows from the state after Land.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, assert_never

from broker.core.grant_state import (
    GrantState,
    Health,
    Hold,
    KeptToken,
    OpenSend,
    Phase,
    RedeemTimes,
    current_token,
    lease_over,
    newest_new,
    was_exchanged,
    was_used,
)

MAX_SENDS: Final = 3
"""Sends of one token inside its replay window."""

GENERATIONS_KEPT: Final = 100
"""Spent tokens of so many generations stay: to be known again if somebody brings one, and to be revoked."""


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
    """No byte was written; `back_off` milliseconds before the next take, 0 where nothing failed."""

    attempt: int
    back_off: int


@dataclass(frozen=True, slots=True)
class NotConsumed:
    """The provider answered without reading the token; `back_off` milliseconds before the next take."""

    attempt: int
    back_off: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider answered `invalid_grant`; `replay_for` is that of Sent."""

    attempt: int
    generation: int
    consent: int
    replay_for: int | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether the token was consumed; without `attempt` it is said by anyone after the lease."""

    attempt: int | None
    back_off: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """The owner of an attempt says that nothing more will come of its send."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """Turn to a token that was received and never sent."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Lease a grant in doubt to send the same token again, inside the provider's window."""

    owner: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Lease a grant in doubt to send the token once more, because nothing else can tell its fate."""

    owner: str
    settled: bool


@dataclass(frozen=True, slots=True)
class Settle:
    """An operator says that no journal holds anything of this grant."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The access token is stored; the lease is free, or taken at once by `again`, whom others of the grant wait for."""

    attempt: int
    again: str | None = None


@dataclass(frozen=True, slots=True)
class Consented:
    """A login or an import brought a first refresh token."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """Operators hold the grant."""


@dataclass(frozen=True, slots=True)
class Unfreeze:
    """Operators let it go."""


@dataclass(frozen=True, slots=True)
class Release:
    """Operators let a suspect go, of which there was evidence of so much; `abandon`: its token is not used again."""

    attempt: int
    generation: int
    abandon: bool


@dataclass(frozen=True, slots=True)
class Revoke:
    """Operators end the grant; from here on it gives nothing."""


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """The provider was told that a token ends, or there is no way to tell it."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """Nothing of the grant is left."""


Recovery = Adopt | Replay | Probe | Settle
Ops = Freeze | Unfreeze | Release | Revoke | TokenRevoked | Revoked
Outcome = Land | NotRotated | NotSent | NotConsumed | Refused | Unknown | Closed
Event = Take | Extend | Sent | Outcome | Finish | Consented | Recovery | Ops

OF_THEIR_OWN: Final = (Land, Consented, Sent, Closed, Probe, Settle, Freeze, Unfreeze, Release, Revoke)
"""Steps that carry a token, depend on more than the row, or change what every replica has to hear of."""


def step(state: GrantState, event: Event, now: int, times: RedeemTimes) -> GrantState | None:  # noqa: C901, PLR0911, PLR0912 - a row of the table each
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
        case Closed():
            return _closed(state, event)
        case Finish():
            return _finish(state, event, now, times)
        case Consented():
            return _consented(state, event, now)
        case Adopt():
            return _adopt(state, now)
        case Replay():
            return _replay(state, event, now, times)
        case Probe():
            return _probe(state, event, now, times)
        case Settle():
            return replace(state, settled_at=now) if state.phase is Phase.UNKNOWN else None
        case Freeze():
            return replace(state, hold=Hold.FROZEN) if state.hold is Hold.NONE else None
        case Unfreeze():
            return replace(state, hold=Hold.NONE) if state.hold is Hold.FROZEN else None
        case Release():
            return _release(state, event)
        case Revoke():
            return _revoke(state)
        case TokenRevoked():
            return _token_revoked(state, event, now)
        case Revoked():
            return _revoked(state, now)
        case _:
            assert_never(event)


def _keep(state: GrantState, received: KeptToken) -> tuple[KeptToken, ...]:
    """Keep a token; one that is there, since a provider gives it again and again, is as young as it came last."""
    if all(token.fingerprint != received.fingerprint for token in state.tokens):
        return (*state.tokens, received)
    return tuple(
        replace(token, generation=max(token.generation, received.generation))
        if token.fingerprint == received.fingerprint
        else token
        for token in state.tokens
    )


def _keep_anew(state: GrantState, received: KeptToken) -> tuple[KeptToken, ...]:
    """Keep a token as received now; one that was sent or refused stays as it is."""
    same = next((token for token in state.tokens if token.fingerprint == received.fingerprint), None)
    if same is not None and was_used(same):
        return state.tokens
    return (*(token for token in state.tokens if token is not same), received)


def _may_begin(state: GrantState, now: int) -> bool:
    """Tell whether a redeem may begin at all, whatever the phase."""
    return (
        state.current is not None and state.hold is Hold.NONE and state.health is Health.OK and state.not_before <= now
    )


def _prepared(state: GrantState, owner: str, now: int, times: RedeemTimes) -> GrantState:
    return replace(state, phase=Phase.PREPARED, attempt=state.attempt + 1, owner=owner, lease_until=now + times.lease)


def _no_doubt(state: GrantState) -> GrantState:
    return replace(state, first_sent_at=None, replay_until=None, sends=0, probes=0)


def _take(state: GrantState, event: Take, now: int, times: RedeemTimes) -> GrantState | None:
    free = state.phase is Phase.IDLE or (state.phase in {Phase.PREPARED, Phase.LANDED} and lease_over(state, now))
    if not free or not _may_begin(state, now) or state.first_sent_at is not None:
        return None
    return _prepared(state, event.owner, now, times)


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
        or lease_over(state, now)
        or not (state.first_sent_at is None or state.probes > 0 or _in_window(state, now))
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
        last_sent_at=now,
        sends=state.sends + 1,
        lease_until=now + times.lease,
        tokens=tokens,
        open_sends=(*state.open_sends, OpenSend(event.attempt, state.owner or "", now)),
    )


def _land(state: GrantState, event: Land, now: int) -> GrantState:
    """Keep unconditionally; move `current` only when the fences allow it."""
    received = KeptToken(event.fingerprint, event.consent, event.attempt, event.generation, received_at=now)
    if may_be_forgotten(state, event):
        received = replace(received, first_sent_at=now)
    kept = replace(state, tokens=_keep(state, received))
    mine = state.attempt == event.attempt
    if (
        state.generation != event.generation
        or state.consent != event.consent
        or state.hold not in {Hold.NONE, Hold.FROZEN}
        or not (mine or state.phase is not Phase.SENT)
    ):
        return kept
    return replace(
        _no_doubt(kept),
        current=event.fingerprint,
        doubted=None,
        generation=state.generation + 1,
        phase=Phase.LANDED if mine else Phase.IDLE,
        attempt=state.attempt if mine else state.attempt + 1,
        landed=max(state.landed, event.attempt),
        health=Health.OK,
        failures=0,
    )


def may_be_forgotten(state: GrantState, event: Land) -> bool:
    """Tell whether a token, if it was spent, would be known no more: it must not be taken for a new one."""
    return event.generation < state.generation - GENERATIONS_KEPT


def _not_rotated(state: GrantState, event: NotRotated) -> GrantState | None:
    if not _own_send(state, event.attempt):
        return None
    return replace(_no_doubt(state), phase=Phase.LANDED, doubted=None, landed=event.attempt, failures=0)


def _own_send(state: GrantState, attempt: int) -> bool:
    """Tell whether the send whose fate is asked for is this attempt's, as far as the row knows."""
    return state.attempt == attempt and state.phase in {Phase.SENT, Phase.UNKNOWN}


def _give_back(state: GrantState, sends: int, in_doubt: bool, back_off: int, now: int) -> GrantState:  # noqa: FBT001 - private
    back = replace(state, not_before=now + back_off, failures=state.failures + 1 if back_off else state.failures)
    if in_doubt:
        return replace(back, phase=Phase.UNKNOWN, sends=sends, probes=0)
    return replace(_no_doubt(back), phase=Phase.IDLE)


def _not_sent(state: GrantState, event: NotSent, now: int) -> GrantState | None:
    counted = any(send.attempt == event.attempt for send in state.open_sends)
    mine = state.attempt == event.attempt
    if not mine or not (state.phase is Phase.PREPARED or (counted and _own_send(state, event.attempt))):
        return None
    sends = state.sends - 1 if counted else state.sends
    back = _give_back(_closed(state, Closed(event.attempt)), sends, sends > 0, event.back_off, now)
    return replace(back, tokens=_unsent(state)) if counted and state.sends == 1 else back


def _unsent(state: GrantState) -> tuple[KeptToken, ...]:
    """Take back that the current token was sent, unless an earlier send, told by its own time, was written."""
    return tuple(
        replace(token, first_sent_at=None)
        if token.fingerprint == state.current and token.first_sent_at == state.first_sent_at
        else token
        for token in state.tokens
    )


def _not_consumed(state: GrantState, event: NotConsumed, now: int) -> GrantState | None:
    if not _own_send(state, event.attempt):
        return None
    return _give_back(state, state.sends, state.sends > 1, event.back_off, now)


def _refused(state: GrantState, event: Refused, now: int) -> GrantState | None:
    fenced = (state.generation, state.consent) != (event.generation, event.consent)
    if fenced or not _own_send(state, event.attempt):
        return None
    tokens = tuple(
        replace(token, refused_at=now) if token.fingerprint == state.current else token for token in state.tokens
    )
    refused = replace(_no_doubt(state), tokens=tokens, phase=Phase.IDLE)
    newest = newest_new(refused)
    if newest is not None:
        return _turned_to(refused, newest.fingerprint)
    doubted = next((token for token in tokens if token.fingerprint == state.doubted), None)
    replay_until = None if doubted is None else _window_of(doubted, event.replay_for)
    if doubted is None or (was_exchanged(refused, doubted) and (replay_until or 0) <= now):
        return replace(refused, health=Health.QUARANTINED)
    return replace(
        _turned_to(refused, doubted.fingerprint),
        doubted=None,
        phase=Phase.UNKNOWN,
        first_sent_at=doubted.first_sent_at,
        replay_until=replay_until,
        sends=1,
    )


def _window_of(token: KeptToken, replay_for: int | None) -> int | None:
    """Return until when a token may be sent again; a time before 0 is of another boot, and tells nothing."""
    if replay_for is None or token.first_sent_at is None or token.first_sent_at < 0:
        return None
    return token.first_sent_at + replay_for


def _turned_to(state: GrantState, fingerprint: str) -> GrantState:
    return replace(
        state, current=fingerprint, generation=state.generation + 1, attempt=state.attempt + 1, health=Health.OK
    )


def _unknown(state: GrantState, event: Unknown, now: int) -> GrantState | None:
    in_doubt = state.phase is Phase.SENT or (state.phase is Phase.PREPARED and state.first_sent_at is not None)
    if event.attempt is None:
        happens = in_doubt and lease_over(state, now)
    else:
        happens = state.phase is Phase.SENT and state.attempt == event.attempt
    if not happens:
        return None
    probes = 0 if state.phase is Phase.PREPARED else state.probes  # what was prepared was not sent
    return replace(state, phase=Phase.UNKNOWN, probes=probes, not_before=max(state.not_before, now + event.back_off))


def _closed(state: GrantState, event: Closed) -> GrantState:
    return replace(state, open_sends=tuple(send for send in state.open_sends if send.attempt != event.attempt))


def _adopt(state: GrantState, now: int) -> GrantState | None:
    newest = newest_new(state)
    lost = state.phase is Phase.UNKNOWN or (state.phase is Phase.IDLE and state.health is Health.QUARANTINED)
    if newest is None or not lost or state.hold not in {Hold.NONE, Hold.FROZEN}:
        return None
    replaced = current_token(state)
    fate_open = state.phase is Phase.UNKNOWN and replaced is not None and newest.generation != state.generation
    adopted = replace(_no_doubt(_turned_to(state, newest.fingerprint)), phase=Phase.IDLE, not_before=0)
    last_resort = state.doubted or (state.current if _in_window(state, now) else None)
    return replace(adopted, doubted=state.current if fate_open else last_resort)


def _replay(state: GrantState, event: Replay, now: int, times: RedeemTimes) -> GrantState | None:
    if not _recoverable(state, now) or not _in_window(state, now) or state.sends >= MAX_SENDS:
        return None
    return _prepared(state, event.owner, now, times)


def _probe(state: GrantState, event: Probe, now: int, times: RedeemTimes) -> GrantState | None:
    if not _recoverable(state, now) or _in_window(state, now) or not event.settled:
        return None
    return replace(_prepared(state, event.owner, now, times), probes=1)


def _in_window(state: GrantState, now: int) -> bool:
    return state.replay_until is not None and now < state.replay_until


def _recoverable(state: GrantState, now: int) -> bool:
    return state.phase is Phase.UNKNOWN and _may_begin(state, now) and newest_new(state) is None


def _finish(state: GrantState, event: Finish, now: int, times: RedeemTimes) -> GrantState | None:
    if state.attempt != event.attempt or state.phase is not Phase.LANDED:
        return None
    idle = replace(state, phase=Phase.IDLE)
    taken = None if event.again is None else _take(idle, Take(event.again), now, times)
    return taken or idle


def _consented(state: GrantState, event: Consented, now: int) -> GrantState | None:
    if state.hold is not Hold.NONE:
        return None
    consent, attempt = state.consent + 1, state.attempt + 1
    received = KeptToken(event.fingerprint, consent, attempt, state.generation, received_at=now)
    return replace(
        _no_doubt(state),
        tokens=_keep_anew(state, received),
        open_sends=(),
        consent=consent,
        generation=state.generation + 1,
        epoch=state.epoch + 1,
        attempt=attempt,
        current=event.fingerprint,
        doubted=None,
        phase=Phase.IDLE,
        health=Health.OK,
        not_before=0,
        failures=0,
    )


def _release(state: GrantState, event: Release) -> GrantState | None:
    if state.hold is not Hold.FROZEN:
        return None
    released = replace(
        state,
        hold=Hold.NONE,
        attempt=max(state.attempt, event.attempt),
        generation=max(state.generation, event.generation),
    )
    if not event.abandon:
        return released
    return replace(_no_doubt(released), current=None, doubted=None, phase=Phase.IDLE, health=Health.OK)


def _revoke(state: GrantState) -> GrantState | None:
    if state.hold not in {Hold.NONE, Hold.FROZEN}:
        return None
    return replace(state, hold=Hold.REVOKING, epoch=state.epoch + 1)


def _token_revoked(state: GrantState, event: TokenRevoked, now: int) -> GrantState | None:
    if not any(token.fingerprint == event.fingerprint for token in state.tokens):
        return None
    tokens = tuple(
        replace(token, revoked_at=now) if token.fingerprint == event.fingerprint and token.revoked_at is None else token
        for token in state.tokens
    )
    return replace(state, tokens=tokens)


def _revoked(state: GrantState, now: int) -> GrantState | None:
    under_way = state.phase in {Phase.PREPARED, Phase.SENT} and not lease_over(state, now)
    left = any(token.revoked_at is None and token.refused_at is None for token in state.tokens)
    if state.hold is not Hold.REVOKING or under_way or left:
        return None
    return replace(state, hold=Hold.REVOKED)
