"""What is known of one grant: the facts its row and its refresh tokens hold, and the durations they are held against.

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
    """Every duration of the protocol, in milliseconds of the store's clock.

    The composition root holds the one set of production values; no setting changes them. Tests divide them.
    """

    lease: int
    extend_every: int
    refresh_reply: int
    client_credentials_reply: int
    replay_margin: int
    write_within: int


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A refresh token as the grant's history knows it: everything but its sealed value.

    Attributes:
        fingerprint: keyed fingerprint of the token, hexadecimal.
        consent: the login it descends from.
        attempt: the attempt that received it.
        received_at, first_sent_at, refused_at: milliseconds of the store's clock.
    """

    fingerprint: str
    consent: int
    attempt: int
    received_at: int
    first_sent_at: int | None = None
    refused_at: int | None = None


@dataclass(frozen=True, slots=True)
class GrantState:
    """One grant's row and its refresh tokens; times in milliseconds of the store's clock."""

    consent: int = 0
    generation: int = 0
    epoch: int = 1
    current: str | None = None
    phase: Phase = Phase.IDLE
    health: Health = Health.OK
    hold: Hold = Hold.NONE
    attempt: int = 0
    owner: str | None = None
    lease_until: int = 0
    first_sent_at: int | None = None
    replay_until: int | None = None
    sends: int = 0
    probes: int = 0
    not_before: int = 0
    tokens: tuple[KeptToken, ...] = ()


def is_new(state: GrantState, token: KeptToken) -> bool:
    """Tell whether `token` is a successor never sent: to be adopted before anything is sent again."""
    return (
        token.consent == state.consent
        and token.first_sent_at is None
        and token.refused_at is None
        and token.fingerprint != state.current
    )


def was_used(token: KeptToken) -> bool:
    """Tell whether `token` was sent or refused: to bring it once more would be a reuse."""
    return token.first_sent_at is not None or token.refused_at is not None
