"""`aries-broker login`: have a person log in for a grant, in a browser or in this terminal."""

from __future__ import annotations

import signal
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Final

import grpc
import typer
from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from aries_broker import BrokerError
from broker.cli.access import Access, Address, ApiKeyFile, Broker, Json
from broker.cli.errors import CommandError
from broker.cli.output import print_error, print_json, print_line, to_dict

WAIT: Final = 20
"""Seconds the broker is asked to wait for news at a time."""
PATIENCE: Final = 2.0
"""Seconds between two tries while the broker is away."""

STAGES: Final = {
    authorization_pb2.AUTHORIZATION_STATE_STARTED: "waiting for the page to be opened and confirmed",
    authorization_pb2.AUTHORIZATION_STATE_CONFIRMED: "waiting for the login at the provider",
    authorization_pb2.AUTHORIZATION_STATE_EXCHANGING: "taking in what the provider gave",
    authorization_pb2.AUTHORIZATION_STATE_RECEIVED: "making it the grant's",
}
AGAIN: Final = "run the command again"
FAILURES: Final = {
    "CANCELLED": "the login was cancelled",
    "EXPIRED": f"the login took too long: {AGAIN}",
    "TOO_MANY_TRIES": f"the code was typed wrongly too often: {AGAIN}",
    "DENIED": "the person, or the provider, did not allow it",
    "PROVIDER_ERROR": f"the provider sent the browser back with an error: {AGAIN}, or look at its configuration",
    "WRONG_ISSUER": "another server than the provider answered: look into that before the login is tried again",
    "CODE_REFUSED": f"the provider did not take its own code back: {AGAIN}",
    "CLIENT_REFUSED": "the provider refuses the client's secret: renew it with `admin clients add-secret --replace`",
    "PROVIDER_UNAVAILABLE": f"the provider did not answer: {AGAIN} a little later",
    "UNUSABLE_REPLY": "the provider's answer cannot be used; the broker's log says why",
    "NO_REFRESH_TOKEN": "the provider gave no refresh token: it may want `login_scopes` or `authorize_parameters`",
    "SCOPE_NOT_GRANTED": "less was allowed than the grant needs; nothing was connected",
    "SUBJECT_MISMATCH": "the grant is another person's: with --any-subject an admin lets it become this one's",
    "GRANT_UNAVAILABLE": "the grant, its client or its provider was changed or held meanwhile",
    "NOT_COMPLETED": "the login was not completed in time",
}


@dataclass(frozen=True, slots=True)
class Logins:
    """AuthorizationService as a person's command calls it."""

    broker: Broker
    stub: authorization_pb2_grpc.AuthorizationServiceStub

    def start(
        self, request: authorization_pb2.StartAuthorizationRequest
    ) -> authorization_pb2.StartAuthorizationResponse:
        """Open a login."""
        return self.broker.call(self.stub.StartAuthorization, request)

    def get(self, flow_id: str) -> authorization_pb2.Authorization:
        """Wait a while for the login to get further."""
        request = authorization_pb2.GetAuthorizationRequest(flow_id=flow_id, wait=Duration(seconds=WAIT))
        return self.broker.call(self.stub.GetAuthorization, request).authorization

    def complete(self, flow_id: str, code: str, redirect_uri: str) -> authorization_pb2.Authorization:
        """Bring the provider's code of a direct login."""
        direct = authorization_pb2.DirectCode(flow_id=flow_id, code=code, redirect_uri=redirect_uri)
        request = authorization_pb2.CompleteAuthorizationRequest(direct=direct)
        return self.broker.call(self.stub.CompleteAuthorization, request).authorization

    def cancel(self, flow_id: str) -> None:
        """End the login, as far as the broker can be told."""
        with suppress(BrokerError):
            self.broker.call(
                self.stub.CancelAuthorization, authorization_pb2.CancelAuthorizationRequest(flow_id=flow_id)
            )


