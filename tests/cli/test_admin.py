"""The admin commands: which RPC each calls with what, and what it prints."""

from __future__ import annotations

import io
import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from aries.broker.admin.v1 import audit_pb2, config_pb2, grants_pb2, keys_pb2, secrets_pb2
from broker.adapters.strict_yaml import HALF
from broker.core.config_rules import NAME_RULE
from tests.cli.conftest import Command, ScriptedBroker

CLIENT = config_pb2.Client(name="desk", provider="aries", client_id="desk-app")
GRANT = grants_pb2.GrantStatus(name="desk-service", client="desk", type="client_credentials", scopes=["read", "trade"])


@pytest.mark.parametrize(
    ("section", "kind", "entry", "expected"),
    [
        (
            "providers",
            "provider",
            "{name: aries, preset: aries, narrowing: additional, scopes: {withdraw: [w1, w2]}, replay_window: 60}",
            config_pb2.Object(
                provider=config_pb2.Provider(
                    name="aries",
                    preset="aries",
                    narrowing="additional",
                    scopes=[config_pb2.ScopeMapping(scope="withdraw", wire_scopes=["w1", "w2"])],
                    replay_window=60,
                )
            ),
        ),
        ("clients", "client", "{name: desk, provider: aries, client_id: desk-app}", config_pb2.Object(client=CLIENT)),
        (
            "grants",
            "grant",
            "{name: g, client: desk, type: refresh_token, scopes: [read]}",
            config_pb2.Object(grant=config_pb2.Grant(name="g", client="desk", type="refresh_token", scopes=["read"])),
        ),
        (
            "policies",
            "policy",
            "{name: p, callers: ['key:a'], grants: ['g'], scopes: [read], accept_excess: [trade]}",
            config_pb2.Object(
                policy=config_pb2.Policy(
                    name="p", callers=["key:a"], grants=["g"], scopes=["read"], accept_excess=["trade"]
                )
            ),
        ),
        (
            "limits",
            "limit",
            "{name: l, applies_to: get_token, key: [caller], rate: 50/s, burst: 100}",
            config_pb2.Object(
                limit=config_pb2.Limit(
                    name="l",
                    applies_to="get_token",
                    key=["caller"],
                    windows=[config_pb2.Window(rate="50/s", burst=100)],
                )
            ),
        ),
        (
            "issuers",
            "issuer",
            "{name: k8s, issuer: i, audience: b, jwks_uri: 'https://k', algorithms: [ES256], require: {sub: x}}",
            config_pb2.Object(
                issuer=config_pb2.Issuer(
                    name="k8s",
                    issuer="i",
                    audience="b",
                    jwks_uri="https://k",
                    algorithms=["ES256"],
                    require={"sub": "x"},
                )
            ),
        ),
        (
            "roles",
            "role",
            "{role: auditor, callers: ['key:eve']}",
            config_pb2.Object(role=config_pb2.RoleBinding(role="auditor", callers=["key:eve"])),
        ),
    ],
)
def test_an_entry_of_the_file_is_put(
    broker: ScriptedBroker,
    command: Command,
    tmp_path: Path,
    section: str,
    kind: str,
    entry: str,
    expected: config_pb2.Object,
) -> None:
    """Every kind is written as broker.yaml writes it, in one line or in several, and removed by its name."""
    file = tmp_path / "entry.yaml"
    file.write_text(entry)
    broker.answer("PutObject", config_pb2.PutObjectResponse(version=7, created=True))

    put = command("admin", section, "put", "-f", file, "--detach")
    removed = command("admin", section, "remove", "x")

    assert (0, "created; version 7\n", 0) == (put.code, put.out, removed.code)
    assert [
        ("PutObject", config_pb2.PutObjectRequest(object=expected, detach=True)),
        ("RemoveObject", config_pb2.RemoveObjectRequest(kind=kind, name="x")),
    ] == broker.calls


