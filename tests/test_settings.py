"""Settings: read from the environment, refused all at once, silent about passwords."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.core.listening import AdminOn
from broker.core.secret import Secret
from broker.settings import CLIENT_VARIABLES, LogLevel, Settings, SettingsError, load, load_for_migration
from broker.settings_rules import cross_check

POSTGRES = "postgresql://broker:hunter2@db.example/broker"
LOCAL_KEK = {"BROKER_KEK": "file:/keys/kek", "BROKER_ALLOW_LOCAL_KEK": "true"}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without settings."""
    for name in [name for name in os.environ if name.upper().startswith("BROKER_") or name == "GRPC_TRACE"]:
        monkeypatch.delenv(name)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """Return variables that name a certificate and its key."""
    names = {"BROKER_TLS_CERT": tmp_path / "cert.pem", "BROKER_TLS_KEY": tmp_path / "key.pem"}
    for path in names.values():
        path.touch()
    return {name: str(path) for name, path in names.items()}


@pytest.fixture
def mtls(tls: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Return variables that set up the listener for client certificates, whole."""
    (tmp_path / "ca.pem").touch()
    return tls | {
        "BROKER_TLS_CLIENT_CA": str(tmp_path / "ca.pem"),
        "BROKER_TRUST_DOMAIN": "corp.example",
        "BROKER_MTLS_LISTEN": "127.0.0.1:50052",
    }


def loaded(monkeypatch: pytest.MonkeyPatch, *variables: dict[str, str], flag: bool = False) -> Settings:
    """Return the settings of an environment."""
    for name, value in [item for some in variables for item in some.items()]:
        monkeypatch.setenv(name, value)
    return load(insecure_plaintext=flag)


def refused(monkeypatch: pytest.MonkeyPatch, *variables: dict[str, str], flag: bool = False) -> list[str]:
    """Return the lines with which an environment is refused."""
    with pytest.raises(SettingsError) as caught:
        loaded(monkeypatch, *variables, flag=flag)
    return str(caught.value).splitlines()


def test_defaults() -> None:
    """Nothing set is SQLite on loopback, which makes its own first keys and shows nothing it need not."""
    settings = load()
    assert (None, False, True, True) == (
        settings.database_url,
        settings.is_postgres,
        settings.on_loopback,
        settings.makes_own_keys,
    )
    assert ("127.0.0.1:50051", None, "127.0.0.1:8081") == (
        settings.listen,
        settings.mtls_listen,
        settings.http_listen,
    )
    assert (None, None) == (settings.public_listen, settings.public_url)
    assert (LogLevel.INFO, False, False, False) == (
        settings.log_level,
        settings.reflection,
        settings.allow_local_kek,
        settings.insecure_plaintext,
    )
    assert (Path("broker-data"), ("file:broker-data/kek.json",)) == (settings.data_dir, settings.keks)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("BROKER_DATA_DIR", "/srv/broker", "data_dir", Path("/srv/broker")),
        ("BROKER_EVIDENCE_DIR", "/mnt/other", "evidence_dir", Path("/mnt/other")),
        ("BROKER_LISTEN", "[::1]:7000", "listen", "[::1]:7000"),
        ("BROKER_LISTEN", "localhost:0", "listen", "localhost:0"),
        ("BROKER_LOG_LEVEL", "DEBUG", "log_level", LogLevel.DEBUG),
        ("BROKER_REFLECTION", "1", "reflection", True),
        ("BROKER_ADMIN_ON", "listen", "admin_on", AdminOn.LISTEN),
        ("BROKER_KEK", "file:/a, gcp-kms://b", "kek", ("file:/a", "gcp-kms://b")),
        ("BROKER_DATABASE_URL", "sqlite://", "database_url", Secret("sqlite://")),
        ("BROKER_DATABASE_URL", "", "database_url", None),
        ("BROKER_INSECURE_PLAINTEXT_NOT", None, "insecure_plaintext", False),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, field: str, expected: object
) -> None:
    """`BROKER_X` is the field `x`; an empty variable counts as not set."""
    assert expected == getattr(loaded(monkeypatch, {} if value is None else {name: value}), field)


@pytest.mark.parametrize(
    "url", [POSTGRES, "postgresql+psycopg://broker@db.example/broker", "postgresql:///broker?host=/run/postgresql"]
)
def test_postgresql(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A PostgreSQL URL is taken as it is, and needs a key-encryption key of its own."""
    settings = loaded(monkeypatch, {"BROKER_DATABASE_URL": url, "BROKER_KEK": "file:/keys/kek"})
    assert (Secret(url), True, False) == (settings.database_url, settings.is_postgres, settings.makes_own_keys)


PATH_IN_URL = (
    "BROKER_DATABASE_URL: an SQLite store lies in the data folder: write sqlite:// here, "
    "and name the folder in BROKER_DATA_DIR"
)
NO_DATABASE = (
    "BROKER_DATABASE_URL: write postgresql://user:password@host/database, or leave it out for SQLite in the data folder"
)
NO_URL = (
    "BROKER_DATABASE_URL: not a URL: write postgresql://user:password@host/database, "
    "with / ? # @ : of a password percent-encoded"
)
NO_KEK = (
    "BROKER_KEK: write file:PATH, aws-kms://…, gcp-kms://… or hcvault://…; several with commas, the wrapping one first"
)
NO_ORIGIN = "write the origin people reach the pages at, as in https://broker.example; http only for loopback"
NO_ADDRESS = "write host:port, as in 127.0.0.1:50051 or [::1]:50051, the port from 0 to 65535"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("BROKER_DATABASE_URL", "sqlite:///elsewhere/broker.db", PATH_IN_URL),
        ("BROKER_DATABASE_URL", "sqlite://:memory:", PATH_IN_URL),
        ("BROKER_DATABASE_URL", "mysql://root:hunter2@db/x", NO_DATABASE),
        ("BROKER_DATABASE_URL", "broker.db", NO_DATABASE),
        ("BROKER_DATABASE_URL", "postgresql://u:hunter2@db.example", NO_URL),
        ("BROKER_DATABASE_URL", "postgresql://u:hunter2/3@db.example/x", NO_URL),
        ("BROKER_DATABASE_URL", "postgresql://u:hunter2@[::1/x", NO_URL),
        ("BROKER_LISTEN", "50051", f"BROKER_LISTEN: {NO_ADDRESS}"),
        ("BROKER_LISTEN", "127.0.0.1:65536", f"BROKER_LISTEN: {NO_ADDRESS}"),
        ("BROKER_LISTEN", "127.0.0.1:-1", f"BROKER_LISTEN: {NO_ADDRESS}"),
        ("BROKER_PUBLIC_URL", "broker.example", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "http://broker.example", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "https://broker.example/", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "https://broker.example/path", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "https://Broker.example", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "https://user@broker.example", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "https://broker.example:99999", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "https://", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        *[
            ("BROKER_PUBLIC_URL", f"https://{rest}", f"BROKER_PUBLIC_URL: {NO_ORIGIN}")
            for rest in (
                "broker.example?a",
                "broker.example#a",
                "broker.example:",
                "broker.example:0",
                "broker.example:08443",
                "broker.example:65536",
                "broker.example\\a",
                "broker.example%2f",
                "bro ker.example",
                "*.example",
                "..",
                "[::1",
                "[broker]",
                "\N{LATIN SMALL LETTER E WITH ACUTE}.example",
            )
        ],
        ("BROKER_PUBLIC_URL", "ftp://127.0.0.1", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "http://[2001:db8::1]", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_PUBLIC_URL", "http://127.0.0.1.evil.example", f"BROKER_PUBLIC_URL: {NO_ORIGIN}"),
        ("BROKER_HTTP_LISTEN", "127.0.0.1:70000", f"BROKER_HTTP_LISTEN: {NO_ADDRESS}"),
        ("BROKER_MTLS_LISTEN", "127.0.0.1:99999999", f"BROKER_MTLS_LISTEN: {NO_ADDRESS}"),
        ("BROKER_LISTEN", "::1:50051", f"BROKER_LISTEN: {NO_ADDRESS}"),
        ("BROKER_HTTP_LISTEN", "http://127.0.0.1:8081", f"BROKER_HTTP_LISTEN: {NO_ADDRESS}"),
        ("BROKER_MTLS_LISTEN", "127.0.0.1", f"BROKER_MTLS_LISTEN: {NO_ADDRESS}"),
        ("BROKER_ALLOW_PLAINTEXT", "true", f"BROKER_ALLOW_PLAINTEXT: {NO_ADDRESS}"),
        ("BROKER_KEK", "/keys/kek", NO_KEK),
        ("BROKER_KEK", "file:", NO_KEK),
        ("BROKER_KEK", "file:/a,", NO_KEK),
        ("BROKER_KEK", "file:/a,file:/a", "BROKER_KEK: the same key-encryption key is named twice: name it once"),
        ("BROKER_REFLECTION", "maybe", "BROKER_REFLECTION: write true or false"),
        ("BROKER_LOG_LEVEL", "loud", "BROKER_LOG_LEVEL: write one of 'debug', 'info', 'warning' or 'error'"),
        ("BROKER_ADMIN_ON", "all", "BROKER_ADMIN_ON: write one of 'mtls', 'listen' or 'both'"),
        ("GRPC_TRACE", "http", "GRPC_TRACE: it prints what is on the wire, tokens too: unset it"),
        ("BROKER_TLS_CERT", "/no/such", "BROKER_TLS_CERT: /no/such is no file this process can read"),
        ("BROKER_SECRETS_DIR", "/no/such", "BROKER_SECRETS_DIR: /no/such is no folder this process can read"),
        (
            "BROKER_BOOTSTRAP_ADMIN_KEY_FILE",
            "/dev",
            "BROKER_BOOTSTRAP_ADMIN_KEY_FILE: /dev is no file this process can read",
        ),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str) -> None:
    """The line names the variable and says what to do."""
    assert line in refused(monkeypatch, {name: value})


def test_a_trust_domain_is_a_name(monkeypatch: pytest.MonkeyPatch, mtls: dict[str, str]) -> None:
    """A trust domain is written without scheme and path."""
    lines = refused(monkeypatch, mtls, {"BROKER_TRUST_DOMAIN": "spiffe://corp.example"})
    expected = "BROKER_TRUST_DOMAIN: write the name alone, as in corp.example: lower case, digits, dots, dashes"
    assert [expected] == lines


def test_all_problems_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who mends settings sees everything in one go: unknown names, wrong values, and what does not go together."""
    lines = refused(
        monkeypatch,
        {
            "BROKER_LISTN": "127.0.0.1:1",
            "BROKER_REFLECTION": "maybe",
            "BROKER_DATABASE_URL": "mysql://x",
            "BROKER_LISTEN": "0.0.0.0:50051",
            "BROKER_ADMIN_ON": "both",
        },
    )
    expected = [
        "BROKER_LISTN",
        "BROKER_DATABASE_URL",
        "BROKER_REFLECTION",
        "BROKER_LISTEN, BROKER_TLS_CERT, BROKER_ALLOW_PLAINTEXT",
        "BROKER_ADMIN_ON, BROKER_MTLS_LISTEN",
    ]
    assert expected == [line.split(": ")[0] for line in lines]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BROKER_DATABSE_URL", "did you mean BROKER_DATABASE_URL?"),
        ("BROKER_TLS_CA", "did you mean BROKER_TLS_CERT?"),
        ("BROKER_LISTEN_ADDR", "did you mean BROKER_LISTEN?"),
    ],
)
def test_a_misspelt_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    """A variable nobody reads would be a setting that silently does not hold."""
    assert [f"{name}: no such setting; {meant}"] == refused(monkeypatch, {name: "x"})


def test_an_unlike_name_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a guess the known names are told."""
    (line,) = refused(monkeypatch, {"BROKER_QQQ": "hunter2"})
    assert line.startswith("BROKER_QQQ: no such setting; known are BROKER_ADMIN_ON, BROKER_ALLOW_LOCAL_KEK, ")


def test_the_flag_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plaintext has to be told by two different means, so no variable stands for the flag."""
    variables = {"BROKER_INSECURE_PLAINTEXT": "true", "BROKER_LISTEN": "0.0.0.0:1", **LOCAL_KEK}
    lines = refused(monkeypatch, variables, {"BROKER_ALLOW_PLAINTEXT": "0.0.0.0:1"})
    assert ["BROKER_INSECURE_PLAINTEXT", "BROKER_LISTEN, BROKER_TLS_CERT, BROKER_ALLOW_PLAINTEXT"] == [
        line.split(": ")[0] for line in lines
    ]


@pytest.mark.parametrize("name", ["BROKER_SECRET_DESK", "BROKER_SECRET_X", *sorted(CLIENT_VARIABLES)])
def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Secrets read by name and the clients' variables may stand in the same environment."""
    assert load() == loaded(monkeypatch, {name: "x"})


# --- what goes together ----------------------------------------------------------------------------------------------


def test_tls(monkeypatch: pytest.MonkeyPatch, tls: dict[str, str]) -> None:
    """With a certificate the broker may listen beyond loopback."""
    settings = loaded(monkeypatch, tls, {"BROKER_LISTEN": "0.0.0.0:50051"}, LOCAL_KEK)
    assert (False, AdminOn.LISTEN) == (settings.on_loopback, settings.serves_admin_on)


def test_mtls(monkeypatch: pytest.MonkeyPatch, mtls: dict[str, str]) -> None:
    """The admin services answer on the listener for client certificates where there is one."""
    settings = loaded(monkeypatch, mtls)
    assert (True, AdminOn.MTLS) == (settings.on_loopback, settings.serves_admin_on)


def test_admin_on_is_obeyed(monkeypatch: pytest.MonkeyPatch, mtls: dict[str, str]) -> None:
    """Who says where the admin services answer is obeyed."""
    assert AdminOn.BOTH == loaded(monkeypatch, mtls, {"BROKER_ADMIN_ON": "both"}).serves_admin_on


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (["BROKER_TLS_KEY"], ["BROKER_TLS_CERT, BROKER_TLS_KEY"]),
        (
            ["BROKER_TLS_CERT"],
            ["BROKER_TLS_CERT, BROKER_TLS_KEY", "BROKER_MTLS_LISTEN, BROKER_TLS_CERT, BROKER_TLS_CLIENT_CA"],
        ),
        (
            ["BROKER_TLS_CLIENT_CA"],
            [
                "BROKER_MTLS_LISTEN, BROKER_TLS_CERT, BROKER_TLS_CLIENT_CA",
                "BROKER_TRUST_DOMAIN, BROKER_TLS_CLIENT_CA",
            ],
        ),
        (["BROKER_TRUST_DOMAIN"], ["BROKER_TLS_CLIENT_CA, BROKER_TRUST_DOMAIN"]),
        (["BROKER_MTLS_LISTEN"], ["BROKER_TLS_CLIENT_CA, BROKER_MTLS_LISTEN"]),
        (
            ["BROKER_TLS_CLIENT_CA", "BROKER_MTLS_LISTEN"],
            ["BROKER_TRUST_DOMAIN, BROKER_TLS_CLIENT_CA"],
        ),
    ],
)
def test_half_a_tls_setup_is_refused(
    monkeypatch: pytest.MonkeyPatch, mtls: dict[str, str], without: list[str], expected: list[str]
) -> None:
    """Each part of TLS that is missing is named with the parts that need it."""
    lines = refused(monkeypatch, {name: value for name, value in mtls.items() if name not in without})
    assert expected == [line.split(": ")[0] for line in lines]


