"""broker.yaml: everything wrong is told at once, with its line and field, and no secret is taken from it."""

from __future__ import annotations

import stat
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.config_file import ConfigFileError, known_problems, parse_config, read_config
from broker.adapters.config_schema import SecretReference
from broker.adapters.strict_yaml import MAX_BYTES
from broker.core.config import WindowConfig
from tests.support.work import calls_within

WHOLE = """\
revision: 1
providers:
  - {name: aries, preset: aries, base_url: "http://127.0.0.1:8090", authorize_url: "http://127.0.0.1:8090/oauth2/authorize",
     insecure_loopback: true, narrowing: additional, scopes: {withdraw: [withdraw], admin: [admin]}}
clients:
  - {name: desk, provider: aries, client_id: desk-app, secret_env: BROKER_SECRET_DESK}
grants:
  - {name: desk-service, client: desk, type: client_credentials, scopes: [read, trade]}
policies:
  - {name: reports, callers: ["key:reports", "spiffe://corp.example/ns/r/*"], grants: [desk-service], scopes: [read]}
  - {name: orders,  callers: ["k8s:system:serviceaccount:trading:orders"], grants: ["desk-*"], scopes: [read, trade]}
limits:
  - {name: per-caller, applies_to: get_token, key: [caller], rate: 50/s, burst: 100}
  - {name: aries-api, applies_to: provider, key: [provider, client], rate: 10/s, burst: 20}
issuers:
  - {name: k8s, issuer: "https://kubernetes.default.svc", audience: aries-broker, jwks_file: /etc/k8s/jwks.json}
roles:
  - {role: rotator, callers: ["spiffe://corp.example/ns/ops/*"]}
"""


def told(text: str) -> list[tuple[int, str, str]]:
    """Return (line, field, message) of everything wrong with a text."""
    with pytest.raises(ConfigFileError) as caught:
        parse_config(dedent(text))
    return [(problem.line, problem.field, problem.message) for problem in caught.value.problems]


def test_a_whole_file_is_read() -> None:
    """Every section of a file becomes its objects, in their order."""
    parsed = parse_config(WHOLE)
    config = parsed.config
    assert config.revision == 1
    assert [provider.name for provider in config.providers] == ["aries"]
    assert config.providers[0].scopes == {"withdraw": ("withdraw",), "admin": ("admin",)}
    assert [policy.name for policy in config.policies] == ["reports", "orders"]
    assert config.limits[0].windows == (WindowConfig("50/s", 100),)
    assert config.roles[0].callers == ("spiffe://corp.example/ns/ops/*",)
    assert parsed.secrets == {"desk": SecretReference("clients[0].secret_env", variable="BROKER_SECRET_DESK")}


def test_windows_may_be_several() -> None:
    """A limit has `rate` and `burst`, or a list of windows."""
    parsed = parse_config(
        dedent("""\
        revision: 1
        limits:
          - name: a
            applies_to: get_token
            key: [caller]
            windows:
              - {rate: 10/s, burst: 20}
              - {rate: 1000/h, burst: 100}
        """)
    )
    assert parsed.config.limits[0].windows == (WindowConfig("10/s", 20), WindowConfig("1000/h", 100))


