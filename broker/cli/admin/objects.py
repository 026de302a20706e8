"""List, show, put and remove, which all configured objects have in common."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer
from grpc import StatusCode

from aries.broker.admin.v1 import config_pb2, config_pb2_grpc
from aries_broker import InvalidRequestError, NotFoundError
from broker.adapters.config_file import ConfigFileError, ParsedConfig, decode, known_problems, parse_config
from broker.adapters.config_schema import FileProblem, SecretReference
from broker.adapters.strict_yaml import MAX_BYTES
from broker.cli.access import Access, Json
from broker.cli.errors import CommandError, name_file
from broker.cli.messages import build_object
from broker.cli.output import print_error, print_fields, print_json, print_line, print_table, to_dict
from broker.core.config import Problem, merged, sections
from broker.core.errors import Reason
from broker.core.models import Kind

Name = Annotated[str, typer.Argument(help="The object's name.")]
EntryFile = Annotated[
    str, typer.Option("--file", "-f", help="The object as an entry of broker.yaml would say it; - reads stdin.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Also an object of the configuration file: take it over.")]


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """A kind of object, its name in the configuration file and the columns of its table."""

    kind: Kind
    section: str
    columns: tuple[str, ...]


PROVIDERS: Final = ObjectKind(
    Kind.PROVIDER, "providers", ("name", "preset", "base_url", "issuer", "narrowing", "frozen", "origin")
)
CLIENTS: Final = ObjectKind(Kind.CLIENT, "clients", ("name", "provider", "client_id", "origin"))
GRANTS: Final = ObjectKind(Kind.GRANT, "grants", ("name", "client", "type", "scopes", "origin"))
POLICIES: Final = ObjectKind(
    Kind.POLICY, "policies", ("name", "callers", "grants", "scopes", "accept_excess", "origin")
)
LIMITS: Final = ObjectKind(Kind.LIMIT, "limits", ("name", "applies_to", "key", "windows", "origin"))
ISSUERS: Final = ObjectKind(Kind.ISSUER, "issuers", ("name", "issuer", "audience", "algorithms", "origin"))
ROLES: Final = ObjectKind(Kind.ROLE, "roles", ("role", "name", "callers", "origin"))


def build_app(objects: ObjectKind) -> typer.Typer:
    """Return the commands list, show, put and remove of a kind."""
    app = build_writing_app(objects)

    @app.command("list")
    def list_objects(context: typer.Context, *, json: Json = False) -> None:
        """List them in name order."""
        rows = list_rows(open_access(context), objects)
        if json:
            print_json(rows)
        else:
            print_table(objects.columns, rows)

    @app.command()
    def show(context: typer.Context, name: Name, *, json: Json = False) -> None:
        """Show one with all its fields."""
        for row in list_rows(open_access(context), objects):
            if (row["name"] or row.get("role")) == name:
                (print_json if json else print_fields)(row)
                return
        raise _not_found(objects.kind, name)

    return app


def build_writing_app(objects: ObjectKind) -> typer.Typer:
    """Return the commands put and remove of a kind."""
    app = typer.Typer(help=f"The {objects.section}.", no_args_is_help=True)

    @app.command()
    def put(context: typer.Context, *, file: EntryFile, detach: Detach = False, json: Json = False) -> None:
        """Create or replace one."""
        entry = parse_entry(objects, file)
        request = config_pb2.PutObjectRequest(object=entry.object, detach=detach)
        with open_access(context).open() as broker:
            stub = config_pb2_grpc.ConfigServiceStub(broker.channel)
            try:
                response = broker.call(stub.PutObject, request)
            except InvalidRequestError as error:
                raise (error if json else entry.with_lines(error)) from None
        if json:
            print_json(to_dict(response))
        else:
            for warning in response.warnings:
                print_error(f"warning: {warning}")
            print_line(f"{'created' if response.created else 'replaced'}; version {response.version}")

    @app.command()
    def remove(context: typer.Context, name: Name, *, detach: Detach = False, json: Json = False) -> None:
        """Remove one."""
        request = config_pb2.RemoveObjectRequest(kind=objects.kind.value, name=name, detach=detach)
        with open_access(context).open() as broker:
            stub = config_pb2_grpc.ConfigServiceStub(broker.channel)
            response = broker.call(stub.RemoveObject, request)
        if json:
            print_json(to_dict(response))
        else:
            print_line(f"removed; version {response.version}")

    return app


def open_access(context: typer.Context) -> Access:
    """Return how the group's options say to reach the broker."""
    access: Access = context.obj
    return access


