"""`admin providers`: finding out how one narrows, and letting one work again whose endpoints moved."""

from __future__ import annotations

from typing import Annotated

import typer

from aries.broker.admin.v1 import config_pb2, config_pb2_grpc
from broker.cli.access import Json
from broker.cli.admin.objects import PROVIDERS, Name, build_app, open_access
from broker.cli.output import print_json, print_line, to_dict

app = build_app(PROVIDERS)


@app.command("prove-narrowing")
def prove_narrowing(
    context: typer.Context,
    grant: Annotated[str, typer.Argument(help="A throw-away grant; its refresh token is spent.")],
    *,
    json: Json = False,
) -> None:
    """Find out what the provider of a throw-away grant does with a narrower scope on a refresh."""
    with open_access(context).open() as broker:
        stub = config_pb2_grpc.ConfigServiceStub(broker.channel)
        response = broker.call(stub.ProveNarrowing, config_pb2.ProveNarrowingRequest(grant=grant))
    if json:
        print_json(to_dict(response))
        return
    for observation in response.observations:
        print_line(observation)
    print_line(f"narrowing: {response.narrowing}")


@app.command()
def unfreeze(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Let a frozen provider work again, with the endpoints that `show` says discovery names."""
    with open_access(context).open() as broker:
        stub = config_pb2_grpc.ConfigServiceStub(broker.channel)
        response = broker.call(stub.UnfreezeProvider, config_pb2.UnfreezeProviderRequest(name=name))
    if json:
        print_json(to_dict(response))
        return
    print_line(f"unfrozen; tokens are got at {response.token_origin} from now on; version {response.version}")
    if response.left_to_do:
        print_line("what was sealed for the former origin does not open at this one; still to be run:")
    for command in response.left_to_do:
        print_line(f"  {command}")