FAULTS = {
    "empty": ("", [(1, "", "the file is empty")]),
    "comment alone": ("# nothing\n", [(1, "", "the file is empty")]),
    "a list": ("- revision: 1\n", [(1, "", "must be a mapping of fields")]),
    "no revision": ("clients: []\n", [(1, "revision", "is required")]),
    "revision as text": ('revision: "1"\n', [(1, "revision", "must be a whole number")]),
    "revision as fraction": ("revision: 1.5\n", [(1, "revision", "must be a whole number")]),
    "revision in another base": ("revision: 0x10\n", [(1, "revision", "must be a whole number")]),
    "two documents": ("revision: 1\n---\nrevision: 2\n", [(2, "", "but found another document")]),
    "misspelt section": (
        "revision: 1\nprovider: []\n",
        [(2, "provider", "unknown field, did you mean providers?")],
    ),
    "misspelt field": (
        "revision: 1\nclients:\n  - name: a\n    provider: b\n    client_di: c\n",
        [
            (3, "clients[0].client_id", "is required"),
            (4, "clients[0].provider", "there is no provider called 'b' in this file"),
            (5, "clients[0].client_di", "unknown field, did you mean client_id?"),
        ],
    ),
    "a key twice": ("revision: 1\nrevision: 2\n", [(2, "revision", "stands there twice")]),
    "a nested key twice": (
        "revision: 1\nroles:\n  - role: admin\n    callers: [key:a]\n    role: auditor\n",
        [(5, "roles[0].role", "stands there twice")],
    ),
    "an anchor": (
        "revision: 1\nroles:\n  - role: admin\n    callers: &who [key:a]\n",
        [(4, "", "anchors are not taken")],
    ),
    "an alias": (
        "revision: 1\nroles:\n  - role: admin\n    callers: &who [key:a]\n  - role: auditor\n    callers: *who\n",
        [(4, "", "anchors are not taken"), (6, "", "aliases are not taken: write the value out")],
    ),
    "an anchor twice": (
        "revision: 1\nroles:\n  - role: &a admin\n    callers: &a [key:a]\n",
        [(3, "", "anchors are not taken"), (4, "", "anchors are not taken")],
    ),
    "a merge key": (
        "revision: 1\nroles:\n  - <<: {role: admin}\n    callers: [key:a]\n",
        [(3, "roles[0]", "merge keys are not taken"), (3, "roles[0].role", "is required")],
    ),
    "a tag of ours": ("revision: !!int 1\n", []),
    "a tag of Python": (
        "revision: 1\nroles: !!python/object/apply:os.system [ls]\n",
        [(2, "", "tags are not taken"), (2, "roles[0]", "must be a mapping of fields")],
    ),
    "a word that YAML takes for a truth value": (
        "revision: 1\nroles:\n  - role: on\n    callers: [key:a]\n",
        [(3, "roles[0].role", "must be text: put it in quotes")],
    ),
    "a number where text is meant": (
        "revision: 1\nclients:\n  - {name: a, provider: b, client_id: 123}\nproviders: [{name: b, preset: aries}]\n",
        [(3, "clients[0].client_id", "must be text: put it in quotes")],
    ),
    "a list where text is meant": (
        "revision: 1\nroles:\n  - {role: [admin], callers: [key:a]}\n",
        [(3, "roles[0].role", "must be text")],
    ),
    "a limit of nothing": (
        "revision: 1\nlimits:\n  - {name: a}\n",
        [
            (3, "limits[0].applies_to", "is required"),
            (3, "limits[0].key", "is required"),
            (3, "limits[0].windows", "1 to 8 are needed, or `rate` and `burst`"),
        ],
    ),
    "yes for true": (
        "revision: 1\nproviders:\n  - {name: a, preset: aries, insecure_loopback: yes}\n",
        [(3, "providers[0].insecure_loopback", "must be true or false")],
    ),
    "text where a list is meant": (
        "revision: 1\nroles:\n  - {role: admin, callers: key:a}\n",
        [(3, "roles[0].callers", "must be a list")],
    ),
    "nothing where a list is meant": ("revision: 1\nroles:\n", [(2, "roles", "must be a list")]),
    "a list where a mapping is meant": (
        "revision: 1\nproviders:\n  - {name: a, preset: aries, scopes: [read]}\n",
        [(3, "providers[0].scopes", "must be a mapping")],
    ),
    "half a window": (
        "revision: 1\nlimits:\n  - {name: a, applies_to: get_token, key: [caller], rate: 10/s}\n",
        [(3, "limits[0]", "needs both rate and burst, or windows instead of them")],
    ),
    "rate and windows": (
        "revision: 1\nlimits:\n  - {name: a, applies_to: admin, key: [caller], rate: 1/s, burst: 1, windows: []}\n",
        [(3, "limits[0]", "needs both rate and burst, or windows instead of them")],
    ),
    "two places of a secret": (
        "revision: 1\nclients:\n  - {name: a, provider: b, client_id: c, secret_file: /x, secret_env: Y}\n",
        [
            (3, "clients[0]", "only one of secret_file and secret_env can be meant"),
            (3, "clients[0].provider", "there is no provider called 'b' in this file"),
        ],
    ),
    "a list as key": ("revision: 1\n? [a]\n: b\n", [(2, "", "a field's name must be text")]),
    "broken YAML": ("revision: 1\nroles: [\n", [(3, "", "expected the node content, but found '<stream end>'")]),
    "a tab": ("revision: 1\nroles:\n\t- a\n", [(3, "", "found character '\\t' that cannot start any token")]),
    "a NUL": ("revision: 1\x00", [(1, "", "the file holds characters that are not allowed in YAML")]),
    "a NUL further on": (
        "revision: 1\n\n#\x00\n",
        [(3, "", "the file holds characters that are not allowed in YAML")],
    ),
    "half a character": (
        'revision: 1\nroles:\n  - role: auditor\n    callers: ["key:\\ud83d\\ude00"]\n',
        [(4, "roles[0].callers[0]", "holds half a character: write a whole one, as itself or with one escape")],
    ),
    "half a character in a name": (
        'revision: 1\n"r\\ud800les": []\n',
        [(2, "", "a field's name holds half a character: write a whole one, as itself or with one escape")],
    ),
    "a name without end": (
        f"revision: 1\n? {'a.' * 513}\n: []\n",
        [(2, "", "a field's name has at most 1024 characters")],
    ),
    "an escape beyond all characters": (
        'revision: 1\nroles:\n  - {role: "\\U00110000"}\n',
        [(3, "", "an escape or a version stands for nothing")],
    ),
    "an escape beyond all numbers": (
        'revision: 1\nroles: &who\n  - {role: "a\\UFFFFFFFF"}\n',
        [(2, "", "anchors are not taken"), (3, "", "an escape or a version stands for nothing")],
    ),
    "a version of many digits": (
        f"# ours\n%YAML 1.{'9' * 5000}\n---\nrevision: 1\n",
        [(2, "", "an escape or a version stands for nothing")],
    ),
    "nested deeply": ("revision: " + "[" * 5000, [(1, "", "the file is nested too deeply")]),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_told_with_line_and_field(text: str, expected: list[tuple[int, str, str]]) -> None:
    """Each fault has the line it is on and the field's path."""
    if not expected:
        parse_config(text)
    else:
        assert expected == told(text)


WORDS = [
    "revision: 1",
    "roles:",
    "%YAML 1.",
    "%TAG ",
    "<<",
    "!!int ",
    "!!binary ",
    "---",
    "...",
    "- ",
    ": ",
    "9" * 4500,
]
ESCAPES = ['"\\x41"', '"\\ud800"', '"\\U00110000"', '"\\UFFFFFFFF"', '"\\x']
SIGNS = "-?:,[]{}#&*!|>%@`~= \n\t\r\"'\\\ufeff\u2028\x85\x00\ud800é\U0001f600"
PIECES = st.lists(st.sampled_from([*WORDS, *ESCAPES, *SIGNS]), max_size=12).map("".join)


@given(PIECES, st.integers(0, len(WHOLE)), st.booleans())
def test_every_text_is_a_configuration_or_is_told_why_not(piece: str, at: int, alone: bool) -> None:
    """Whatever a file holds, all that is wrong with it has a line, and nothing else is raised."""
    lines = [1]
    try:
        parse_config(piece if alone else WHOLE[:at] + piece + WHOLE[at:])
    except ConfigFileError as error:
        lines = [problem.line for problem in error.problems]
    assert min(lines) > 0


def test_everything_wrong_is_told_at_once() -> None:
    """A file with five faults is told all five, in the order of its lines."""
    text = """\
        revision: one
        clients:
          - {name: desk, provider: aries, client_id: 5}
          - {name: desk, provider: aries}
        policies: none
        limit: []
        """
    assert told(text) == [
        (1, "revision", "must be a whole number"),
        (3, "clients[0].client_id", "must be text: put it in quotes"),
        (4, "clients[1].client_id", "is required"),
        (4, "clients[1].name", "'desk' stands there twice"),
        (5, "policies", "must be a list"),
        (6, "limit", "unknown field, did you mean limits?"),
    ]


def test_a_foreign_field_hides_nothing_else() -> None:
    """Beside fields nobody knows, rules and references are told as well."""
    text = """\
        revision: 1
        providers:
          - {name: aries, preset: ares}
        clients:
          - {name: desk, provider: nowhere, client_id: a, secret_fiel: /x}
        grants:
          - {name: g, client: desk, type: none, scopes: [read]}
        """
    assert told(text) == [
        (3, "providers[0].preset", "must be one of aries, generic"),
        (5, "clients[0].secret_fiel", "unknown field, did you mean secret_file?"),
        (5, "clients[0].provider", "there is no provider called 'nowhere' in this file"),
        (7, "grants[0].type", "must be one of client_credentials, refresh_token"),
    ]


USERS = """\
clients: [{name: c, provider: a, client_id: i}]
grants: [{name: g, client: c, type: client_credentials, scopes: [r]}]
policies: [{name: p, callers: ["key:a"], grants: [g], scopes: [r]}]
"""
"""Objects that need the provider `a`, and its scope `r`."""


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("provider: [{name: a, preset: aries}]\nclients: [{name: c, provider: a, client_id: i}]", ["provider"]),
        ("issuers: [{name: sso, issuer: i, audience: a, jwks_url: 'https://i/j'}]", ["issuers[0].jwks_url"]),
        (
            "providers: [{name: a, preset: generic, issuer_url: 'https://id.example'}]",
            ["providers[0].issuer_url"],
        ),
        (
            "providers: [{name: a, preset: generic, issuer: 'https://id.example', scope: {read: [r]}}]\n" + USERS,
            ["providers[0].scope"],
        ),
        (
            "roles: [{role: auditor, callers: ['key:a']}, {role: auditor, nam: b, callers: ['key:b']}]",
            ["roles[1].nam"],
        ),
        (
            "limits: [{name: a, applies_to: admin, key: [caller], windows: [{rate: 1/s, burst: 1, x: 1}]}]",
            ["limits[0].windows[0].x"],
        ),
    ],
)
def test_a_foreign_field_makes_nothing_else_wrong(text: str, fields: list[str]) -> None:
    """What an object lacks is not told where a foreign field may have been meant to be it."""
    assert fields == [field for _, field, _ in told(f"revision: 1\n{text}")]