def list_rows(access: Access, objects: ObjectKind) -> list[dict[str, object]]:
    """Return the objects of a kind as rows of their fields and their origin."""
    with access.open() as broker:
        stub = config_pb2_grpc.ConfigServiceStub(broker.channel)
        response = broker.call(stub.ListObjects, config_pb2.ListObjectsRequest(kind=objects.kind.value))
    return [_row(item) for item in response.objects]


def _row(item: config_pb2.Object) -> dict[str, object]:
    which = item.WhichOneof("object")
    fields = to_dict(getattr(item, which)) if which else {}
    return {**fields, "origin": config_pb2.Origin.Name(item.origin).removeprefix("ORIGIN_").lower()}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a section of the configuration file, and where and how it was read."""

    object: config_pb2.Object
    section: str
    where: Path
    parsed: ParsedConfig

    def with_lines(self, error: InvalidRequestError) -> Exception:
        """Say where in the file the fields are that the broker refused."""
        if not error.fields:
            return error
        fields = {f"{self.section}[0]{path.removeprefix('object')}": wrong for path, wrong in error.fields.items()}
        problems = name_file(self.where, _in_entry(self.parsed.problems(fields)))
        return CommandError(f"{problems}\n{error} [{error.reason}]")


def parse_entry(objects: ObjectKind, file: str) -> Entry:
    """Read one entry of a section of the configuration file.

    Raises:
        CommandError: it is none, or one that every broker refuses.
        OSError: the file cannot be read.
    """
    where = Path("stdin" if file == "-" else file)
    try:
        text = decode(_read(file))
    except ConfigFileError as error:
        raise CommandError(name_file(where, error.problems), 2) from None
    entry = "\n".join(f"  {line}" for line in text.splitlines())
    try:
        parsed = parse_config(f"revision: 1\n{objects.section}:\n-{entry[1:]}\n", whole=False)
    except ConfigFileError as error:
        raise _wrong(where, error.problems) from None
    _, items = sections(parsed.config)[objects.kind]
    if len(items) != 1:
        message = f"{where}: exactly one of the {objects.section} is wanted"
        raise CommandError(message, 2)
    secrets = {reference.field: _not_here(name, reference) for name, reference in parsed.secrets.items()}
    if problems := [*known_problems(parsed, whole=False), *parsed.problems(secrets)]:
        raise _wrong(where, problems)
    return Entry(build_object(objects.kind, items[0]), objects.section, where, parsed)


def _read(file: str) -> bytes:
    """Return no more than can be an entry, and one byte, by which what is too long is known."""
    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(file).open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def _wrong(where: Path, problems: Sequence[FileProblem]) -> CommandError:
    """Return the error that names what is wrong by its line in the entry; for programs by its field of a request."""
    placed = _in_entry(problems)
    fields = merged([Problem(f"object{one.field.partition(']')[2]}", one.message) for one in placed])
    return CommandError(name_file(where, placed), 2, fields)


def _in_entry(problems: Sequence[FileProblem]) -> list[FileProblem]:
    """Return problems by their lines in the entry, above which two stand where it is read as a configuration."""
    return sorted((replace(one, line=max(1, one.line - 2)) for one in problems), key=lambda one: one.line)


def _not_found(kind: Kind, name: str) -> NotFoundError:
    """Return the error as the broker would tell it."""
    return NotFoundError(
        f"there is no such {kind.value}",
        reason=Reason.NOT_FOUND,
        status=StatusCode.NOT_FOUND,
        metadata={"kind": kind.value, "name": name},
    )


def _not_here(client: str, reference: SecretReference) -> str:
    return (
        f"put stores no secret: leave {reference.field.rpartition('.')[2]} out, "
        f"then give the first one with: aries-broker admin clients add-secret {client}"
    )