ELSEWHERE = {"BROKER_LISTEN": "10.0.0.1:50051", **LOCAL_KEK}
ALLOWED = {"BROKER_ALLOW_PLAINTEXT": "10.0.0.1:50051"}


def test_plaintext_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag and variable with the very address allow plaintext beyond loopback."""
    assert not loaded(monkeypatch, ELSEWHERE, ALLOWED, flag=True).on_loopback


@pytest.mark.parametrize(
    ("allowed", "flag"),
    [({}, False), ({}, True), (ALLOWED, False), ({"BROKER_ALLOW_PLAINTEXT": "0.0.0.0:50051"}, True)],
)
def test_plaintext_not_told_twice(monkeypatch: pytest.MonkeyPatch, allowed: dict[str, str], flag: bool) -> None:
    """One of the two, or another address, is not enough."""
    (line,) = refused(monkeypatch, ELSEWHERE, allowed, flag=flag)
    assert "--insecure-plaintext and BROKER_ALLOW_PLAINTEXT=10.0.0.1:50051" in line


@pytest.mark.parametrize("admin_on", ["mtls", "both"])
def test_admin_needs_its_listener(monkeypatch: pytest.MonkeyPatch, admin_on: str) -> None:
    """The admin services cannot answer where nobody listens."""
    (line,) = refused(monkeypatch, {"BROKER_ADMIN_ON": admin_on})
    assert line.startswith("BROKER_ADMIN_ON, BROKER_MTLS_LISTEN: there is no such listener")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"BROKER_HTTP_LISTEN": "127.0.0.1:50051"}, "BROKER_LISTEN, BROKER_HTTP_LISTEN: "),
        (
            {"BROKER_PUBLIC_LISTEN": "127.0.0.1:8081", "BROKER_PUBLIC_URL": "http://127.0.0.1:8081"},
            "BROKER_HTTP_LISTEN, BROKER_PUBLIC_LISTEN: ",
        ),
    ],
)
def test_listeners_share_no_address(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    """Two listeners on one address are refused before the second fails."""
    (line,) = refused(monkeypatch, variables)
    assert line.startswith(expected)


def test_any_free_port_is_no_shared_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 0 is a different port each time."""
    settings = loaded(monkeypatch, {"BROKER_LISTEN": "127.0.0.1:0", "BROKER_HTTP_LISTEN": "127.0.0.1:0"})
    assert settings.listen == settings.http_listen