ALL_WRONG = """\
    revision: 0
    providers:
      - {name: aries, preset: aries, base_url: 7, default_expires_in: 0, token_endpoint_auth: none}
      - {name: Corp, preset: generic, issuer: "http://id.example", scopes: {read: [r]}, insecure_loopback: maybe}
      - {preset: aries}
      - none
    clients:
      - {name: desk, provider: aries, client_id: [a]}
      - {name: desk, provider: nowhere, client_id: ""}
      - {name: third, provider: Corp, client_id: c}
    grants:
      - {name: g, client: desk, type: none, scopes: [read, Trade, 5]}
      - {name: h, client: third, type: refresh_token, scopes: [r, w]}
    policies:
      - {name: p, callers: ["key:**", "sso:x", 3], grants: [], scopes: [cash], authorize: "yes"}
    limits:
      - {name: l, applies_to: get_token, key: [nothing], rate: 10, burst: 0}
      - {name: m, applies_to: nowhere, windows: [{rate: fast}], key: caller}
    issuers:
      - {name: sso, issuer: "https://sso.example", audience: 5, algorithms: [HS256], jwks_file: keys}
      - {name: key, issuer: "https://sso.example", audience: a, jwks_file: 5}
    roles:
      - {role: boss, callers: ["spiffe://x/**"]}
      - {role: 5, callers: ["key:a"]}
"""


