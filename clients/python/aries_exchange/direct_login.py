"""Logging in without a browser: password, code and consent go from this process straight to Aries, and nowhere else.

    /authorize ─► is_mfa ──────► /authorize/mfa ─┐
        └──────► no MFA ─────────────────────────┴─► consent, where it is required ─► /authorize/confirm ─► a code

Each step names the next by an id that is good for one step, and opens the session: it is a secret.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from aries_exchange.errors import AriesAPIError, ConsentRefusedError
from aries_exchange.fields import Body, optional_text, text, texts, truth
from aries_exchange.transport import Request

AUTHORIZE_PATH: Final = "/v1/oauth2/authorize"
MAX_OPEN: Final = 1_000
"""Logins that wait for a code at once; past that the oldest is forgotten."""
_MFA_CODE: Final = re.compile(r"[0-9]{6}", re.ASCII)

Consent = Callable[[tuple[str, ...]], bool]
"""Asks the person whether the app may have these scopes; only True is a yes."""


def refuse(scopes: tuple[str, ...]) -> bool:
    """Refuse: nobody asked the person."""
    del scopes
    return False


@dataclass(frozen=True, slots=True)
class Wish:
    """What is about to be confirmed in the person's name.

    Attributes:
        client_name: who wants it, as the person knows it; empty where the reply does not say.
        scopes: what is wanted.
        consent_required: whether the person has to be asked; else they allowed it before.
    """

    client_name: str
    scopes: tuple[str, ...]
    consent_required: bool


Agree = Callable[[Wish], bool]
"""Decides whether to go on and confirm; only True is a yes."""


def asking(consent: Consent) -> Agree:
    """Return what asks for the scopes alone, and nobody who allowed them before."""
    return lambda wish: not wish.consent_required or consent(wish.scopes)


class Sender(Protocol):
    """What steps are sent by."""

    def send(self, request: Request) -> Mapping[str, Any]:
        """Send it once, and return the JSON object that was answered.

        Raises:
            AriesAPIError: it was refused, or there was no whole answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """How far a login came; printing it does not reveal what opens it.

    Attributes:
        mfa_required: a code was sent to the person's phone, and is wanted by `verify_mfa`.
        session_token: what `verify_mfa` takes; empty where no code is wanted.
        authorization_code: what `exchange_code` takes, where no code was wanted; else empty.
    """

    mfa_required: bool
    session_token: str = field(default="", repr=False)
    authorization_code: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class MfaResult:
    """A login that is complete.

    Attributes:
        authorization_code: what `exchange_code` takes, once and within ten minutes.
    """

    authorization_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What a login begins with.

    Attributes:
        url: where the steps begin.
        scope: the parameter; empty: what Aries gives by itself.
        code_challenge: of S256, where PKCE is used.
    """

    url: str
    client_id: str
    email: str
    password: str = field(repr=False)
    redirect_uri: str
    scope: str = ""
    code_challenge: str | None = None

    def as_body(self) -> dict[str, str]:
        """Return what goes on the wire."""
        body = {
            "response_type": "code",
            "client_id": self.client_id,
            "email": self.email,
            "password": self.password,
            "redirect_uri": self.redirect_uri,
        }
        if self.scope:
            body["scope"] = self.scope
        if self.code_challenge is not None:
            body |= {"code_challenge": self.code_challenge, "code_challenge_method": "S256"}
        return body


@dataclass(frozen=True, slots=True)
class _Step:
    """What a reply says about the next step."""

    next_step: str = field(repr=False)
    is_mfa: bool
    wish: Wish

    @classmethod
    def parse(cls, body: Body) -> _Step:
        # Whatever is not a clear no asks the person.
        needed = body.get("consent_required") is not False
        wish = Wish(optional_text(body, "client_name"), texts(body, "scopes"), needed)
        return cls(text(body, "next_step_auth_id"), truth(body, "is_mfa"), wish)


@dataclass(frozen=True, slots=True)
class _Open:
    """A login that waits for its code."""

    url: str
    redirect_uri: str
    agree: Agree


class DirectLogin:
    """The logins of one client; safe to share between threads."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def begin(self, request: LoginRequest, agree: Agree) -> AuthResponse:
        """Show email and password, and go on to the end where no code is wanted.

        Raises:
            AriesAPIError: it was refused.
            ConsentRefusedError: the person did not agree.
        """
        login = _Open(request.url, request.redirect_uri, agree)
        step = self._step(login, "", request.as_body(), (request.password,))
        if not step.is_mfa:
            return AuthResponse(mfa_required=False, authorization_code=self._confirm(login, step, agree))
        with self._lock:
            self._open[step.next_step] = login
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return AuthResponse(mfa_required=True, session_token=step.next_step)

    def verify(self, code: str, session_token: str, agree: Agree | None = None) -> MfaResult:
        """Show the code and go on to the end; a wrong code may be followed by another as long as Aries takes one.

        Raises:
            AriesAPIError: it was refused.
            ConsentRefusedError: the person did not agree.
            ValueError: no such login was begun by this client.
        """
        with self._lock:
            login = self._open.get(session_token)
        if login is None:
            raise ValueError("session_token must be that of a login which this client began by oauth2.authorize")
        if not _MFA_CODE.fullmatch(code):
            # It would be one of the few tries.
            raise AriesAPIError(400, "the code has six digits; this one was not sent")
        body = {"next_step_auth_id": session_token, "verification_code": code}
        step = self._step(login, "/mfa", body, (session_token, code))
        with self._lock:
            self._open.pop(session_token, None)
        return MfaResult(self._confirm(login, step, agree or login.agree))

    def _confirm(self, login: _Open, step: _Step, agree: Agree) -> str:
        """Confirm what the person agrees to, and return the authorization code."""
        if agree(step.wish) is not True:
            raise ConsentRefusedError(403, "the person has not agreed to the scopes that are asked for")
        answered = self._send(login, "/confirm", {"next_step_auth_id": step.next_step}, (step.next_step,))
        if optional_text(answered, "redirect_uri") not in {"", login.redirect_uri}:
            raise AriesAPIError(200, "the code is for another redirect URI")
        return _parse(lambda: text(answered, "code"))

    def _step(self, login: _Open, path: str, body: Mapping[str, Any], secrets: tuple[str, ...]) -> _Step:
        answered = self._send(login, path, body, secrets)
        return _parse(lambda: _Step.parse(answered))

    def _send(self, login: _Open, path: str, body: Mapping[str, Any], secrets: tuple[str, ...]) -> Mapping[str, Any]:
        return self._sender.send(Request("POST", login.url + path, body, secrets=secrets))


T = TypeVar("T")


def _parse(read: Callable[[], T]) -> T:
    """Return what a reply says.

    Raises:
        AriesAPIError: it does not say it.
    """
    try:
        return read()
    except ValueError:
        raise AriesAPIError(200, "the answer is not what is documented") from None
