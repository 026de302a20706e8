"""Reading a secret that an operator hands over: from a file or from stdin, never from an argument."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.errors import CommandError
from broker.core.secret import Secret

SecretFile = Annotated[Path | None, typer.Option(help="File with the secret.")]
Stdin = Annotated[bool, typer.Option("--stdin", help="Read the secret from stdin.")]


def read_secret(file: Path | None, *, stdin: bool) -> Secret:
    """Return the secret, without the line break behind it.

    Raises:
        CommandError: neither or both places were named, or nothing is there.
        OSError: the file cannot be read.
    """
    if (file is None) != stdin:
        message = "say where the secret is: --secret-file FILE or --stdin; it is never an argument"
        raise CommandError(message, 2)
    text = _read_stdin() if file is None else _read_file(file)
    if not text.strip():
        message = "the secret is empty"
        raise CommandError(message, 2)
    return Secret(text.rstrip("\r\n"))


def _read_stdin() -> str:
    return getpass.getpass("secret (not shown): ") if sys.stdin.isatty() else sys.stdin.read()


def _read_file(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError:
        message = f"{file} does not hold text"
        raise CommandError(message, 2) from None