def test_what_cannot_be_read_hides_nothing_that_is_wrong() -> None:
    """A value of the wrong kind, or none, takes no other problem with it, in its object or elsewhere."""
    found = [(line, field) for line, field, _ in told(ALL_WRONG)]
    assert found == [
        (1, "revision"),
        (3, "providers[0].base_url"),
        (3, "providers[0].default_expires_in"),
        (3, "providers[0].token_endpoint_auth"),
        (4, "providers[1].insecure_loopback"),
        (4, "providers[1].issuer"),
        (4, "providers[1].name"),
        (5, "providers[2].name"),
        (6, "providers[3]"),
        (8, "clients[0].client_id"),
        (9, "clients[1].client_id"),
        (9, "clients[1].name"),
        (12, "grants[0].scopes[2]"),
        (12, "grants[0].scopes[1]"),
        (12, "grants[0].type"),
        (13, "grants[1].scopes[1]"),
        (15, "policies[0].callers[2]"),
        (15, "policies[0].authorize"),
        (15, "policies[0].callers[0]"),
        (15, "policies[0].grants"),
        (17, "limits[0].rate"),
        (17, "limits[0].key[0]"),
        (17, "limits[0].windows[0].burst"),
        (18, "limits[1].windows[0].burst"),
        (18, "limits[1].key"),
        (18, "limits[1].applies_to"),
        (18, "limits[1].windows[0].rate"),
        (20, "issuers[0].audience"),
        (20, "issuers[0].algorithms[0]"),
        (20, "issuers[0].jwks_file"),
        (21, "issuers[1].jwks_file"),
        (21, "issuers[1].issuer"),
        (21, "issuers[1].name"),
        (23, "roles[0].callers[0]"),
        (23, "roles[0].role"),
        (24, "roles[1].role"),
    ]


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("providers: [{name: a, preset: aries, wire_scopes: [5]}]", ["providers[0].wire_scopes[0]"]),
        ("providers: [{name: a, preset: 5}]", ["providers[0].preset"]),
        ("providers: [{name: 5, preset: aries}]", ["providers[0].name"]),
        ("providers: 5", ["providers"]),
        ("providers: [5]", ["providers[0]"]),
        ("provider: [{name: a, preset: aries}]", ["provider"]),
        (
            "providers: [{name: a, preset: aries, base_url: 5}]",
            ["providers[0].base_url", "grants[0].scopes[0]", "policies[0].scopes[0]"],
        ),
    ],
)
def test_what_a_broken_value_may_have_brought_is_not_missed(broken: str, found: list[str]) -> None:
    """Names and scopes that may stand where nothing could be read are not called unknown; all others are."""
    assert found == [field for _, field, _ in told(f"revision: 1\n{broken}\n{USERS}")]