def test_an_entry_may_stand_in_several_lines_and_come_by_stdin(
    broker: ScriptedBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block style with a comment, from stdin."""
    entry = b"# ours\nname: desk\nprovider: aries\nclient_id: desk-app\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(entry)))

    assert 0 == command("admin", "clients", "put", "-f", "-").code
    assert [("PutObject", config_pb2.PutObjectRequest(object=config_pb2.Object(client=CLIENT)))] == broker.calls


def test_a_wrong_entry_is_refused_with_its_line(broker: ScriptedBroker, command: Command, tmp_path: Path) -> None:
    """An unknown field is named with its line in the entry, and nothing is sent."""
    file = tmp_path / "entry.yaml"
    file.write_text("name: desk\nprovider: aries\nclient_idd: x\n")

    outcome = command("admin", "clients", "put", "-f", file)

    assert (2, []) == (outcome.code, broker.calls)
    assert "line 3: clients[0].client_idd: unknown field" in outcome.err


@pytest.mark.parametrize(
    ("section", "entry", "fields"),
    [
        (
            "limits",
            b"name: L\napplies_to: admin\nkey: [caller]\nrate: 1/s\nburst: 99999999999\n",
            {"name": NAME_RULE, "windows[0].burst": "must be 1 to 1000000"},
        ),
        (
            "issuers",
            b"{name: k8s, issuer: i, audience: b, jwks_file: /j}",
            {"jwks_file": "only in a configuration that the broker reads itself, with serve --config"},
        ),
        ("roles", b'\n{role: auditor, callers: ["key:\\uD800"]}', {"callers[0]": HALF}),
    ],
)
def test_what_every_broker_refuses_is_not_sent(
    broker: ScriptedBroker, command: Command, tmp_path: Path, section: str, entry: bytes, fields: dict[str, str]
) -> None:
    """All at once, by lines for people and by the request's fields for programs."""
    (tmp_path / "entry.yaml").write_bytes(entry)

    outcome = command("admin", section, "put", "-f", "entry.yaml")
    as_json = json.loads(command("admin", section, "put", "-f", "entry.yaml", "--json").err)["error"]

    assert (2, []) == (outcome.code, broker.calls)
    assert [f"{section}[0].{field}: {problem}" for field, problem in fields.items()] == [
        line.partition("line ")[2].partition(": ")[2] for line in outcome.err.splitlines()
    ]
    assert {f"object.{field}": problem for field, problem in fields.items()} == as_json["fields"]


@pytest.mark.parametrize(("place", "named"), [("entry.yaml", "entry.yaml"), ("-", "stdin")])
def test_an_entry_in_another_encoding_is_refused_with_its_line(
    broker: ScriptedBroker, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, named: str
) -> None:
    """Bytes that are not UTF-8, in a file or on stdin."""
    entry = b"name: desk\nclient_id: caf\xe9\n"
    (tmp_path / "entry.yaml").write_bytes(entry)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(entry)))

    outcome = command("admin", "clients", "put", "-f", place)

    assert (2, f"error: {named}: line 2: is not text in UTF-8\n") == (outcome.code, outcome.err)
    assert [] == broker.calls


@pytest.mark.parametrize("field", ["secret_env", "secret_file"])
def test_a_secret_is_not_put_with_its_client(
    broker: ScriptedBroker, command: Command, tmp_path: Path, field: str
) -> None:
    """The field is refused with the command that does it, instead of being left out silently."""
    file = tmp_path / "entry.yaml"
    file.write_text(f"name: desk\nprovider: aries\nclient_id: x\n{field}: somewhere\n")

    outcome = command("admin", "clients", "put", "-f", file)

    assert (2, []) == (outcome.code, broker.calls)
    assert f"line 4: clients[0].{field}: put stores no secret" in outcome.err
    assert "aries-broker admin clients add-secret desk" in outcome.err