@pytest.mark.parametrize(
    "variables",
    [
        {"BROKER_DATABASE_URL": POSTGRES},
        {"BROKER_LISTEN": "0.0.0.0:50051", "BROKER_ALLOW_PLAINTEXT": "0.0.0.0:50051"},
        {"BROKER_HTTP_LISTEN": "0.0.0.0:8081"},
        {"BROKER_PUBLIC_LISTEN": "0.0.0.0:8080", "BROKER_PUBLIC_URL": "https://broker.example"},
    ],
)
def test_no_key_is_made_beyond_sqlite_on_loopback(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Elsewhere a key-encryption key has to be named."""
    (line,) = refused(monkeypatch, variables, flag=True)
    assert line.startswith("BROKER_KEK, ")


@pytest.mark.parametrize("keks", ["file:/keys/kek", "gcp-kms://projects/x,file:/keys/old"])
def test_a_local_kek_beyond_loopback_has_to_be_meant(
    monkeypatch: pytest.MonkeyPatch, tls: dict[str, str], keks: str
) -> None:
    """A key file on a machine others can reach needs `BROKER_ALLOW_LOCAL_KEK`."""
    (line,) = refused(monkeypatch, tls, {"BROKER_LISTEN": "0.0.0.0:50051", "BROKER_KEK": keks})
    assert line.endswith("if you mean it, BROKER_ALLOW_LOCAL_KEK=true")


def test_a_key_service_needs_no_permission(monkeypatch: pytest.MonkeyPatch, tls: dict[str, str]) -> None:
    """A KEK held elsewhere may serve any listener."""
    settings = loaded(monkeypatch, tls, {"BROKER_LISTEN": "0.0.0.0:50051", "BROKER_KEK": "aws-kms://arn:x"})
    assert ("aws-kms://arn:x",) == settings.keks


def test_the_cross_check_is_pure() -> None:
    """Settings that go together have no problem, whatever the environment."""
    assert [] == list(cross_check(Settings()))


# --- what is never shown ---------------------------------------------------------------------------------------------


def test_a_password_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr, str nor a dump of the settings shows the database's password."""
    settings = loaded(monkeypatch, {"BROKER_DATABASE_URL": POSTGRES}, {"BROKER_KEK": "file:/keys/kek"})
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_DATABASE_URL", "postgresql://u:hunter2@db:port/x"),
        ("BROKER_DATABASE_URL", "mysql://u:hunter2@db/x"),
        ("BROKER_DATABSE_URL", POSTGRES),
        ("BROKER_LISTEN", "hunter2"),
        ("BROKER_REFLECTION", "hunter2"),
        ("BROKER_KEK", "hunter2"),
    ],
)
def test_a_refusal_repeats_no_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A value in the wrong variable may be a password: neither the error nor what led to it repeats one."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_settings_made_without_load_repeat_no_value_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the library's own error holds no value."""
    monkeypatch.setenv("BROKER_DATABASE_URL", "mysql://u:hunter2@db/x")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "hunter2" not in str(caught.value)


