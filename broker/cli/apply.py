"""`aries-broker apply`: make the broker's configuration what a file says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from aries.broker.admin.v1 import config_pb2, config_pb2_grpc
from aries_broker import InvalidRequestError
from broker.adapters.config_file import ConfigFileError, ParsedConfig, known_problems, read_config, secret_field
from broker.adapters.config_schema import FileProblem
from broker.adapters.secret_sources import resolve_for_operator
from broker.cli.access import MAX_REQUEST, Access, Address, ApiKeyFile, Json
from broker.cli.errors import CommandError, name_file
from broker.cli.messages import build_config
from broker.cli.output import print_error, print_json, print_line, to_dict
from broker.core.config import Problem, merged
from broker.core.secret import Secret


def apply(
    *,
    file: Annotated[Path, typer.Option("--file", "-f", help="The configuration, broker.yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")] = False,
    address: Address = None,
    api_key_file: ApiKeyFile = None,
    json: Json = False,
) -> None:
    """Make the configuration what FILE says: all of it or nothing; a second time changes nothing."""
    parsed, secrets, unread = _read(file)
    request = config_pb2.ApplyRequest(
        config=build_config(parsed.config), first_secrets=_first_secrets(parsed, secrets), dry_run=dry_run
    )
    _refuse_too_long(file, request)
    with Access(address, api_key_file).open() as broker:
        stub = config_pb2_grpc.ConfigServiceStub(broker.channel)
        try:
            response = broker.call(stub.Apply, request)
        except InvalidRequestError as error:
            _tell_unread(parsed, unread, error)
            raise (error if json else _with_lines(file, parsed, error)) from None
    if json:
        print_json(to_dict(response))
    else:
        _print_changes(response, dry_run=dry_run)


def _read(file: Path) -> tuple[ParsedConfig, Mapping[str, Secret], Mapping[str, str]]:
    """Return the configuration, the secrets it points at, read on this machine, and why others could not be read.

    Raises:
        CommandError: naming everything that can be known to be wrong here.
    """
    try:
        parsed = read_config(file)
    except ConfigFileError as error:
        raise _wrong(file, error.beside(lambda references: resolve_for_operator(references)[1]).problems) from None
    secrets, unread = resolve_for_operator(parsed.secrets)
    if problems := known_problems(parsed):
        problems += parsed.unread_problems(unread)
        raise _wrong(file, sorted(problems, key=lambda problem: problem.line))
    return parsed, secrets, unread


def _first_secrets(parsed: ParsedConfig, secrets: Mapping[str, Secret]) -> Iterator[config_pb2.ClientSecret]:
    """Return what is sent of the first secrets: they travel once and are kept only if none is there."""
    for name in parsed.secrets:
        if name in secrets:
            yield config_pb2.ClientSecret(client=name, secret=secrets[name].reveal())
        else:  # the broker alone knows whether it is needed
            yield config_pb2.ClientSecret(client=name, unread=True)


def _tell_unread(parsed: ParsedConfig, unread: Mapping[str, str], error: InvalidRequestError) -> None:
    """Say why a secret that the broker needs could not be read; it cannot know that."""
    for name, reference in parsed.secrets.items():
        path = secret_field(reference)
        if path in error.fields and reference.field in unread:
            error.fields[path] = f"the client {name!r} has no secret yet, and {unread[reference.field]}"


def _wrong(file: Path, problems: Sequence[FileProblem]) -> CommandError:
    fields = merged([Problem(problem.field, problem.message) for problem in problems if problem.field])
    return CommandError(name_file(file, problems), fields=fields)


def _refuse_too_long(file: Path, request: config_pb2.ApplyRequest) -> None:
    """Say what to do instead of sending what the broker cannot take: gRPC would tell of message sizes alone."""
    if (length := request.ByteSize()) > MAX_REQUEST:
        message = (
            f"{file}: as one request this is {length} bytes, and a broker takes {MAX_REQUEST}: have the broker read "
            "the file at its start with `aries-broker serve --config`, or leave objects out of it and put them one by "
            "one, as with `aries-broker admin grants put`"
        )
        raise CommandError(message)


def _with_lines(file: Path, parsed: ParsedConfig, error: InvalidRequestError) -> Exception:
    """Say where in the file the fields are that the broker refused."""
    if not error.fields:
        return error
    problems = name_file(file, parsed.problems(error.fields))
    return CommandError(f"{problems}\n{error} [{error.reason}]")


def _print_changes(response: config_pb2.ApplyResponse, *, dry_run: bool) -> None:
    for sign, names in (("+", response.created), ("~", response.updated), ("-", response.removed)):
        for name in names:
            print_line(f"{sign} {name}")
    for name in response.first_secrets:
        print_line(f"+ first secret of {name}")
    for warning in response.warnings:
        print_error(f"warning: {warning}")
    count = len(response.created) + len(response.updated) + len(response.removed)
    verb = "would change" if dry_run else "changed"
    print_line(f"{count} {verb}; version {response.version}")
