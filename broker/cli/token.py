"""`aries-broker token`: what a service does, by hand."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from aries_broker import Client, Token
from aries_broker.token import MAX_SECONDS
from broker.cli.access import Address, ApiKeyFile, Json
from broker.cli.output import print_error, print_json

app = typer.Typer(help="Get access tokens.", no_args_is_help=True)


@app.callback()
def token() -> None:
    """Get access tokens."""


def _check_seconds(value: float | None) -> float | None:
    """Refuse what is no duration: negative, not a number, or endless."""
    if value is not None and not 0 <= value <= MAX_SECONDS:
        message = f"{value} is not a number of seconds from 0 to {MAX_SECONDS}"
        raise typer.BadParameter(message)
    return value


@app.command()
def get(  # noqa: PLR0913 - each is an option
    *,
    scope: Annotated[list[str], typer.Option(help="A scope; may be given several times.")],
    grant: Annotated[str | None, typer.Option(help="The grant, where policy leaves several.")] = None,
    min_lifetime: Annotated[
        float | None, typer.Option(callback=_check_seconds, help="The least life accepted, in seconds.")
    ] = None,
    rejected_fingerprint: Annotated[
        str | None, typer.Option(help="Fingerprint of a token that the API refused: get another one.")
    ] = None,
    address: Address = None,
    api_key_file: ApiKeyFile = None,
    json: Json = False,
) -> None:
    """Print an access token, alone on stdout for scripts; --json prints what is known of it as well."""
    with Client(address, token_file=api_key_file) as broker:
        received = broker.get_token(scope, grant, min_lifetime, rejected_fingerprint)
    if sys.stdout.isatty():
        print_error("warning: this is a live token, and it stays in this terminal's scrollback")
    if json:
        print_json(_to_dict(received))
    else:
        sys.stdout.write(received.access_token + "\n")


def _to_dict(received: Token) -> dict[str, object]:
    return {**dataclasses.asdict(received), "expire_time": received.expire_time.isoformat()}
