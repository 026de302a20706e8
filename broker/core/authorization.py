"""A login: from its start by a caller until a refresh token is a grant's. Values and steps; no I/O.

    step        moves                                         condition
    ──────────  ────────────────────────────────────────────  ─────────────────────────────────────────────────────────
    sign_in     browser; state, of the sign-in                started, in time, no other browser has it
    come_back   the state is spent                            started, in time, this browser
    know        person; the browser has it                    after it
    confirm     → confirmed; state; the browser has it; ten   started or confirmed, in time, no other browser has it,
                minutes more, once                            and the short code is right
    (wrong)     tries+1; the last one: → failed               the same, and it is wrong
    back        confirmed → exchanging; the state is spent    in time, this browser, a callback without an error
    begin       started → exchanging                          direct, in time
    receive     exchanging → received                         also when it failed meanwhile without a token
    give_code   received → received; one-time code            of an app
    drop_code   received → received; no code any more         its code's time is over; then it is given up
    connect     received → connected
    fail        any but connected → failed

A page that is only looked at changes nothing: a program that fetches the link before the person does takes nothing
from them. An app's login stays received until the app shows the one-time code. Who has not written a step's row has not
made it: rows are replaced one version after the other, so of two who make a step at once one is told to look again.

Times are milliseconds of the store's clock.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Final

from broker.core.oauth.rfc7636 import challenge_of
from broker.core.sealing import Binding, Sealed
from broker.core.secret import Secret

LIFE_MS: Final = 600_000
"""How long a login is open, and a person has at the provider."""
CODE_LIFE_MS: Final = 60_000
"""How long an app has to show its one-time code."""
SETTLE_MS: Final = 60_000
"""How long whoever received something has to settle it, before others do."""
MOST_TRIES: Final = 5
"""Wrong short codes after which a login ends."""
MOST_OPEN: Final = 32
"""Logins one caller may have open."""
SHORT_CODE_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no words come of it, and nothing that looks like another."""
SHORT_CODE_LENGTH: Final = 8

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Way(StrEnum):
    """How the person logs in, and where the result goes.

    page: in a browser, the result on a page. app: in a browser, the result to the app's own redirect URI. direct: in
    the starter's own process, straight at the provider.
    """

    PAGE = "page"
    APP = "app"
    DIRECT = "direct"


class LoginPhase(StrEnum):
    """How far a login is."""

    STARTED = "started"
    CONFIRMED = "confirmed"
    EXCHANGING = "exchanging"
    RECEIVED = "received"
    CONNECTED = "connected"
    FAILED = "failed"


OPEN_PHASES: Final = (LoginPhase.STARTED, LoginPhase.CONFIRMED, LoginPhase.EXCHANGING, LoginPhase.RECEIVED)


