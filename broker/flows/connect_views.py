"""What the pages of a login show, as values."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.authorization import Failure, LoginPhase, Obstacle
from broker.core.secret import Secret


@dataclass(frozen=True, slots=True)
class WhoMayUse:
    """A policy that lets callers use the grant, as the person is told: printed caller patterns, scopes."""

    callers: tuple[str, ...]
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfirmView:
    """What a person is to know before anything is sent to the provider.

    Attributes:
        person: who signed in before; empty where nobody has to.
        starter: printed id of the caller that asked.
        scopes: the grant's, in the configuration's words.
        wire_scopes: what the provider is asked for.
        who_may_use: every policy that lets callers use the grant.
        subject: whom the grant is of by now by the provider's word, None where that is not known.
        connected_by: who signed in when it was connected, None where nobody had to.
        has_token: the grant works already, whosever it is.
        any_subject: an admin wants another person to be let in its place.
        needs_code: the starter's short code is demanded.
        app: where the result goes afterwards, the app's origin; None for a page here.
        expires_in: seconds.
    """

    person: str
    starter: str
    grant: str
    client: str
    provider: str
    scopes: tuple[str, ...]
    wire_scopes: tuple[str, ...]
    who_may_use: tuple[WhoMayUse, ...]
    subject: str | None
    connected_by: str | None
    has_token: bool
    any_subject: bool
    needs_code: bool
    app: str | None
    expires_in: float


@dataclass(frozen=True, slots=True)
class SignInView:
    """Where a person has to sign in before they are told more; `expires_in` in seconds."""

    provider: str
    expires_in: float


@dataclass(frozen=True, slots=True)
class ResultView:
    """How a login stands, for the browser that has it; `failure` only where it failed."""

    id: str
    grant: str
    phase: LoginPhase
    failure: Failure | None
    granted: tuple[str, ...]
    subject: str | None


@dataclass(frozen=True, slots=True)
class Onward:
    """Where the browser goes now: to the app, or to the result page of the login `result_id`."""

    url: Secret | None
    result_id: str | None


class ConnectError(Exception):
    """A page cannot be shown; why, and nothing of what was sent.

    Attributes:
        tries_left: of the short code, where that was wrong.
        cause: what is behind it, in our words, and the login's id, for the log.
    """

    def __init__(self, obstacle: Obstacle, tries_left: int | None = None, cause: str = "", login: str = "") -> None:
        super().__init__(obstacle)
        self.obstacle = obstacle
        self.tries_left = tries_left
        self.cause = cause
        self.login = login