def test_settings_are_frozen() -> None:
    """Nobody changes a setting once it is read."""
    with pytest.raises(ValidationError):
        load().listen = "0.0.0.0:1"


def test_migrate_needs_the_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else a broker needs may be missing, elsewhere or wrong: nothing of it is used."""
    for name, value in {
        "BROKER_DATABASE_URL": POSTGRES,
        "BROKER_LISTEN": "0.0.0.0:nonsense",
        "BROKER_TLS_CERT": "/nowhere/cert.pem",
        "BROKER_BOOTSTRAP_ADMIN_KEY_FILE": "/nowhere/key",
    }.items():
        monkeypatch.setenv(name, value)
    assert POSTGRES == (load_for_migration().database_url or Secret("none")).reveal()


def test_migrate_tells_what_is_wrong_of_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL, the level of its logs, and names that nobody knows, all at once."""
    for name in ("BROKER_DATABASE_URL", "BROKER_LOG_LEVEL", "BROKER_KEKK", "BROKER_KEK"):
        monkeypatch.setenv(name, "nonsense")
    with pytest.raises(SettingsError) as caught:
        load_for_migration()
    told = [problem.variables for problem in caught.value.problems]
    assert [("BROKER_KEKK",), ("BROKER_DATABASE_URL",), ("BROKER_LOG_LEVEL",)] == told


