"""The server's settings: environment variables `BROKER_…`, frozen, and validated before anything starts.

`load` is the door. It reports every problem at once, each naming the variable and what to do; no value that may hold a
password is ever repeated.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from broker.core.listening import AdminOn, default_admin_on, is_loopback
from broker.core.secret import Secret
from broker.core.spiffe import is_trust_domain
from broker.settings_rules import PREFIX, Problem, cross_check, problem, variable

SECRET_PREFIX: Final = "BROKER_SECRET_"  # noqa: S105 - the name's beginning; these are read by `secret_env`
CLIENT_VARIABLES: Final = frozenset(
    {"BROKER_ADDRESS", "BROKER_API_KEY", "BROKER_TOKEN_FILE", "BROKER_CA", "BROKER_CERT", "BROKER_CERT_KEY"}
)
"""What clients read, which may stand in the same environment."""

MIGRATION_SETTINGS: Final = frozenset({"database_url", "log_level"})
"""What `migrate` uses: it runs with the environment of a broker or without, before keys and certificates are there."""

KEK_SCHEMES: Final = frozenset({"file", "aws-kms", "gcp-kms", "hcvault"})
_POSTGRES: Final = frozenset({"postgresql", "postgresql+psycopg", "postgres"})
_SQLITE: Final = frozenset({"sqlite", "sqlite+aiosqlite"})
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_ORIGIN: Final = re.compile(
    r"(?:https|(?P<plain>http))://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::(?P<port>[1-9][0-9]{0,4}))?"
)  # links are made by adding a path to it, so there is nothing else in it


class LogLevel(StrEnum):
    """How much of our own is logged; libraries stay at WARNING whatever it says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SettingsError(Exception):
    """The settings cannot be used; one line per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


# --- one value at a time ---------------------------------------------------------------------------------------------


def _address(value: object) -> object:
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if value is not None and (found is None or int(found[1]) > 65535):  # noqa: PLR2004 - the highest port
        msg = "write host:port, as in 127.0.0.1:50051 or [::1]:50051, the port from 0 to 65535"
        raise ValueError(msg)
    return value


def _database_url(value: object) -> object:
    if value is None or isinstance(value, Secret):
        return value
    scheme, _, rest = str(value).partition(":")
    if scheme in _SQLITE and not rest.strip("/"):
        return Secret(str(value))
    if scheme in _SQLITE:
        msg = "an SQLite store lies in the data folder: write sqlite:// here, and name the folder in BROKER_DATA_DIR"
        raise ValueError(msg)
    if scheme not in _POSTGRES:
        msg = "write postgresql://user:password@host/database, or leave it out for SQLite in the data folder"
        raise ValueError(msg)
    try:
        usable = bool(urlsplit(str(value)).path.strip("/")) and (urlsplit(str(value)).port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        msg = "not a URL: write postgresql://user:password@host/database, with / ? # @ : of a password percent-encoded"
        raise ValueError(msg) from None
    return Secret(str(value))


def _keks(value: object) -> object:
    keks = value if isinstance(value, tuple) else tuple(part.strip() for part in str(value).split(","))
    for kek in keks:
        scheme, _, rest = kek.partition(":")
        if scheme not in KEK_SCHEMES or not rest.strip("/"):
            msg = (
                "write file:PATH, aws-kms://…, gcp-kms://… or hcvault://…; several with commas, the wrapping one first"
            )
            raise ValueError(msg)
    if len(set(keks)) < len(keks):
        msg = "the same key-encryption key is named twice: name it once"
        raise ValueError(msg)
    return keks


def _trust_domain(value: object) -> object:
    if isinstance(value, str) and not is_trust_domain(value):
        msg = "write the name alone, as in corp.example: lower case, digits, dots, dashes"
        raise ValueError(msg)
    return value


def _public_url(value: object) -> object:
    found = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    fits = found is not None and int(found["port"] or 1) <= 65535  # noqa: PLR2004 - the highest port
    if value is not None and not (fits and found and (found["plain"] is None or is_loopback(f"{found['host']}:0"))):
        msg = "write the origin people reach the pages at, as in https://broker.example; http only for loopback"
        raise ValueError(msg)
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Address = Annotated[str, BeforeValidator(_address)]


class Settings(BaseSettings):
    """What the server is told by its environment; a field `x` is the variable `BROKER_X`.

    Attributes:
        database_url: PostgreSQL, or `sqlite://`; None is SQLite too. Holds a password, so it does not print.
        data_dir: database, journal and local keys; made private at start.
        evidence_dir: where it is noted how far the database had come, so that a restored backup is known; None: the
            data folder with PostgreSQL, nowhere with SQLite, whose backup would hold it too.
        listen: gRPC with server TLS, or in plaintext on loopback; callers bring a JWT or an API key.
        mtls_listen: gRPC that requires a client certificate; None is off.
        http_listen: probes and metrics.
        public_listen: the pages for people who log in, in plain HTTP behind something that speaks TLS; None is off.
        public_url: the origin people reach those pages at; no page or link names another.
        admin_on: which gRPC listeners answer the admin services; None: mtls where there is one, else listen.
        kek: key-encryption keys, the first wraps, all open; empty: one is made in the data folder.
        tls_cert, tls_key: the server's certificate chain and key, PEM files.
        tls_client_ca: the authorities of client certificates, PEM file; those of `trust_domain` alone.
        trust_domain: the SPIFFE trust domain whose callers are let in.
        secrets_dir: where `secret_file` of a configuration applied at start may lie.
        bootstrap_admin_key_file: the first admin's API key.
        log_level: how much of our own is logged.
        reflection: answer gRPC reflection.
        allow_local_kek: accept a `file:` KEK though listening beyond loopback.
        allow_plaintext: the address on which plaintext beyond loopback is meant, with the flag below.
        max_replicas: the most brokers that run on one database at once; each one's share of a limit, while it cannot
            ask the database, is the limit divided by this.
        insecure_plaintext: the flag `--insecure-plaintext`; no variable sets it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",  # `load` names what is unknown, with a guess at what was meant
        env_ignore_empty=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    database_url: Annotated[Secret | None, BeforeValidator(_database_url)] = None
    data_dir: Path = Path("broker-data")
    evidence_dir: Path | None = None
    listen: Address = "127.0.0.1:50051"
    mtls_listen: Annotated[str | None, BeforeValidator(_address)] = None
    http_listen: Address = "127.0.0.1:8081"
    public_listen: Annotated[str | None, BeforeValidator(_address)] = None
    public_url: Annotated[str | None, BeforeValidator(_public_url)] = None
    admin_on: Annotated[AdminOn | None, BeforeValidator(_lower)] = None
    kek: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_keks)] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    trust_domain: Annotated[str | None, BeforeValidator(_trust_domain)] = None
    secrets_dir: Path | None = None
    bootstrap_admin_key_file: Path | None = None
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = LogLevel.INFO
    reflection: bool = False
    allow_local_kek: bool = False
    allow_plaintext: Annotated[str | None, BeforeValidator(_address)] = None
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    insecure_plaintext: Annotated[bool, Field(repr=False)] = False

    @property
    def is_postgres(self) -> bool:
        """Whether the store is PostgreSQL; otherwise it is SQLite in the data folder: one process, no replicas."""
        return self.database_url is not None and self.database_url.reveal().partition(":")[0] in _POSTGRES

    @property
    def on_loopback(self) -> bool:
        """Whether every listener, that of probes and metrics too, is on this machine only."""
        addresses = (self.listen, self.mtls_listen, self.http_listen, self.public_listen)
        return all(is_loopback(address) for address in addresses if address)

    @property
    def makes_own_keys(self) -> bool:
        """Whether the first KEK and the first admin key may appear by themselves: only SQLite on loopback."""
        return not self.is_postgres and self.on_loopback

    @property
    def keks(self) -> tuple[str, ...]:
        """The key-encryption keys in use: those named, or the one of the data folder."""
        return self.kek or (f"file:{self.data_dir / 'kek.json'}",)

    @property
    def serves_admin_on(self) -> AdminOn:
        """Which gRPC listeners answer the admin services."""
        return self.admin_on or default_admin_on(has_mtls=self.mtls_listen is not None)