def login(  # noqa: PLR0913 - each is an option
    *,
    grant: Annotated[str, typer.Argument(help="The grant a person is to log in for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="The grant's scopes, all of them or none, which means the same.")
    ] = None,
    any_subject: Annotated[
        bool, typer.Option("--any-subject", help="The grant may become another person's; for admins.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in this machine's browser.")] = True,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Log in here, without a browser, where the client allows it.")
    ] = False,
    redirect_uri: Annotated[
        str | None, typer.Option(help="With --terminal: one of the client's redirect URIs; nothing is sent there.")
    ] = None,
    address: Address = None,
    api_key_file: ApiKeyFile = None,
    json: Json = False,
) -> None:
    """Have a person log in at the grant's provider; Ctrl-C cancels the login."""
    if terminal != (redirect_uri is not None):
        raise CommandError("--terminal and --redirect-uri go together", 2)
    request = authorization_pb2.StartAuthorizationRequest(grant=grant, scopes=scope or (), any_subject=any_subject)
    if redirect_uri is not None:
        request.direct.redirect_uri = redirect_uri
    with Access(address, api_key_file).open() as opened:
        logins = Logins(opened, authorization_pb2_grpc.AuthorizationServiceStub(opened.channel))
        started = logins.start(request)
        with _cancelling(logins, started.flow_id):
            if terminal:
                from broker.cli.terminal_login import log_in  # noqa: PLC0415 - the SDK, for this alone

                ended = logins.complete(started.flow_id, log_in(started.direct), started.direct.redirect_uri)
            else:
                _show(started, opens=browser)
                ended = _followed(logins, started)
    _tell(ended, as_json=json)


def _show(started: authorization_pb2.StartAuthorizationResponse, *, opens: bool) -> None:
    """Tell where the person goes; the link and the code are for whoever sits here."""
    code = started.short_code
    print_error(f"Open this page within {round(started.lifetime.seconds / 60)} minutes, and type the code there:\n")
    print_error(f"    {started.authorization_url}\n    code: {code[:4]}-{code[4:]}\n")
    if opens and sys.stderr.isatty():
        with suppress(webbrowser.Error):
            webbrowser.open(started.authorization_url)


def _followed(logins: Logins, started: authorization_pb2.StartAuthorizationResponse) -> authorization_pb2.Authorization:
    """Wait for the end and say how far it is; a broker that is away for a while is waited for."""
    give_up = time.monotonic() + started.lifetime.seconds + WAIT
    stage = ""
    while True:
        try:
            told = logins.get(started.flow_id)
        except BrokerError as error:
            if error.status is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > give_up:
                raise
            stage = _say("the broker is away; waiting for it", stage)
            time.sleep(PATIENCE)
            continue
        if told.state not in STAGES:
            return told
        stage = _say(STAGES[told.state], stage)


def _say(stage: str, before: str) -> str:
    if stage != before:
        print_error(f"{stage} …")
    return stage


def _tell(ended: authorization_pb2.Authorization, *, as_json: bool) -> None:
    """Say what became of it.

    Raises:
        CommandError: nothing was connected.
    """
    if ended.state != authorization_pb2.AUTHORIZATION_STATE_CONNECTED:
        name = authorization_pb2.AuthorizationFailure.Name(ended.failure).removeprefix("AUTHORIZATION_FAILURE_")
        raise CommandError(f"not connected: {FAILURES.get(name, 'the login is not over')} [{name}]")
    if as_json:
        print_json(to_dict(ended))
        return
    whose = f" as {ended.subject}" if ended.subject else ""
    print_line(f"connected: the grant {ended.grant}{whose}, granted {' '.join(ended.provider_scopes)}")


@contextmanager
def _cancelling(logins: Logins, flow_id: str) -> Iterator[None]:
    """Cancel the login when the block is left before its end, by Ctrl-C or SIGTERM among others."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except BaseException:
        logins.cancel(flow_id)
        print_error("the login is cancelled")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
