"""`aries-broker login`: have a person log in for a grant, in a browser or in this terminal."""

from __future__ import annotations

import os
import signal
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated

import typer

from aries.broker.v1 import authorization_pb2
from broker.cli.access import Access, Address, ApiKeyFile, Json
from broker.cli.errors import CommandError
from broker.cli.login_calls import Login
from broker.cli.login_texts import describe_failure
from broker.cli.output import print_error, print_json, print_line, to_dict
from broker.cli.progress import Progress


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
    _check_options(redirect_uri, terminal=terminal)
    request = authorization_pb2.StartAuthorizationRequest(grant=grant, scopes=scope or (), any_subject=any_subject)
    if redirect_uri is not None:
        request.direct.redirect_uri = redirect_uri
    with _signals_interrupt(), Access(address, api_key_file).open() as opened, Progress() as progress:
        begun = Login.start(opened, request, progress)
        try:
            ended = _log_in_here(begun) if terminal else _log_in_by_browser(begun, opens=browser)
        except BaseException:
            became = begun.cancel()  # first: a terminal that was closed takes no word
            with suppress(OSError):
                progress.end()
                print_error(became)
            raise
    _tell(ended, as_json=json)


def _check_options(redirect_uri: str | None, *, terminal: bool) -> None:
    """Refuse options that do not go together, before anything is started.

    Raises:
        CommandError: they do not.
    """
    if terminal and redirect_uri is None:
        told = "--terminal needs --redirect-uri: one that the client has, to the letter; the provider compares it"
        raise CommandError(told, 2)
    if redirect_uri is not None and not terminal:
        raise CommandError("--redirect-uri is for --terminal alone", 2)
    if terminal and not sys.stdin.isatty():
        raise CommandError("--terminal asks for a password: it needs a terminal as its input", 2)


def _log_in_here(begun: Login) -> authorization_pb2.Authorization:
    """Take the provider's direct steps here, and bring the broker the code that they end with."""
    from broker.cli.terminal_login import log_in  # noqa: PLC0415 - the SDK, for this alone

    return begun.bring(log_in(begun.started.direct))


def _log_in_by_browser(begun: Login, *, opens: bool) -> authorization_pb2.Authorization:
    """Show link and code, which are for whoever sits here, and wait until somebody used them."""
    started, code = begun.started, begun.started.short_code
    print_error(f"Open this page within {round(started.lifetime.seconds / 60)} minutes, and type the code there:\n")
    print_error(f"    {started.authorization_url}\n\n    {code[:4]}-{code[4:]}\n")
    if opens and sys.stderr.isatty() and _has_display():
        with suppress(webbrowser.Error):
            webbrowser.open(started.authorization_url)
    return begun.follow()


def _has_display() -> bool:
    """Tell whether a browser would have a window: one that has none would take this terminal."""
    named = any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
    return named or sys.platform == "darwin"


def _tell(ended: authorization_pb2.Authorization, *, as_json: bool) -> None:
    """Say what became of it.

    Raises:
        CommandError: nothing was connected.
    """
    if as_json:
        print_json(to_dict(ended))
    if ended.state != authorization_pb2.AUTHORIZATION_STATE_CONNECTED:
        raise CommandError(f"not connected: {describe_failure(ended)}")
    if not as_json:
        whose = f" as {ended.subject}" if ended.subject else ""
        print_line(f"connected: the grant {ended.grant}{whose}, granted {' '.join(ended.provider_scopes)}")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Have SIGTERM, and the terminal's end, do what Ctrl-C does, for the length of the block: the first of them.

    A shell whose terminal is closed sends SIGHUP once more: that is not to cut the cancelling short.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in heeded:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heeded}  # nohup wants one of them unheeded
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
