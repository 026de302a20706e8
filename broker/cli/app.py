"""All commands, and the one place where a failure becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from broker.cli import admin, keys, login, serving, token
from broker.cli.apply import apply
from broker.cli.errors import describe, exit_code_of, to_dict
from broker.cli.output import print_error, print_json_error, print_line

app = typer.Typer(
    name="aries-broker",
    help="The Aries credential broker: holds the secrets, hands out short-lived access tokens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        print_line(version("aries-broker"))
        raise typer.Exit


@app.callback()
def root(
    *, _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")] = False
) -> None:
    """Hold the secrets, hand out short-lived access tokens."""


app.command()(serving.serve)
app.command()(serving.migrate)
app.command()(serving.sandbox)
app.command()(serving.demo)
app.command()(apply)
app.command()(login.login)
app.add_typer(token.app, name="token")
app.add_typer(admin.app, name="admin")
app.add_typer(keys.app, name="keys")


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 asked for wrongly, 130 interrupted."""
    as_json = "--json" in arguments
    try:
        # Asked for wrongly, a command prints its usage by itself, unless a program reads.
        ended = typer.main.get_command(app).main(list(arguments), prog_name="aries-broker", standalone_mode=not as_json)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - nothing but a sentence leaves the command line
        if as_json:
            print_json_error(to_dict(error))
        else:
            print_error(f"error: {describe(error)}")
        return exit_code_of(error)
    finally:
        _flush()
    return ended if isinstance(ended, int) else 0


def _flush() -> None:
    """Write out what is printed; a reader that went away, such as `head`, is no failure."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
