"""`admin clients`, and their first secrets."""

from __future__ import annotations

from typing import Annotated

import typer

from aries.broker.admin.v1 import secrets_pb2, secrets_pb2_grpc
from broker.cli.access import Json
from broker.cli.admin.objects import CLIENTS, Name, build_app, open_access
from broker.cli.output import print_json, print_line, to_dict
from broker.cli.secrets import SecretFile, Stdin, read_secret

app = build_app(CLIENTS)


@app.command("add-secret")
def add_secret(  # noqa: PLR0913 - each is an option
    context: typer.Context,
    name: Name,
    *,
    secret_file: SecretFile = None,
    stdin: Stdin = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in place of one that opens, because the provider refuses that.")
    ] = False,
    json: Json = False,
) -> None:
    """Store the first secret of a client that has none, or none for where its token endpoint is now."""
    secret = read_secret(secret_file, stdin=stdin)
    request = secrets_pb2.AddFirstClientSecretRequest(client=name, secret=secret.reveal(), replace=replace)
    with open_access(context).open() as broker:
        stub = secrets_pb2_grpc.SecretsServiceStub(broker.channel)
        response = broker.call(stub.AddFirstClientSecret, request)
    if json:
        print_json(to_dict(response))
    else:
        print_line(f"stored as version {response.version}")