class Failure(StrEnum):
    """Why a login failed; a closed list, nothing of it a peer's words."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    TOO_MANY_TRIES = "too_many_tries"
    DENIED = "denied"
    PROVIDER_ERROR = "provider_error"
    WRONG_ISSUER = "wrong_issuer"
    CODE_REFUSED = "code_refused"
    CLIENT_REFUSED = "client_refused"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    UNUSABLE_REPLY = "unusable_reply"
    NO_REFRESH_TOKEN = "no_refresh_token"  # noqa: S105 - a failure's name
    SCOPE_NOT_GRANTED = "scope_not_granted"
    SUBJECT_MISMATCH = "subject_mismatch"
    GRANT_UNAVAILABLE = "grant_unavailable"
    NOT_COMPLETED = "not_completed"


class Obstacle(StrEnum):
    """Why a step cannot be made now; the login stays as it is."""

    UNKNOWN = "unknown"
    OVER = "over"
    EXPIRED = "expired"
    OTHER_BROWSER = "other_browser"
    NOT_SIGNED_IN = "not_signed_in"
    WRONG_CODE = "wrong_code"
    TOO_MANY_TRIES = "too_many_tries"
    WRONG_STATE = "wrong_state"


class StepError(Exception):
    """A step whose condition does not hold.

    Attributes:
        ended: the login as it is to be written, where the step ended it.
    """

    def __init__(self, obstacle: Obstacle, ended: Authorization | None = None) -> None:
        super().__init__(obstacle)
        self.obstacle = obstacle
        self.ended = ended


@dataclass(frozen=True, slots=True)
class AuthorizationFacts:
    """What is fixed when a login starts; what is sealed in it is bound to all of this.

    Attributes:
        id: `digest` of the flow id, which only the starter and the browser have.
        grant_id, client_id, provider_id: ids of the rows.
        starter: printed id of the caller.
        scopes: wire scopes asked of the provider, sorted; `login_scopes` of the provider are not among them.
        redirect_uri: where the provider sends the browser, or what the direct steps are told.
        app_redirect_uri, app_state, app_challenge: of an app's own request (RFC 7636 S256), empty where there is none.
        short_code: keyed fingerprint of the code the starter is shown; empty where none is demanded.
        any_subject: an admin wants the grant to be another person's from now on.
    """

    id: str
    grant_id: str
    grant: str
    client_id: str
    provider_id: str
    starter: str
    way: Way
    scopes: tuple[str, ...]
    redirect_uri: str
    app_redirect_uri: str = ""
    app_state: str = ""
    app_challenge: str = ""
    short_code: str = ""
    any_subject: bool = False

    def text(self) -> str:
        """Return the facts as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def binding(self, what: str, token_origin: str) -> Binding:
        """Bind something sealed, named `what`, to these facts."""
        return Binding("authorizations", (what, self.text()), token_origin)


def parse_facts(text: str) -> AuthorizationFacts:
    """Return the facts that `text` wrote."""
    members = json.loads(text)
    members["way"] = Way(members["way"])
    members["scopes"] = tuple(members["scopes"])
    return AuthorizationFacts(**members)


@dataclass(frozen=True, slots=True)
class Authorization:
    """A login as its row says.

    Attributes:
        verifier: our code verifier (RFC 7636), sealed.
        expires_at: when nobody may go on any more; while exchanging or received, when it is looked after by others.
        browser: `digest` of what the browser's cookie holds, once a person went on from the page in one. It has the
            login once the person in it is known or has confirmed.
        person: who signed in before, as `named_person` says it; empty where nobody did.
        state: `digest` of what the provider, or before it the sign-in, is to bring back; empty before that was asked,
            and once it was used.
        code: `digest` of an app's one-time code, as long as it can be shown; taken: it was.
        received: what the provider gave, sealed.
        granted: wire scopes it stated, sorted.
        owner: the process that exchanges the code.
        version: counts the writes.
    """

    facts: AuthorizationFacts
    verifier: Sealed
    expires_at: int
    phase: LoginPhase = LoginPhase.STARTED
    failure: Failure | None = None
    browser: str = ""
    person: str = ""
    tries: int = 0
    state: str = ""
    code: str = ""
    taken: bool = False
    received: Sealed | None = None
    granted: tuple[str, ...] = ()
    owner: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class ReceivedGrant:
    """What a code was exchanged for.

    Attributes:
        access_token: to learn the subject with; None where the reply had none that can be used.
        subject: from the ID token (OpenID Connect Core §2), None where there is none.
    """

    refresh_token: Secret
    access_token: Secret | None
    subject: str | None = field(default=None, repr=False)

    def bundle(self, longest: int) -> Secret:
        """Return all of it as one secret of at most `longest` characters: without the access token where it must be."""
        members = {"refresh_token": self.refresh_token.reveal(), "subject": self.subject}
        if self.access_token is None:
            return Secret(json.dumps(members))
        whole = json.dumps(members | {"access_token": self.access_token.reveal()})
        return Secret(whole if len(whole) <= longest else json.dumps(members))


def parse_bundle(bundle: Secret) -> ReceivedGrant:
    """Return what `bundle` held."""
    members = json.loads(bundle.reveal())
    access_token = members.get("access_token")
    return ReceivedGrant(
        Secret(members["refresh_token"]), None if access_token is None else Secret(access_token), members["subject"]
    )


