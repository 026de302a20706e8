"""`admin api-keys`: credentials for callers that have neither a certificate nor an issuer."""

from __future__ import annotations

import sys

import typer

from aries.broker.admin.v1 import keys_pb2, keys_pb2_grpc
from broker.cli.access import Json
from broker.cli.admin.objects import Name, open_access
from broker.cli.output import print_error, print_json, print_line, print_table, to_dict

app = typer.Typer(help="The API keys.", no_args_is_help=True)


@app.command()
def create(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Make a key for the caller key:NAME, and print it: alone on stdout, and never again."""
    with open_access(context).open() as broker:
        stub = keys_pb2_grpc.KeysServiceStub(broker.channel)
        response = broker.call(stub.CreateApiKey, keys_pb2.CreateApiKeyRequest(name=name))
    if sys.stdout.isatty():
        print_error("warning: this key is shown once, and it stays in this terminal's scrollback")
    if json:
        print_json(to_dict(response))
    else:
        sys.stdout.write(response.api_key + "\n")


@app.command("list")
def list_keys(context: typer.Context, *, json: Json = False) -> None:
    """List the keys' public parts in name order."""
    with open_access(context).open() as broker:
        stub = keys_pb2_grpc.KeysServiceStub(broker.channel)
        rows = [to_dict(key) for key in broker.call(stub.ListApiKeys, keys_pb2.ListApiKeysRequest()).keys]
    if json:
        print_json(rows)
    else:
        print_table(("name", "id", "disabled"), rows)


@app.command()
def disable(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """End a key for good."""
    with open_access(context).open() as broker:
        stub = keys_pb2_grpc.KeysServiceStub(broker.channel)
        response = broker.call(stub.DisableApiKey, keys_pb2.DisableApiKeyRequest(name=name))
    if json:
        print_json(to_dict(response))
    else:
        print_line("disabled")