def test_twice_as_many_mistakes_are_told_with_twice_the_work() -> None:
    """What could not be read is not compared, one by one, with everything that is wrong."""

    def calls(count: int) -> int:
        policy = "  - {name: p, callers: [5], grants: [g], scopes: [READ], authorize: 5}\n"
        provider = "  - {name: a, preset: none, base_url: 5, scope: [read]}\n"
        text = f"revision: 1\npolicies:\n{policy * count}providers:\n{provider * count}"
        return calls_within(lambda: told(text))

    assert calls(100) < 2.5 * calls(50)


def test_one_object_is_not_asked_for_the_others() -> None:
    """Of one object that goes with others elsewhere, rules are told and references not."""
    text = (
        "revision: 1\nclients: [{name: A, provider: b, client_id: c}]\nroles: [{role: admin, callers: ['key:a'], x: 1}]"
    )
    with pytest.raises(ConfigFileError) as caught:
        parse_config(text, whole=False)
    assert ["clients[0].name", "roles[0].x"] == [problem.field for problem in caught.value.problems]


@pytest.mark.parametrize("field", ["secret", "client_secret", "password", "private_key", "token"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(field: str) -> None:
    """Secrets are named by where they are read, and one that stands in the file is never shown."""
    provider = "providers: [{name: b, preset: aries}]"
    client = f"clients:\n  - {{name: a, provider: b, client_id: c, {field}: hunter2-canary}}"
    found = told(f"revision: 1\n{provider}\n{client}\n")
    assert found == [
        (
            4,
            f"clients[0].{field}",
            "secrets are not written here: say where to read it with secret_file or secret_env",
        )
    ]
    assert "hunter2-canary" not in str(found)


def test_the_broker_s_fields_are_told_with_their_lines() -> None:
    """What the broker finds wrong is shown at the line of the field, or of the nearest one around it."""
    parsed = parse_config(WHOLE)
    assert [(10, "policies[0].callers[1]"), (15, "issuers"), (18, "roles[0].name")] == [
        (problem.line, problem.field)
        for problem in parsed.problems({"roles[0].name": "x", "policies[0].callers[1]": "y", "issuers": "z"})
    ]
    assert parsed.line_of("nowhere.at[3].all") == 1


def test_a_file_too_long_is_refused(tmp_path: Path) -> None:
    """No more than the bound is read."""
    path = tmp_path / "broker.yaml"
    path.write_text("revision: 1\n" + "#" * MAX_BYTES)
    with pytest.raises(ConfigFileError, match="longer than"):
        read_config(path)


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    """Reading fails with a sentence, not with a traceback."""
    path = tmp_path / "broker.yaml"
    with pytest.raises(ConfigFileError, match="cannot be read: No such file"):
        read_config(path)
    path.write_bytes(b"revision: \xff\n")
    with pytest.raises(ConfigFileError, match="not text in UTF-8"):
        read_config(path)
    path.write_text(WHOLE)
    assert stat.S_ISREG(path.stat().st_mode)
    assert read_config(path).config == parse_config(WHOLE).config


@pytest.mark.parametrize("port", ["65536", "-1", "none"])
def test_a_port_there_is_not_is_told(port: str) -> None:
    """In every URL the broker would connect to, with its line."""
    url = f"https://a.example:{port}"
    text = f"""\
revision: 1
providers:
  - {{name: one, preset: aries, base_url: "{url}", authorize_url: "{url}/authorize"}}
  - {{name: two, preset: generic, issuer: "{url}", endpoint_origins: ["{url}"], api_origins: ["{url}"]}}
issuers:
  - {{name: k8s, issuer: "https://i.example", audience: aries-broker, jwks_uri: "{url}/keys"}}
"""
    found = known_problems(parse_config(text))
    fields = ("[0].base_url", "[0].authorize_url", "[1].issuer", "[1].endpoint_origins[0]", "[1].api_origins[0]")
    assert {f"providers{field}" for field in fields} | {"issuers[0].jwks_uri"} == {problem.field for problem in found}
    providers = {problem.message for problem in found if problem.field.startswith("providers")}
    assert {"must be an absolute URL, its port from 0 to 65535"} == providers
    assert {3, 4, 6} == {problem.line for problem in found}
