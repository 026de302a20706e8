"""`admin policies`, and asking which of them would decide."""

from __future__ import annotations

from typing import Annotated

import typer

from aries.broker.admin.v1 import config_pb2, config_pb2_grpc
from broker.cli.access import Json
from broker.cli.admin.objects import POLICIES, build_app, open_access
from broker.cli.output import print_json, print_line, to_dict

app = build_app(POLICIES)


@app.command()
def explain(
    context: typer.Context,
    *,
    caller: Annotated[str, typer.Option(help="A caller id, such as key:reports.")],
    scope: Annotated[list[str], typer.Option(help="A scope; may be given several times.")],
    grant: Annotated[str, typer.Option(help="The grant; left out as a caller would.")] = "",
    json: Json = False,
) -> None:
    """Say what a caller's request would be answered, and which policy decides; nothing is asked of the provider."""
    request = config_pb2.ExplainPolicyRequest(caller=caller, grant=grant, scopes=scope)
    with open_access(context).open() as broker:
        stub = config_pb2_grpc.ConfigServiceStub(broker.channel)
        response = broker.call(stub.ExplainPolicy, request)
    if json:
        print_json(to_dict(response))
        return
    print_line(f"allowed by policy {response.policy}" if response.allowed else f"refused: {response.reason}")
    for line in response.considered:
        print_line(f"  {line}")
