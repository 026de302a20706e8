"""`aries-broker keys`: the two keys a broker off this machine is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.access import Json
from broker.cli.output import print_json, print_line

app = typer.Typer(help="Make the keys a broker is started with.", no_args_is_help=True)

NewFile = Annotated[Path, typer.Argument(help="The file to make; it must not be there yet.")]


@app.command("new-kek")
def new_kek(file: NewFile, *, json: Json = False) -> None:
    """Make a key-encryption key, for BROKER_KEK=file:FILE."""
    from broker.adapters.keys.files import make_kek_file  # noqa: PLC0415 - a fifth of what every command imports

    make_kek_file(file)
    if json:
        print_json({"made": "key-encryption key", "file": str(file)})
    else:
        print_line(f"{file}: a new key-encryption key; without it nothing in the database opens, so keep a copy apart")


@app.command("new-bootstrap")
def new_bootstrap(file: NewFile, *, json: Json = False) -> None:
    """Make the first admin's API key, for BROKER_BOOTSTRAP_ADMIN_KEY_FILE=FILE."""
    from broker.adapters.keys.files import make_bootstrap_key_file  # noqa: PLC0415 - as above

    make_bootstrap_key_file(file)
    if json:
        print_json({"made": "bootstrap admin key", "file": str(file)})
    else:
        print_line(f"{file}: the first admin's key; it ends once another admin exists, or after 24 hours")