def named_person(subject: str, issuer: str) -> str:
    """Return a person who signed in: the subject, and the issuer that calls them so. Issuers hold no blank."""
    return f"{subject} at {issuer}"


def is_signed_in(login: Authorization, issuer: str) -> bool:
    """Tell whether the person signed in at this issuer."""
    return login.person.endswith(f" at {issuer}")


def digest(value: str) -> str:
    """Return SHA-256 in hexadecimal of a random value that is found by it; whoever reads the store learns nothing."""
    return hashlib.sha256(value.encode()).hexdigest()


def is_digest(unverified_text: str) -> bool:
    """Tell whether `unverified_text` can be a `digest`: nothing else is worth a look into the store."""
    return _DIGEST.fullmatch(unverified_text) is not None


def normal_short_code(unverified_text: str) -> str:
    """Return a short code as somebody typed it in the form it was made in: in capitals, without dashes and blanks."""
    return "".join(char for char in unverified_text.upper() if char in SHORT_CODE_LETTERS)[: SHORT_CODE_LENGTH + 1]


# --- the steps -------------------------------------------------------------------------------------------------------


def check_at_hand(login: Authorization, browser: str, now: int) -> None:
    """Make sure that a person with this browser can go on with a login whose link they have.

    A browser that was sent to sign in does not have it yet: whoever has the link can be sent, and nobody is locked out.

    Raises:
        StepError: it is over, or another browser has it.
    """
    _check_open(login, now)
    if login.browser not in {"", browser} and (login.person or login.phase is not LoginPhase.STARTED):
        raise StepError(Obstacle.OTHER_BROWSER)


def sign_in(login: Authorization, browser: str, state: str, now: int) -> Authorization:
    """Return the login of a person who is about to sign in; `state` is the digest of what they are to bring back.

    Raises:
        StepError: it is over, confirmed already, or another browser has it.
    """
    check_at_hand(login, browser, now)
    if login.phase is not LoginPhase.STARTED:
        raise StepError(Obstacle.OVER)
    return _moved(login, browser=browser, state=state)


def come_back(login: Authorization, browser: str, now: int) -> Authorization:
    """Return the login of a person who comes back from signing in; what they bring counts once.

    Raises:
        StepError: nobody was sent to sign in, or another browser was.
    """
    if login.phase is not LoginPhase.STARTED or not login.state:
        raise StepError(Obstacle.WRONG_STATE)
    if login.browser != browser:
        raise StepError(Obstacle.OTHER_BROWSER)
    _check_open(login, now)
    return _moved(login, state="")


def know(login: Authorization, person: str) -> Authorization:
    """Return the login with the person who signed in."""
    return _moved(login, person=person)


def confirm(login: Authorization, browser: str, short_code: str, state: str, now: int) -> Authorization:
    """Return the login confirmed: the person saw what it is about. Confirmed again, the provider is asked anew.

    The browser has the login from now on, and its time begins anew once.

    Args:
        login: as it is.
        browser: digest of the browser's cookie.
        short_code: fingerprint of what the person typed.
        state: digest of what the provider is to bring back.
        now: the store's clock.

    Raises:
        StepError: it is over, another browser has it, or the code is wrong; `ended` has it one try on.
    """
    check_at_hand(login, browser, now)
    if login.facts.short_code and login.facts.short_code != short_code:
        last = login.tries + 1 >= MOST_TRIES
        after = fail(login, Failure.TOO_MANY_TRIES) if last else _moved(login)
        raise StepError(Obstacle.WRONG_CODE, replace(after, tries=login.tries + 1))
    until = now + LIFE_MS if login.phase is LoginPhase.STARTED else login.expires_at
    return _moved(login, phase=LoginPhase.CONFIRMED, browser=browser, state=state, expires_at=until)


