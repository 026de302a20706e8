"""`serve`, `migrate`, `sandbox` and `demo`: the commands that run something.

What they run is imported when they do: asking for a token does not load a server.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.access import Json
from broker.cli.errors import CommandError, name_file
from broker.cli.output import print_json, print_line


def serve(
    *,
    config: Annotated[Path | None, typer.Option(help="Configuration to apply at the start.")] = None,
    insecure_plaintext: Annotated[
        bool, typer.Option("--insecure-plaintext", help="Half of allowing plaintext off loopback; see the README.")
    ] = False,
) -> None:
    """Run the broker until SIGTERM or SIGINT; settings are the BROKER_ variables."""
    from broker import main, settings  # noqa: PLC0415
    from broker.adapters.config_file import ConfigFileError  # noqa: PLC0415

    try:
        main.serve(settings.load(insecure_plaintext=insecure_plaintext), config)
    except ConfigFileError as error:
        raise CommandError(name_file(config or Path(), error.problems)) from None


def migrate(*, json: Json = False) -> None:
    """Bring the PostgreSQL of BROKER_DATABASE_URL to this version's tables."""
    from broker import main, settings  # noqa: PLC0415
    from broker.adapters.sql.migrate import TABLES_VERSION  # noqa: PLC0415

    main.migrate(settings.load_for_migration())
    if json:
        print_json({"tables": TABLES_VERSION})
    else:
        print_line(f"the tables are at {TABLES_VERSION}")


def sandbox(  # noqa: PLR0913 - each is an option
    *,
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8090,
    seed: Annotated[Path | None, typer.Option(help="YAML file of clients, users, accounts and behaviour.")] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="'{client_id: a, client_secret: b, redirect_uris: [http://127.0.0.1:1/c]}'")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option(help="'{id: 1, email: a@example.com, password: c, mfa: true}'")
    ] = None,
    account: Annotated[list[str] | None, typer.Option(help="An account, as in the seed file.")] = None,
    behaviour: Annotated[list[str] | None, typer.Option(help="A switch, such as narrowing=sticky.")] = None,
    admin_token_file: Annotated[Path | None, typer.Option(help="New file for the token of its admin endpoint.")] = None,
) -> None:
    """Run the stand-in for Aries on this machine until SIGTERM or SIGINT."""
    if importlib.util.find_spec("broker.sandbox") is None:
        message = "this installation leaves the sandbox out; install aries-broker[server] where you develop"
        raise CommandError(message)
    from broker import sandbox as stand_in  # noqa: PLC0415

    try:
        config = stand_in.load_seed(seed) if seed else stand_in.SandboxConfig()
        config = stand_in.with_flags(
            config, clients=client or (), users=user or (), accounts=account or (), behaviour=behaviour or ()
        )
        stand_in.run(dataclasses.replace(config, admin_token_file=admin_token_file), host, port)
    except ValueError as error:
        raise CommandError(str(error), 2) from None


def demo() -> None:
    """Show the whole story on one screen with real processes: sandbox, broker, two services."""
    if importlib.util.find_spec("broker.cli.demo") is None or importlib.util.find_spec("broker.sandbox") is None:
        message = "this installation leaves the demo out; install aries-broker[server] where you develop"
        raise CommandError(message)
    from broker.cli import demo as story  # noqa: PLC0415

    story.run()
