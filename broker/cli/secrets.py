"""Reading a secret that an operator hands over: from a file or from stdin, never from an argument."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.errors import CommandError
from broker.core.secret import MAX_SECRET, NO_TEXT, Secret, text_problem

SecretFile = Annotated[Path | None, typer.Option(help="File with the secret.")]
Stdin = Annotated[bool, typer.Option("--stdin", help="Read the secret from stdin.")]


def read_secret(file: Path | None, *, stdin: bool) -> Secret:
    """Return the secret, without the line break behind it.

    Raises:
        CommandError: neither or both places were named, or what is there is no secret.
        OSError: the file cannot be read.
    """
    if (file is None) != stdin:
        message = "say where the secret is: --secret-file FILE or --stdin; it is never an argument"
        raise CommandError(message, 2)
    where = file or "stdin"
    try:
        text = _read_stdin() if file is None else _read(file)
    except UnicodeDecodeError:
        raise CommandError(f"{where}: {NO_TEXT}", 2) from None
    if len(text) > MAX_SECRET:
        message = f"{where}: it is longer than {MAX_SECRET} characters: give the secret alone"
        raise CommandError(message, 2)
    if problem := text_problem(text):
        raise CommandError(f"{where}: {problem}", 2)
    return Secret(text.rstrip("\r\n"))


def _read_stdin() -> str:
    return getpass.getpass("secret (not shown): ") if sys.stdin.isatty() else sys.stdin.read(MAX_SECRET + 1)


def _read(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        return opened.read(MAX_SECRET + 1)