def test_objects_are_listed_and_shown(broker: ScriptedBroker, command: Command) -> None:
    """A table for people, all fields as JSON for programs, one by its name."""
    listed = config_pb2.ListObjectsResponse(objects=[config_pb2.Object(client=CLIENT, origin=config_pb2.ORIGIN_FILE)])
    broker.answer("ListObjects", listed)
    fields = {"name": "desk", "provider": "aries", "client_id": "desk-app"}
    all_fields = fields | {"redirect_uris": [], "direct_login": False, "origin": "file"}

    table = command("admin", "clients", "list")
    as_json = command("admin", "clients", "list", "--json")
    shown = command("admin", "clients", "show", "desk")
    shown_json = command("admin", "clients", "show", "desk", "--json")
    missing = command("admin", "clients", "show", "other")

    assert ["name", "provider", "client", "id", "origin", "desk", "aries", "desk-app", "file"] == table.out.split()
    assert [all_fields] == json.loads(as_json.out)
    assert all_fields == json.loads(shown_json.out)
    assert [f"{name}: {value}" for name, value in fields.items()] == shown.out.splitlines()[: len(fields)]
    assert 1 == missing.code
    assert ["error: there is no such client [NOT_FOUND]", "  kind: client", "  name: other"] == missing.err.splitlines()


@pytest.mark.parametrize("kind", ["provider", "client", "limit", "issuer", "role"])
def test_an_unknown_name_is_told_to_programs_as_the_broker_would(
    command: Command, broker: ScriptedBroker, kind: str
) -> None:
    """`show` of a name that is not there: the reason, its metadata and exit code 1, whatever the kind."""
    missing = command("admin", f"{kind}s", "show", "nope", "--json")

    told = json.loads(missing.err)["error"]
    assert (1, "", "NOT_FOUND", "NOT_FOUND") == (missing.code, missing.out, told["reason"], told["status"])
    assert {"kind": kind, "name": "nope"} == told["metadata"]
    assert ["ListObjects"] == [name for name, _ in broker.calls]


def test_what_the_broker_refuses_of_an_entry_is_told_with_its_line(
    broker: ScriptedBroker, command: Command, tmp_path: Path
) -> None:
    """Fields the broker names are found again in the file; --json leaves them as the request has them."""
    (tmp_path / "entry.yaml").write_text("name: desk\nclient_id: x\nprovider: nowhere\n")
    violation = BadRequest.FieldViolation(field="object.provider", description="there is none")
    info = ErrorInfo(domain="broker.aries", reason="INVALID_REQUEST")
    broker.refuse(grpc.StatusCode.INVALID_ARGUMENT, "there is none", info, BadRequest(field_violations=[violation]))

    told = command("admin", "clients", "put", "-f", "entry.yaml")
    as_json = json.loads(command("admin", "clients", "put", "-f", "entry.yaml", "--json").err)["error"]

    assert (1, "error: entry.yaml: line 3: clients[0].provider: there is none\nthere is none [INVALID_REQUEST]\n") == (
        told.code,
        told.err,
    )
    assert {"object.provider": "there is none"} == as_json["fields"]


def test_a_refusal_that_names_no_field_is_told_as_it_is(
    broker: ScriptedBroker, command: Command, tmp_path: Path
) -> None:
    """There is no line to look for."""
    (tmp_path / "entry.yaml").write_text("{name: desk, client_id: x, provider: p}")
    broker.refuse(grpc.StatusCode.INVALID_ARGUMENT, "no", ErrorInfo(domain="broker.aries", reason="INVALID_REQUEST"))

    assert "error: no [INVALID_REQUEST]\n" == command("admin", "clients", "put", "-f", "entry.yaml").err


def test_a_provider_is_unfrozen(broker: ScriptedBroker, command: Command) -> None:
    """The origin that is accepted is said, and what has still to be done."""
    todo = ["aries-broker admin clients add-secret desk"]
    answer = config_pb2.UnfreezeProviderResponse(version=7, token_origin="https://n.example", left_to_do=todo)
    broker.answer("UnfreezeProvider", answer)
    broker.answer("UnfreezeProvider", config_pb2.UnfreezeProviderResponse(version=8, token_origin="https://o.example"))

    outcomes = [command("admin", "providers", "unfreeze", "corp").out.splitlines() for _ in range(2)]

    assert [("UnfreezeProvider", config_pb2.UnfreezeProviderRequest(name="corp"))] * 2 == broker.calls
    assert [
        [
            "unfrozen; tokens are got at https://n.example from now on; version 7",
            "what was sealed for the former origin does not open at this one; still to be run:",
            f"  {todo[0]}",
        ],
        ["unfrozen; tokens are got at https://o.example from now on; version 8"],
    ] == outcomes


