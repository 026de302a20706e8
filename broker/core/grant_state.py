"""What is known of one grant: the facts its row, its refresh tokens and its open sends hold.

Three facts are independent, so that a freeze during a redeem overwrites nothing:

    phase   idle | prepared | sent | landed | unknown    the redeem
    health  ok | quarantined                             the provider's verdict
    hold    none | frozen | revoking | revoked           ours
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where the redeem stands."""

    IDLE = "idle"
    PREPARED = "prepared"
    SENT = "sent"
    LANDED = "landed"
    UNKNOWN = "unknown"


class Health(StrEnum):
    """The provider's verdict."""

    OK = "ok"
    QUARANTINED = "quarantined"


class Hold(StrEnum):
    """Our own will."""

    NONE = "none"
    FROZEN = "frozen"
    REVOKING = "revoking"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class RedeemTimes:
    """Every duration of the protocol, in milliseconds.

    The composition root holds the one set of production values; no setting changes them. Tests divide them.

    Attributes:
        lease: how long an owner that went silent keeps others out; extend_every: how often a living one extends it.
        refresh_reply, client_credentials_reply: longest wait for a reply where the provider is not known to need less.
        replay_margin: what of a replay window is left alone at its end.
        write_within: how old the licence to write may be when it is used.
        journal_after: how long the store may take to keep a received token before the journal keeps it too.
        silent: after how long without a beat a process counts as dead.
        in_flight: how long a request of a dead process may still be on its way.
        journal_lost: after how long a dead process's journal is no longer waited for.
        store_up: how long the store must have been up before anybody recovers what somebody else sent.
    """

    lease: int
    extend_every: int
    refresh_reply: int
    client_credentials_reply: int
    replay_margin: int
    write_within: int
    journal_after: int
    silent: int
    in_flight: int
    journal_lost: int
    store_up: int


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A refresh token as the grant's history knows it: everything but its sealed value.

    Attributes:
        fingerprint: keyed fingerprint of the token, hexadecimal.
        consent: the login it descends from.
        attempt: the attempt that received it; generation: the grant's when that attempt began.
        received_at, first_sent_at, refused_at: milliseconds of the store's clock.
        revoked_at: when the provider was told, after which the sealed value is gone.
    """

    fingerprint: str
    consent: int
    attempt: int
    generation: int
    received_at: int
    first_sent_at: int | None = None
    refused_at: int | None = None
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class OpenSend:
    """A send whose owner has not said yet that nothing more will come of it."""

    attempt: int
    owner: str
    sent_at: int


@dataclass(frozen=True, slots=True)
class GrantState:
    """One grant's row, its refresh tokens and its open sends; times in milliseconds of the store's clock.

    Attributes:
        consent, generation, attempt: count logins, refresh tokens and redeems; they only grow.
        epoch: counts changes of the authorization; part of the key of cached access tokens.
        current: fingerprint of the refresh token to be sent next.
        doubted: fingerprint of one that was replaced while nobody knew its fate; the last resort.
        owner, lease_until: who redeems, and until when others wait for it.
        first_sent_at, sends, replay_until: of the sends whose fate is open, counted and since when; until when one of
            them may be repeated. last_sent_at: of the last send of all.
        probes: 1 where the last of these sends was made to find out a fate, with nothing but a guess behind it.
        settled_at: when an operator said that nothing will come of sends before it.
        not_before, failures: the back-off, and how often in a row it came to that.
        landed: the newest attempt that was answered with an access token.
        open_sends: of this consent.
    """

    consent: int = 0
    generation: int = 0
    epoch: int = 1
    current: str | None = None
    doubted: str | None = None
    phase: Phase = Phase.IDLE
    health: Health = Health.OK
    hold: Hold = Hold.NONE
    attempt: int = 0
    owner: str | None = None
    lease_until: int = 0
    first_sent_at: int | None = None
    last_sent_at: int | None = None
    replay_until: int | None = None
    sends: int = 0
    probes: int = 0
    settled_at: int | None = None
    not_before: int = 0
    failures: int = 0
    landed: int = 0
    tokens: tuple[KeptToken, ...] = ()
    open_sends: tuple[OpenSend, ...] = ()


def lease_over(state: GrantState, now: int) -> bool:
    """Tell whether nobody has to be waited for."""
    return state.lease_until <= now


def is_new(state: GrantState, token: KeptToken) -> bool:
    """Tell whether `token` is a successor never sent: to be adopted before anything is sent again."""
    return token.consent == state.consent and not was_used(token) and token.fingerprint != state.current


def newest_new(state: GrantState) -> KeptToken | None:
    """Return the new token received last, or None when there is none."""
    return max((token for token in state.tokens if is_new(state, token)), key=_age, default=None)


def was_used(token: KeptToken) -> bool:
    """Tell whether `token` was sent or refused: to bring it once more would be a reuse."""
    return token.first_sent_at is not None or token.refused_at is not None


def current_token(state: GrantState) -> KeptToken | None:
    """Return the token to be sent next, or None when there is none."""
    return next((token for token in state.tokens if token.fingerprint == state.current), None)


def to_revoke(state: GrantState) -> list[KeptToken]:
    """Return the tokens the provider has to be told of, newest first.

    Of a grant that ends or ended all it did not refuse; of one that was authorized anew those that came late, from a
    redeem of an older consent, since nobody will use them.
    """
    left = [token for token in state.tokens if token.revoked_at is None and token.refused_at is None]
    if state.hold not in {Hold.REVOKING, Hold.REVOKED}:
        left = [token for token in left if _came_late(state, token)]
    return sorted(left, key=_age, reverse=True)


def was_exchanged(state: GrantState, token: KeptToken) -> bool:
    """Tell whether the provider gave another refresh token for this one, so that this one is spent."""
    return token.first_sent_at is not None and any(
        (one.consent, one.generation) == (token.consent, token.generation + 1) for one in state.tokens
    )


def holds_live_token(state: GrantState) -> bool:
    """Tell whether a refresh token would be forgotten with the grant that its provider may still honour.

    It is one that was neither refused, nor revoked, nor exchanged for another without a doubt. What is said of a grant
    whose tokens were not read is nothing.
    """
    if state.hold is Hold.REVOKED:
        return False
    return any(
        token.refused_at is None
        and token.revoked_at is None
        and (token.fingerprint == state.doubted or not was_exchanged(state, token))
        for token in state.tokens
    )


def held_because(state: GrantState) -> str:
    """Return what is told of a grant that is held."""
    if state.hold is Hold.FROZEN:
        return "the grant is frozen by operators"
    return "the grant was revoked by operators"


def display_state(state: GrantState) -> str:
    """Return the one word a grant is shown with: our hold before the provider's verdict before the redeem."""
    if state.hold in {Hold.REVOKING, Hold.REVOKED}:
        return "revoked"
    if state.hold is Hold.FROZEN:
        return "frozen"
    if state.health is Health.QUARANTINED:
        return "quarantined"
    return "unknown" if state.phase is Phase.UNKNOWN else "ok"


def _came_late(state: GrantState, token: KeptToken) -> bool:
    """Tell whether a token of an older consent was received after the consent there is."""
    since = min((one.received_at for one in state.tokens if one.consent == state.consent), default=None)
    return since is not None and token.consent < state.consent and token.received_at > since


def _age(token: KeptToken) -> tuple[int, int, str]:
    return (token.received_at, token.attempt, token.fingerprint)