def check_back(login: Authorization, browser: str, provider_id: str, now: int) -> None:
    """Make sure that a callback belongs to this login and browser.

    Raises:
        StepError: it does not; the login stays as it is, for the browser that has it.
    """
    if login.phase is not LoginPhase.CONFIRMED or login.facts.provider_id != provider_id:
        raise StepError(Obstacle.WRONG_STATE)
    if login.browser != browser:
        raise StepError(Obstacle.OTHER_BROWSER)
    if login.expires_at <= now:
        raise StepError(Obstacle.EXPIRED)


def begin_exchange(login: Authorization, owner: str, now: int) -> Authorization:
    """Return the login whose code is about to be sent, once; its state is spent.

    Raises:
        StepError: it is over, or not so far.
    """
    _check_open(login, now)
    wanted = LoginPhase.STARTED if login.facts.way is Way.DIRECT else LoginPhase.CONFIRMED
    if login.phase is not wanted:
        raise StepError(Obstacle.OVER)
    return _moved(login, phase=LoginPhase.EXCHANGING, state="", owner=owner, expires_at=now + LIFE_MS)


def receive(login: Authorization, received: Sealed, granted: tuple[str, ...], now: int) -> Authorization | None:
    """Return the login with what the provider gave, whatever became of it meanwhile; None where it has that already."""
    if login.received is not None or login.granted or login.phase is LoginPhase.CONNECTED:
        return None
    received_now = {"phase": LoginPhase.RECEIVED, "failure": None, "received": received, "granted": granted}
    return _moved(login, **received_now, expires_at=now + SETTLE_MS)


def give_code(login: Authorization, code: str, now: int) -> Authorization:
    """Return an app's login with its one-time code.

    Raises:
        StepError: nothing was received, or it is over.
    """
    if login.phase is not LoginPhase.RECEIVED:
        raise StepError(Obstacle.OVER)
    return _moved(login, code=code, expires_at=now + CODE_LIFE_MS)


def take_code(login: Authorization, starter: str, redirect_uri: str, code_verifier: str, now: int) -> Authorization:
    """Return the login whose one-time code was shown by the app that started it; the code is spent.

    Raises:
        StepError: by another caller, too late, or not with what the app began with (RFC 6749 §4.1.3, RFC 7636 §4.6).
    """
    facts = login.facts
    if login.phase is not LoginPhase.RECEIVED or not login.code or facts.starter != starter:
        raise StepError(Obstacle.UNKNOWN)
    if login.expires_at <= now:
        raise StepError(Obstacle.EXPIRED)
    proved = not facts.app_challenge or facts.app_challenge == challenge_of(code_verifier)
    if facts.app_redirect_uri != redirect_uri or not proved:
        raise StepError(Obstacle.WRONG_CODE)
    return _moved(login, code="", taken=True, expires_at=now + SETTLE_MS)


def drop_code(login: Authorization, now: int) -> Authorization:
    """Return an app's login that nobody can complete any more: whoever is about to show its code comes too late."""
    return _moved(login, code="", expires_at=now + SETTLE_MS)


def connect(login: Authorization) -> Authorization:
    """Return the login whose refresh token is the grant's; what was sealed in it is forgotten."""
    return _moved(login, phase=LoginPhase.CONNECTED, received=None, code="")


def fail(login: Authorization, failure: Failure) -> Authorization:
    """Return the login ended without a token of its own."""
    return _moved(login, phase=LoginPhase.FAILED, failure=failure, received=None, state="", code="")


def is_over(login: Authorization) -> bool:
    """Tell whether nothing more comes."""
    return login.phase in {LoginPhase.CONNECTED, LoginPhase.FAILED}


def _check_open(login: Authorization, now: int) -> None:
    if login.phase not in {LoginPhase.STARTED, LoginPhase.CONFIRMED}:
        raise StepError(Obstacle.OVER)
    if login.expires_at <= now:
        raise StepError(Obstacle.EXPIRED)


def _moved(login: Authorization, **changes: object) -> Authorization:
    return replace(login, version=login.version + 1, **changes)  # type: ignore[arg-type]  # names of its fields
