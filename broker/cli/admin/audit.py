"""`admin audit`: what happened, newest last."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from aries.broker.admin.v1 import audit_pb2, audit_pb2_grpc
from broker.cli.access import Json
from broker.cli.admin.objects import open_access
from broker.cli.output import print_json, print_table, to_dict

_SEARCHED: Final = frozenset({"request_id", "caller_request_id", "method"})

app = typer.Typer(help="The audit log.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Read the audit log."""


@app.command()
def tail(
    context: typer.Context,
    *,
    count: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many events.")] = 20,
    json: Json = False,
) -> None:
    """Show the last events, the newest last."""
    with open_access(context).open() as broker:
        stub = audit_pb2_grpc.AuditServiceStub(broker.channel)
        response = broker.call(stub.ListEvents, audit_pb2.ListEventsRequest(limit=count))
    rows = [to_dict(event) for event in reversed(response.events)]
    if json:
        print_json(rows)
    else:
        print_table(("time", "action", "actor", "fields"), map(_shorten, rows))


def _shorten(row: dict[str, object]) -> dict[str, object]:
    """Leave out of a table what only a search needs: --json has it."""
    fields = row["fields"]
    shown = {name: value for name, value in fields.items() if name not in _SEARCHED} if isinstance(fields, dict) else {}
    return {**row, "time": str(row["time"])[:19], "fields": shown}
