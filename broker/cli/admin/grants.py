"""`admin grants`: their states, and taking in a refresh token."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from aries.broker.admin.v1 import grants_pb2, grants_pb2_grpc
from broker.cli.access import Json
from broker.cli.admin.objects import GRANTS, Name, build_writing_app, open_access
from broker.cli.output import print_error, print_fields, print_json, print_line, print_table, to_dict
from broker.cli.secrets import SecretFile, Stdin, read_secret

PAGE_SIZE: Final = 500
COLUMNS: Final = ("name", "client", "type", "scopes", "phase", "health", "hold", "consented", "origin")
HISTORY: Final = ("attempt", "recorded_at", "owner", "secret_version", "outcome", "cause")

app = build_writing_app(GRANTS)


@app.command("list")
def list_grants(context: typer.Context, *, json: Json = False) -> None:
    """List them in name order."""
    rows: list[dict[str, object]] = []
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        request = grants_pb2.ListGrantsRequest(page_size=PAGE_SIZE)
        while True:
            page = broker.call(stub.ListGrants, request)
            rows += [to_dict(grant) for grant in page.grants]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    if json:
        print_json(rows)
    else:
        print_table(COLUMNS, rows)


@app.command()
def show(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Show one, and how its last redeems went."""
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        response = broker.call(stub.GetGrant, grants_pb2.GetGrantRequest(name=name))
    if json:
        print_json(to_dict(response))
        return
    print_fields(to_dict(response.grant))
    if response.attempts:
        print_line("")
        print_table(HISTORY, map(to_dict, response.attempts))


@app.command("import")
def import_refresh_token(  # noqa: PLR0913 - each is an option
    context: typer.Context,
    name: Name,
    *,
    secret_file: SecretFile = None,
    stdin: Stdin = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Also when the grant has a refresh token that works; that one is given up."),
    ] = False,
    json: Json = False,
) -> None:
    """Take in an existing refresh token; it is redeemed at once, so that rotation proves sole possession."""
    refresh_token = read_secret(secret_file, stdin=stdin)
    request = grants_pb2.ImportRefreshTokenRequest(grant=name, refresh_token=refresh_token.reveal(), replace=replace)
    with open_access(context).open() as broker:
        stub = grants_pb2_grpc.GrantsServiceStub(broker.channel)
        response = broker.call(stub.ImportRefreshToken, request)
    if json:
        print_json(to_dict(response))
        return
    for warning in response.warnings:
        print_error(f"warning: {warning}")
    print_line("imported and rotated: the old token is spent" if response.rotated else "imported, not rotated")
