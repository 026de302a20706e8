"""The command line `aries-broker`."""

from __future__ import annotations

import importlib.util
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit; with the base install alone, say what is missing."""
    if any(importlib.util.find_spec(module) is None for module in ("typer", "rich", "pydantic", "sqlalchemy")):
        sys.stderr.write("this is the client alone; the command line needs: pip install 'aries-broker[server]'\n")
        sys.exit(2)
    from broker.cli.app import run  # noqa: PLC0415 - the base install cannot import it

    sys.exit(run(sys.argv[1:]))