# --- the environment -------------------------------------------------------------------------------------------------


def load(*, insecure_plaintext: bool = False) -> Settings:
    """Return the settings of this process's environment.

    Args:
        insecure_plaintext: the flag of that name was given.

    Raises:
        SettingsError: with every problem at once.
    """
    problems = list(_environment_problems(os.environ))
    settings, wrong = _read(insecure_plaintext=insecure_plaintext)
    problems += wrong.values()
    wrong_variables = {variable(name) for name in wrong}
    problems += [found for found in cross_check(settings) if wrong_variables.isdisjoint(found.variables)]
    problems += _path_problems(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def load_for_migration() -> Settings:
    """Return the settings of this process's environment for `migrate`, which serves nothing and opens no key.

    Raises:
        SettingsError: with every problem of what it uses.
    """
    problems = list(_environment_problems(os.environ))
    settings, wrong = _read(insecure_plaintext=False)
    problems += [found for name, found in wrong.items() if name in MIGRATION_SETTINGS]
    if problems:
        raise SettingsError(problems)
    return settings


def _read(*, insecure_plaintext: bool) -> tuple[Settings, dict[str, Problem]]:
    """Return the settings, and what is wrong by field; a field that is wrong has its default."""
    try:
        return Settings(insecure_plaintext=insecure_plaintext), {}
    except ValidationError as error:
        wrong: dict[str, Problem] = {}
        for one in error.errors(include_input=False, include_context=False, include_url=False):
            name = str(one["loc"][0])
            wrong[name] = problem(_what_to_do(one["type"], one["msg"]), name)
    defaults: dict[str, Any] = {name: Settings.model_fields[name].default for name in wrong}
    return Settings(**defaults, insecure_plaintext=insecure_plaintext), wrong


def _environment_problems(environ: Mapping[str, str]) -> Iterator[Problem]:
    known = {variable(name) for name in Settings.model_fields} - {variable("insecure_plaintext")}
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper.startswith(SECRET_PREFIX) or upper in known | CLIENT_VARIABLES:
            continue
        endings = sorted(setting.removeprefix(PREFIX) for setting in known)
        near = difflib.get_close_matches(upper.removeprefix(PREFIX), endings, n=1)
        meant = f"did you mean {PREFIX}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
        yield Problem((name,), f"no such setting; {meant}")
    if environ.get("GRPC_TRACE"):
        yield Problem(("GRPC_TRACE",), "it prints what is on the wire, tokens too: unset it")


def _what_to_do(kind: str, message: str) -> str:
    """Return pydantic's message, which holds no input, in the words of ours."""
    if kind.startswith("bool"):
        return "write true or false"
    return message.removeprefix("Value error, ").replace("Input should be", "write one of")


def _path_problems(settings: Settings) -> Iterator[Problem]:
    evidence, data = settings.evidence_dir, settings.data_dir.resolve()
    if evidence is not None and not settings.is_postgres and evidence.resolve().is_relative_to(data):
        told = "a backup of the data folder would hold it too: name a folder outside of that, on another disk"
        yield problem(told, "evidence_dir")
    for name in ("tls_cert", "tls_key", "tls_client_ca", "bootstrap_admin_key_file"):
        path: Path | None = getattr(settings, name)
        if path and not (os.access(path, os.R_OK) and path.is_file()):
            yield problem(f"{path} is no file this process can read", name)
    folder = settings.secrets_dir
    if folder and not (os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()):
        yield problem(f"{folder} is no folder this process can read", "secrets_dir")
