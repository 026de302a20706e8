"""The provider's direct steps in this terminal: password, code and consent go from here to the provider alone."""

from __future__ import annotations

import getpass
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from aries.broker.v1 import authorization_pb2
from aries_exchange import AriesAPIError
from aries_exchange.direct_login import DirectLogin, LoginRequest, Wish
from aries_exchange.errors import AriesConnectionError, ConsentRefusedError
from aries_exchange.timing import Timing
from aries_exchange.transport import Request, Transport
from aries_exchange.urls import check_base_url
from broker.cli.errors import CommandError
from broker.cli.output import print_error
from broker.cli.time_limit import time_limit

STEP_SECONDS: Final = 30.0
"""How long a step may take altogether."""
MAX_REPLY: Final = 256 * 1024
"""Longest reply, in bytes."""
MAX_NAME: Final = 100
"""Longest name of a client that is shown, in characters."""
_SIX_DIGITS: Final = re.compile(r"[0-9]{6}", re.ASCII)
_WRONG: Final = 401
_ANSWERED: Final = range(200, 300)
_AGAIN: Final = "run the command again"
REASONS: Final = {
    0: f"the provider could not be reached, or did not answer in full: {_AGAIN} a little later",
    _WRONG: f"the provider does not know this e-mail address with this password: {_AGAIN}",
    403: "the provider does not let this client log people in so: log in without --terminal",
    410: f"it took too long: {_AGAIN}",
    423: f"there were too many wrong tries, and the provider locked the login for a while: {_AGAIN} later",
    429: f"the provider wants to be asked less often: {_AGAIN} later",
}


@dataclass(frozen=True, slots=True)
class TimedSender:
    """Sends a step, and waits for the whole of its answer so many seconds and no longer; for the main thread."""

    transport: Transport
    seconds: float

    def send(self, request: Request) -> Mapping[str, Any]:
        """Send it once, and return the JSON object that was answered."""
        try:
            with time_limit(self.seconds):
                return self.transport.send(request)
        except TimeoutError:
            raise AriesConnectionError(0, "the answer takes too long") from None


def log_in(start: authorization_pb2.DirectLoginStart) -> str:
    """Ask for e-mail address, password and code, ask for consent in words, and return the provider's code.

    Raises:
        CommandError: the provider refused, or the person did.
    """
    try:
        url = check_base_url(start.url)
    except ValueError:
        raise CommandError("not connected: the provider's address is not https; nothing was asked or sent") from None
    # Straight to the provider: the environment names neither a proxy nor whom to trust with a password.
    transport = Transport(Timing(), max_body=MAX_REPLY, proxies=False)
    dialog = _Dialog(start, DirectLogin(TimedSender(transport, STEP_SECONDS)))
    try:
        return dialog.run(url)
    except ConsentRefusedError:
        raise CommandError("not connected: you did not agree") from None
    except AriesAPIError as error:
        raise CommandError(f"not connected: {dialog.describe(error.status_code)}") from None
    except EOFError:
        raise CommandError("not connected: there is nobody to ask, the input ended") from None
    finally:
        transport.close()


class _Dialog:
    """The person's side of the steps."""

    def __init__(self, start: authorization_pb2.DirectLoginStart, steps: DirectLogin) -> None:
        self._start = start
        self._steps = steps
        self._confirming = False

    def run(self, url: str) -> str:
        """Go through the steps, and return the provider's code.

        Raises:
            AriesAPIError: a step was refused, or the person did not agree.
            EOFError: nobody answers.
        """
        start = self._start
        email = _ask("E-mail address: ")
        password = _ask_hidden("Password: ")
        request = LoginRequest(
            url, start.client_id, email, password, start.redirect_uri, start.scope, start.code_challenge
        )
        begun = self._steps.begin(request, self._agrees)
        return self._verified(begun.session_token) if begun.mfa_required else begun.authorization_code

    def describe(self, status_code: int) -> str:
        """Return why a step was refused, in our own words: the provider's may hold anything."""
        if status_code in _ANSWERED:
            return "the provider's answer is not what it documents"
        # That the password or the code is wrong is told before the person is asked.
        if status_code in REASONS and not (self._confirming and status_code == _WRONG):
            return REASONS[status_code]
        return f"the provider refused, with status {status_code}: {_AGAIN}"

    def _verified(self, session_token: str) -> str:
        """Ask for the code from the phone, again after a wrong one as long as the provider takes another."""
        while True:
            code = "".join(_ask_hidden("Code sent to your phone: ").split())
            if not _SIX_DIGITS.fullmatch(code):
                print_error("a code has six digits; this one was not sent, and costs no try")
                continue
            try:
                return self._steps.verify(code, session_token).authorization_code
            except AriesAPIError as error:
                if error.status_code != _WRONG or self._confirming:
                    raise
            print_error("the code is wrong: type it again, or end this by Ctrl-C")

    def _agrees(self, wish: Wish) -> bool:
        """Ask whether to confirm, unless the person allowed it before; only a yes in full is one."""
        self._confirming = True
        client = (wish.client_name or self._start.client_id)[:MAX_NAME]
        scopes = wish.scopes or tuple(self._start.scope.split())
        if not wish.consent_required:
            print_error(f"\nThe provider says that you allowed {client} this before: {', '.join(scopes)}")
            return True
        print_error(f"\n{client} asks to be allowed, in your name, and by whoever the broker lets use the grant:")
        for scope in scopes:
            print_error(f"  - {scope}")
        return _ask("Do you agree? Type yes, or anything else for no: ").lower() == "yes"


def _ask(question: str) -> str:
    """Ask on stderr, so that stdout holds the result alone.

    Raises:
        EOFError: the input ended.
    """
    with _line_ended():
        sys.stderr.write(question)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.strip()


def _ask_hidden(question: str) -> str:
    """Ask on the terminal, which does not show what is typed.

    Raises:
        EOFError: the input ended.
    """
    with _line_ended():
        return getpass.getpass(question)


@contextmanager
def _line_ended() -> Iterator[None]:
    """Go to the next line where a question is left without an answer."""
    try:
        yield
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")
        raise