@pytest.mark.parametrize(
    "url",
    [
        "https://broker.example",
        "https://broker.example:65535",
        "https://[2001:db8::1]:8443",
        "http://127.0.0.1:8080",
        "http://localhost:8080",
        "http://[::1]:8080",
        "http://[::1]",
    ],
)
def test_where_pages_are_reached(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Any origin by https, and by plain http one of this machine, be it IPv6."""
    assert url == loaded(monkeypatch, {"BROKER_PUBLIC_LISTEN": "127.0.0.1:8080", "BROKER_PUBLIC_URL": url}).public_url


def test_pages_need_no_listener_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that starts logins need not be the one that shows their pages."""
    settings = loaded(monkeypatch, {"BROKER_PUBLIC_URL": "https://broker.example"})
    assert (None, "https://broker.example", True) == (
        settings.public_listen,
        settings.public_url,
        settings.on_loopback,
    )


def test_pages_that_others_reach_are_not_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain HTTP for whatever speaks TLS before it, without a permission; but no key appears by itself any more."""
    pages = {"BROKER_PUBLIC_LISTEN": "0.0.0.0:8080", "BROKER_PUBLIC_URL": "https://broker.example"}
    assert not loaded(monkeypatch, pages, LOCAL_KEK).on_loopback


def test_pages_need_to_know_where_they_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are reached by https where others can."""
    (line,) = refused(monkeypatch, {"BROKER_PUBLIC_LISTEN": "127.0.0.1:8080"})
    assert line.startswith("BROKER_PUBLIC_LISTEN, BROKER_PUBLIC_URL: say where people reach the pages")
    told = refused(monkeypatch, {"BROKER_PUBLIC_LISTEN": "0.0.0.0:8080", "BROKER_PUBLIC_URL": "http://127.0.0.1:8080"})
    assert any(line.startswith("BROKER_PUBLIC_URL, BROKER_PUBLIC_LISTEN: ") for line in told)
