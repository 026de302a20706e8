"""`aries-broker admin`: what operators do, over the broker's admin services."""

from __future__ import annotations

import typer

from broker.cli.access import Access, Address, ApiKeyFile
from broker.cli.admin import api_keys, audit, clients, holds, objects, policies, providers

app = typer.Typer(help="Operate a broker.", no_args_is_help=True)


@app.callback()
def admin(context: typer.Context, address: Address = None, api_key_file: ApiKeyFile = None) -> None:
    """Operate a broker; without a credential given, the key that a first start left in the data folder is used."""
    context.obj = Access(address, api_key_file)


app.add_typer(providers.app, name="providers")
app.add_typer(clients.app, name="clients")
app.add_typer(holds.app, name="grants")
app.add_typer(policies.app, name="policies")
app.add_typer(objects.build_app(objects.LIMITS), name="limits")
app.add_typer(objects.build_app(objects.ISSUERS), name="issuers")
app.add_typer(objects.build_app(objects.ROLES), name="roles")
app.add_typer(api_keys.app, name="api-keys")
app.add_typer(audit.app, name="audit")