def test_a_put_says_what_deserves_a_look(broker: ScriptedBroker, command: Command, tmp_path: Path) -> None:
    """Warnings go to stderr."""
    (tmp_path / "entry.yaml").write_text("{name: corp, preset: generic, issuer: 'https://id.example'}")
    broker.answer("PutObject", config_pb2.PutObjectResponse(version=3, warnings=["it is frozen"]))

    outcome = command("admin", "providers", "put", "-f", "entry.yaml")

    assert ("replaced; version 3\n", "warning: it is frozen\n") == (outcome.out, outcome.err)


def test_roles_are_shown_by_role(broker: ScriptedBroker, command: Command) -> None:
    """A binding without a name of its own is called like its role."""
    binding = config_pb2.RoleBinding(role="auditor", callers=["key:eve"])
    broker.answer("ListObjects", config_pb2.ListObjectsResponse(objects=[config_pb2.Object(role=binding)]))

    assert "callers: key:eve" in command("admin", "roles", "show", "auditor").out


def test_grants_are_listed_over_all_pages(broker: ScriptedBroker, command: Command) -> None:
    """Every page is asked for, with the token of the one before."""
    broker.answer("ListGrants", grants_pb2.ListGrantsResponse(grants=[GRANT], next_page_token="p2"))
    broker.answer("ListGrants", grants_pb2.ListGrantsResponse(grants=[grants_pb2.GrantStatus(name="zeta")]))

    listed = json.loads(command("admin", "grants", "list", "--json").out)

    assert ["desk-service", "zeta"] == [grant["name"] for grant in listed]
    assert ["", "p2"] == [request.page_token for _, request in broker.calls]  # type: ignore[attr-defined]


def test_a_grant_is_shown_with_its_attempts(broker: ScriptedBroker, command: Command) -> None:
    """The state of the grant and how its last redeems went."""
    attempt = grants_pb2.Attempt(attempt=3, outcome="landed", cause="rotated")
    broker.answer("GetGrant", grants_pb2.GetGrantResponse(grant=GRANT, attempts=[attempt]))

    shown = command("admin", "grants", "show", "desk-service")
    as_json = json.loads(command("admin", "grants", "show", "desk-service", "--json").out)

    assert "scopes: read trade" in shown.out
    assert "landed" in shown.out
    assert "landed" == as_json["attempts"][0]["outcome"]
    assert ("GetGrant", grants_pb2.GetGrantRequest(name="desk-service")) == broker.calls[0]


SECRET_COMMANDS = [
    (
        ("admin", "clients", "add-secret", "desk"),
        ("AddFirstClientSecret", secrets_pb2.AddFirstClientSecretRequest(client="desk", secret="canary-secret")),
    ),
    (
        ("admin", "grants", "import", "g"),
        ("ImportRefreshToken", grants_pb2.ImportRefreshTokenRequest(grant="g", refresh_token="canary-secret")),
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), SECRET_COMMANDS)
def test_secrets_come_from_a_file_or_stdin(
    broker: ScriptedBroker,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    expected: tuple[str, Message],
) -> None:
    """The line break behind a secret is not part of it, and nothing printed holds the secret."""
    file = tmp_path / "secret"
    file.write_text("canary-secret\n")
    by_file = command(*arguments, "--secret-file", file)
    monkeypatch.setattr("sys.stdin", io.StringIO("canary-secret\r\n"))
    by_stdin = command(*arguments, "--stdin")

    assert [expected, expected] == broker.calls
    for outcome in (by_file, by_stdin):
        assert 0 == outcome.code
        assert "canary" not in outcome.out + outcome.err


@pytest.mark.parametrize(("arguments", "_"), SECRET_COMMANDS)
def test_a_secret_needs_one_place(
    broker: ScriptedBroker, command: Command, tmp_path: Path, arguments: tuple[str, ...], _: object
) -> None:
    """No place, two places, an empty file, one without an end: exit 2, and nothing is sent."""
    empty = tmp_path / "empty"
    empty.write_text("\n")
    endless = command(*arguments, "--secret-file", "/dev/zero")

    outcomes = [
        command(*arguments),
        command(*arguments, "--secret-file", empty, "--stdin"),
        command(*arguments, "--secret-file", empty),
    ]

    assert [2, 2, 2, 2] == [outcome.code for outcome in (*outcomes, endless)]
    assert "/dev/zero: it is longer than 16384 characters: give the secret alone" in endless.err
    assert [] == broker.calls


