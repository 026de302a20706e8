"""The provider's direct steps in this terminal: password, code and consent go from here to the provider alone."""

from __future__ import annotations

import getpass
import sys
from typing import Final

from aries.broker.v1 import authorization_pb2
from aries_exchange import AriesAPIError
from aries_exchange.direct_login import DirectLogin, LoginRequest
from aries_exchange.errors import ConsentRefusedError
from aries_exchange.timing import Timing
from aries_exchange.transport import Transport
from broker.cli.errors import CommandError
from broker.cli.output import print_error

WRONG: Final = 401
LOCKED: Final = 423
REASONS: Final = {
    0: "the provider could not be reached, or did not answer",
    WRONG: "the provider does not know this e-mail address with this password",
    403: "the provider does not let this client log people in so",
    410: "it took too long: run the command again",
    LOCKED: "there were too many wrong tries: the provider locked the login for a while",
    429: "the provider wants to be asked less often: run the command again later",
}


def log_in(start: authorization_pb2.DirectLoginStart) -> str:
    """Ask for e-mail address, password and code, ask for consent in words, and return the provider's code.

    Raises:
        CommandError: the provider refused, or the person did.
    """
    transport = Transport(Timing())
    steps = DirectLogin(transport)
    try:
        email = _ask("E-mail address: ")
        password = getpass.getpass("Password: ")
        request = LoginRequest(
            start.url, start.client_id, email, password, start.redirect_uri, start.scope, start.code_challenge
        )
        begun = steps.begin(request, _consents)
        if not begun.mfa_required:
            return begun.authorization_code
        return _verified(steps, begun.session_token)
    except ConsentRefusedError:
        raise CommandError("not connected: you did not agree") from None
    except AriesAPIError as error:
        raise _refused(error) from None
    finally:
        transport.close()


def _verified(steps: DirectLogin, session_token: str) -> str:
    """Ask for the code from the phone, again after a wrong one as long as the provider takes another."""
    while True:
        code = getpass.getpass("Code sent to your phone: ")
        try:
            return steps.verify(code.strip(), session_token, None).authorization_code
        except AriesAPIError as error:
            if isinstance(error, ConsentRefusedError) or error.status_code not in {400, WRONG}:
                raise
            print_error("the code is wrong; once more, or Ctrl-C")


def _consents(scopes: tuple[str, ...]) -> bool:
    """Ask; only a yes in full is one."""
    print_error("\nAsked for is that the broker's callers may, in your name:")
    for scope in scopes:
        print_error(f"  - {scope}")
    return _ask("Do you agree? Type yes, or anything else for no: ").strip().lower() == "yes"


def _ask(question: str) -> str:
    """Ask on stderr, so that stdout holds the result alone."""
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise CommandError("there is nobody to ask: the input ended")
    return line.strip()


def _refused(error: AriesAPIError) -> CommandError:
    """Return a refusal in our own words: the provider's may hold anything."""
    known = REASONS.get(error.status_code, f"the provider refused, with status {error.status_code}")
    return CommandError(f"not connected: {known}")
