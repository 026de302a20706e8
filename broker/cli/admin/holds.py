"""`admin grants freeze`, `unfreeze`, `revoke`, `settle`, `suspects`, `release`: holding grants, letting them go."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from aries.broker.admin.v1 import grants_pb2, grants_pb2_grpc
from broker.cli.access import Json
from broker.cli.admin.grants import app
from broker.cli.admin.objects import Name, open_access
from broker.cli.output import print_error, print_json, print_line, print_table, to_dict

__all__ = ["app"]

Ended = grants_pb2.FreezeResponse | grants_pb2.RevokeGrantResponse
LetGo = grants_pb2.UnfreezeResponse | grants_pb2.SettleResponse | grants_pb2.ReleaseSuspectResponse

SUSPECT: Final = ("name", "attempt", "evidence_attempt", "generation", "evidence_generation", "found_at")


@app.command()
def freeze(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Stop a grant: no replica hands out a token of it any more, and nothing of it is sent."""
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        _say_ended(broker.call(stub.Freeze, grants_pb2.FreezeRequest(name=name)), json=json)


@app.command()
def unfreeze(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Let a frozen grant go."""
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        _say(broker.call(stub.Unfreeze, grants_pb2.UnfreezeRequest(name=name)), json=json)


@app.command()
def revoke(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """End a grant for good, here at once and then at its provider, where that takes it."""
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        _say_ended(broker.call(stub.RevokeGrant, grants_pb2.RevokeGrantRequest(name=name)), json=json)


@app.command()
def settle(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Give your word that no replica that is gone left a token of a grant in doubt, so that it may be tried again."""
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        _say(broker.call(stub.Settle, grants_pb2.SettleRequest(name=name)), json=json)


@app.command()
def suspects(context: typer.Context, *, json: Json = False) -> None:
    """List grants that are held because the database was rolled back: their refresh tokens may be spent."""
    rows: list[dict[str, object]] = []
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        after = ""
        while page := broker.call(stub.ListSuspects, grants_pb2.ListSuspectsRequest(after=after)).suspects:
            rows += [to_dict(suspect) for suspect in page]
            after = page[-1].name
    if json:
        print_json(rows)
    else:
        print_table(SUSPECT, rows)


@app.command()
def release(
    context: typer.Context,
    name: Name,
    *,
    abandon_token: Annotated[
        bool,
        typer.Option("--abandon-token", help="Never send the refresh token there is: log in anew, or import one."),
    ] = False,
    json: Json = False,
) -> None:
    """Let a suspect go, once it is clear that its refresh token is good, or that it is not to be sent."""
    request = grants_pb2.ReleaseSuspectRequest(name=name, abandon_token=abandon_token)
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        _say(broker.call(stub.ReleaseSuspect, request), json=json)


def _say(response: LetGo, *, json: bool) -> None:
    if json:
        print_json(to_dict(response))
    else:
        _say_state(response.grant)


def _say_ended(response: Ended, *, json: bool) -> None:
    if json:
        print_json(to_dict(response))
        return
    _say_state(response.grant)
    if response.live_tokens:
        print_error("warning: who holds one of these access tokens can use it until it ends, or its provider is told")
        print_table(("fingerprint", "provider_scopes", "remaining"), map(to_dict, response.live_tokens))


def _say_state(grant: grants_pb2.GrantStatus) -> None:
    print_line(f"hold: {grant.hold}, health: {grant.health}, phase: {grant.phase}")