def test_an_import_says_what_deserves_a_look(
    broker: ScriptedBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings go to stderr, and not rotated is not said to be."""
    broker.answer("ImportRefreshToken", grants_pb2.ImportRefreshTokenResponse(warnings=["the old holder has it too"]))
    monkeypatch.setattr("sys.stdin", io.StringIO("rt"))

    outcome = command("admin", "grants", "import", "g", "--stdin")

    assert (0, "imported, not rotated\n", "warning: the old holder has it too\n") == (
        outcome.code,
        outcome.out,
        outcome.err,
    )


def test_an_api_key_stands_alone_on_stdout(broker: ScriptedBroker, command: Command) -> None:
    """A script takes the key from stdout; the list shows its public part; it can be ended."""
    key = keys_pb2.ApiKey(id="0011", name="reports")
    broker.answer("CreateApiKey", keys_pb2.CreateApiKeyResponse(api_key="abk_0011_x", key=key))
    broker.answer("ListApiKeys", keys_pb2.ListApiKeysResponse(keys=[key]))

    assert "abk_0011_x\n" == command("admin", "api-keys", "create", "reports").out
    assert "reports" in command("admin", "api-keys", "list").out
    assert [{"id": "0011", "name": "reports", "disabled": False}] == json.loads(
        command("admin", "api-keys", "list", "--json").out
    )
    assert "disabled\n" == command("admin", "api-keys", "disable", "reports").out
    assert ("DisableApiKey", keys_pb2.DisableApiKeyRequest(name="reports")) == broker.calls[-1]


def test_policies_are_explained(broker: ScriptedBroker, command: Command) -> None:
    """Allowed names the policy, refused the reason; what was considered stands below."""
    broker.answer("ExplainPolicy", config_pb2.ExplainPolicyResponse(allowed=True, policy="reports"))
    broker.answer(
        "ExplainPolicy", config_pb2.ExplainPolicyResponse(reason="POLICY_DENIED", considered=["orders: scopes"])
    )
    arguments = ("admin", "policies", "explain", "--caller", "key:a", "--grant", "g", "--scope", "read")

    assert "allowed by policy reports\n" == command(*arguments).out
    assert "refused: POLICY_DENIED\n  orders: scopes\n" == command(*arguments, "--scope", "trade").out
    assert (
        "ExplainPolicy",
        config_pb2.ExplainPolicyRequest(caller="key:a", grant="g", scopes=["read", "trade"]),
    ) == broker.calls[-1]


def test_narrowing_is_proved(broker: ScriptedBroker, command: Command) -> None:
    """The observations step by step, the profile last."""
    proved = config_pb2.ProveNarrowingResponse(narrowing="sticky", observations=["asked read, got read"])
    broker.answer("ProveNarrowing", proved)

    outcome = command("admin", "providers", "prove-narrowing", "throw-away")

    assert "asked read, got read\nnarrowing: sticky\n" == outcome.out
    assert [("ProveNarrowing", config_pb2.ProveNarrowingRequest(grant="throw-away"))] == broker.calls


def test_the_newest_event_is_last(broker: ScriptedBroker, command: Command) -> None:
    """As `tail` has it; the broker sends the newest first."""
    events = [
        audit_pb2.Event(
            time=Timestamp(seconds=seconds), action=action, actor="key:a", fields={"grant": "g", "request_id": "r"}
        )
        for seconds, action in ((2, "token:deny"), (1, "token:issue"))
    ]
    broker.answer("ListEvents", audit_pb2.ListEventsResponse(events=events))

    printed = command("admin", "audit", "tail", "-n", "5").out
    as_json = json.loads(command("admin", "audit", "tail", "--json").out)

    assert "request_id" not in printed
    assert ["r", "r"] == [event["fields"]["request_id"] for event in as_json]
    assert printed.index("token:issue") < printed.index("token:deny")
    assert ["token:issue", "token:deny"] == [event["action"] for event in as_json]
    assert [5, 20] == [request.limit for _, request in broker.calls]  # type: ignore[attr-defined]


def test_nothing_printed_steers_a_terminal(broker: ScriptedBroker, command: Command) -> None:
    """Control characters and bidi marks come out as text, in tables, fields and JSON alike."""
    hostile = config_pb2.Client(name="a\x1b[2J\u202eb", provider="[red]p", client_id="\x07\x7f\n")
    broker.answer("ListObjects", config_pb2.ListObjectsResponse(objects=[config_pb2.Object(client=hostile)]))

    outputs = [
        command("admin", "clients", "list").out,
        command("admin", "clients", "show", hostile.name).out,
        command("admin", "clients", "list", "--json").out,
    ]

    for output in outputs:
        assert {"\n"} >= {character for character in output if not character.isprintable()}
        assert "\\u202e" in output
        assert "[red]p" in output


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("clients", "put", "-f", "client.yaml"), {"version": "0", "created": False, "warnings": []}),
        (("providers", "unfreeze", "p"), {"version": "0", "token_origin": "", "left_to_do": []}),
        (("clients", "remove", "desk"), {"version": "0"}),
        (("clients", "add-secret", "desk", "--secret-file", "secret"), {"version": 0}),
        (("grants", "import", "g", "--secret-file", "secret"), {"rotated": False, "warnings": []}),
        (("api-keys", "create", "a"), {"api_key": ""}),
        (("api-keys", "disable", "a"), {}),
        (("providers", "prove-narrowing", "g"), {"narrowing": "", "observations": []}),
        (
            ("policies", "explain", "--caller", "key:a", "--scope", "read"),
            {"allowed": False, "policy": "", "reason": "", "considered": []},
        ),
    ],
)
def test_every_answer_comes_as_json_too(
    broker: ScriptedBroker,
    command: Command,
    tmp_path: Path,
    arguments: tuple[str, ...],
    fields: dict[str, object],
) -> None:
    """--json prints the response as the contract names its fields, those at their default included."""
    (tmp_path / "client.yaml").write_text("{name: desk, provider: aries, client_id: desk-app}")
    (tmp_path / "secret").write_text("s")

    outcome = command("admin", *arguments, "--json")

    assert (0, fields) == (outcome.code, json.loads(outcome.out))


def test_grants_are_listed_in_a_table(broker: ScriptedBroker, command: Command) -> None:
    """Phase, health and hold stand beside the name."""
    broker.answer("ListGrants", grants_pb2.ListGrantsResponse(grants=[GRANT]))

    printed = command("admin", "grants", "list").out

    assert ["name", "client", "type", "scopes", "phase", "health", "hold", "consented", "origin"] == (
        printed.splitlines()[0].split()
    )
    assert ["desk-service", "desk", "client_credentials", "read", "trade", "no"] == printed.splitlines()[1].split()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"canary\xff", "not text in UTF-8"), ("canary".encode("utf-16-le"), "control characters"), (b"\n", "empty")],
)
def test_what_is_no_secret_is_refused(
    broker: ScriptedBroker,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    words: str,
) -> None:
    """A wrong file is named and a wrong stdin said to be it, nothing of them is shown, and nothing is sent."""
    (tmp_path / "secret").write_bytes(content)
    by_file = command("admin", "clients", "add-secret", "desk", "--secret-file", "secret")
    outcomes = [by_file]
    for errors in ("strict", "surrogateescape"):  # as a locale has it
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8", errors))
        outcomes.append(command("admin", "clients", "add-secret", "desk", "--stdin"))

    assert ([2, 2, 2], []) == ([outcome.code for outcome in outcomes], broker.calls)
    assert [f"error: {where}: the secret" for where in ("secret", "stdin", "stdin")] == [
        outcome.err[: outcome.err.index("the secret") + 10] for outcome in outcomes
    ]
    assert all(words in outcome.err and "canary" not in outcome.err for outcome in outcomes)
