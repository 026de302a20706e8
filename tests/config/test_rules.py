"""What a configuration may not say, field by field."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from textwrap import dedent

import pytest

from broker.adapters.config_file import parse_config
from broker.adapters.presets import resolve, vocabulary
from broker.core import admins, config_change, config_references, config_rules, provider_config, scopes
from broker.core.config import (
    ClientConfig,
    ConfigFile,
    GrantConfig,
    IssuerConfig,
    LimitConfig,
    PolicyConfig,
    RoleConfig,
    WindowConfig,
    merged,
    sections,
)
from broker.core.config_references import Staying
from broker.core.config_rules import NAME_RULE, parse_rate
from broker.core.config_values import build_object, catalog_of
from broker.core.models import ApiKey, Grant, GrantType, Kind, Origin
from broker.core.provider_config import ProviderConfig
from tests.support.work import calls_within

GRANT = Grant("", "h", Origin.FILE, "nowhere", GrantType.REFRESH_TOKEN, frozenset())
REVISION = "must be a whole number from 1 to 9223372036854775807"
PRINTABLE = "must be 1 to 512 printable ASCII characters without spaces"
ALGORITHMS = "must be one of ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512"

SAID = {
    "revision zero": ("revision: 0", {"revision": REVISION}),
    "revision below zero": ("revision: -1", {"revision": REVISION}),
    "revision beyond the store": ("revision: 9223372036854775808", {"revision": REVISION}),
    "name in capitals": (
        "limits: [{name: A, applies_to: admin, key: [caller], rate: 1/s, burst: 1}]",
        {"limits[0].name": NAME_RULE},
    ),
    "name too long": (
        f"limits: [{{name: {'a' * 64}, applies_to: admin, key: [caller], rate: 1/s, burst: 1}}]",
        {"limits[0].name": NAME_RULE},
    ),
    "name with a separator": (
        'limits: [{name: "a/b", applies_to: admin, key: [caller], rate: 1/s, burst: 1}]',
        {"limits[0].name": NAME_RULE},
    ),
    "plain http without insecure_loopback": (
        'providers: [{name: a, preset: aries, base_url: "http://127.0.0.1:1"}]',
        {"providers[0].base_url": "must be https; http only to loopback, and only with insecure_loopback"},
    ),
    "plain http to elsewhere": (
        'providers: [{name: a, preset: aries, base_url: "http://10.0.0.1", insecure_loopback: true}]',
        {"providers[0].base_url": "must be https; http only to loopback, and only with insecure_loopback"},
    ),
    "client_id with a line break": (
        'clients: [{name: a, provider: p, client_id: "a\\nb"}]',
        {
            "clients[0].client_id": "must be 1 to 255 printable ASCII characters (RFC 6749 appendix A.1)",
            "clients[0].provider": "there is no provider called 'p'",
        },
    ),
    "kind of a caller as a pattern": (
        'policies: [{name: a, callers: ["*:x"], grants: [g], scopes: [read]}]',
        {
            "policies[0].callers[0]": (
                "a caller pattern begins with a literal kind and a colon, as in `key:` or `spiffe:`; "
                "there is no issuer called '*'"
            )
        },
    ),
    "every subject unsaid": (
        'policies: [{name: a, callers: ["key:*"], grants: [g], scopes: [read]}]',
        {
            "policies[0].callers[0]": "the pattern matches every subject of its issuer: narrow it, or say "
            "`any_subject: true`"
        },
    ),
    "every subject said": (
        'policies: [{name: a, callers: ["key:*"], any_subject: true, grants: [g], scopes: [read]}]',
        {},
    ),
    "no callers, no grants, no scopes": (
        "policies: [{name: a, callers: [], grants: [], scopes: []}]",
        {
            "policies[0].callers": "at least one is required",
            "policies[0].grants": "at least one is required",
            "policies[0].scopes": "at least one is required",
        },
    ),
    "a pattern of scopes": (
        'policies: [{name: a, callers: ["key:x"], grants: [g], scopes: ["account:*"]}]',
        {"policies[0].scopes[0]": "scopes are named in full, without patterns"},
    ),
    "a scope in capitals": (
        'policies: [{name: a, callers: ["key:x"], grants: [g], scopes: [Read]}]',
        {"policies[0].scopes[0]": "scopes are lower case"},
    ),
    "a value twice": (
        'policies: [{name: a, callers: ["key:x", "key:x"], grants: [g], scopes: [read]}]',
        {"policies[0].callers[1]": "stands there twice"},
    ),
    "excess of withdraw": (
        'policies: [{name: a, callers: ["key:x"], grants: [g], scopes: [a], accept_excess: [trade, withdraw, admin]}]',
        {
            "policies[0].accept_excess[1]": "withdraw is never accepted unasked",
            "policies[0].accept_excess[2]": "admin is never accepted unasked",
        },
    ),
    "logins for grants by pattern": (
        'policies: [{name: a, callers: ["key:x"], grants: [g, "g*"], scopes: [read], authorize: true}]',
        {"policies[0].grants[1]": "authorize is for grants named in full, without patterns"},
    ),
    "redirect URIs": (
        "clients: [{name: a, provider: p, client_id: a, redirect_uris: ['http://app.example/', 'https://a/', 'https://a/']}]",
        {
            "clients[0].provider": "there is no provider called 'p'",
            "clients[0].redirect_uris[0]": (
                "must be https, http to loopback, or a scheme that is a domain name turned round, as in "
                "com.example.app:/cb"
            ),
            "clients[0].redirect_uris[2]": "stands there twice",
        },
    ),
    "what logins ask beside": (
        (
            "providers: [{name: a, preset: aries, login_scopes: [openid, read, Odd], "
            "authorize_parameters: {state: x, Prompt: y, prompt: consent}}]"
        ),
        {
            "providers[0].login_scopes[1]": "a product scope is asked for by grants",
            "providers[0].login_scopes[2]": "scopes are lower case",
            "providers[0].authorize_parameters.state": "the broker sets this itself",
            "providers[0].authorize_parameters.Prompt": (
                "a name has lower-case letters, digits and _, and begins with a letter"
            ),
        },
    ),
    "redirect URIs without end": (
        f"clients: [{{name: a, provider: p, client_id: a, redirect_uris: {[f'https://a/{n}' for n in range(33)]}}}]",
        {
            "clients[0].provider": "there is no provider called 'p'",
            "clients[0].redirect_uris": "at most 32 are allowed",
        },
    ),
    "role with a rest": (
        'roles: [{role: auditor, callers: ["spiffe://corp.example/**"]}]',
        {"roles[0].callers[0]": "a role's pattern holds no `**`"},
    ),
    "role for everybody": (
        'roles: [{role: auditor, callers: ["key:*"]}]',
        {"roles[0].callers[0]": "a role's pattern is no bare `*`"},
    ),
    "admin by pattern": (
        'roles: [{role: admin, callers: ["key:ops-*"]}]',
        {"roles[0].callers[0]": "the role admin names each caller in full"},
    ),
    "no role": (
        'roles: [{role: root, callers: ["key:a"]}]',
        {
            "roles[0].role": "must be one of admin, auditor, operator, rotator",
        },
    ),
    "two bindings of a role without names": (
        'roles: [{role: auditor, callers: ["key:a"]}, {role: auditor, callers: ["key:b"]}]',
        {"roles[1].name": "'auditor' stands there twice; two bindings of one role need names"},
    ),
    "rate of nothing": (
        "limits: [{name: a, applies_to: admin, key: [caller], rate: 0/s, burst: 0}]",
        {
            "limits[0].windows[0].rate": "must be a whole number above 0 and its unit, such as 10/s, 300/min or 1000/h",
            "limits[0].windows[0].burst": "must be 1 to 1000000",
        },
    ),
    "no windows": (
        "limits: [{name: a, applies_to: admin, key: [caller], windows: []}]",
        {"limits[0].windows": "1 to 8 are needed, or `rate` and `burst`"},
    ),
    "no target, no key": (
        "limits: [{name: a, applies_to: everything, key: [], rate: 1/s, burst: 1}]",
        {
            "limits[0].applies_to": "must be one of acquire, admin, get_token, provider",
            "limits[0].key": "at least one is required",
        },
    ),
    "a provider's limit by caller": (
        "limits: [{name: a, applies_to: provider, key: [caller], rate: 1/s, burst: 1}]",
        {"limits[0].key[0]": "must be one of client, grant, provider where provider is limited"},
    ),
    "issuer's name reserved": (
        "issuers: [{name: key, issuer: i, audience: a, jwks_file: /j}]",
        {"issuers[0].name": "key is the broker's own word for a kind of caller"},
    ),
    "issuer's name misspelt": (
        "issuers: [{name: K8S, issuer: i, audience: a, jwks_file: /j}]",
        {
            "issuers[0].name": (
                "an issuer's name is a lower-case letter, then 1 to 30 of lower-case letters, digits and `-`"
            )
        },
    ),
    "two issuers of one iss": (
        "issuers: [{name: aa, issuer: i, audience: a, jwks_file: /}, {name: bb, issuer: i, audience: a, jwks_file: /}]",
        {"issuers[1].issuer": "the issuer 'aa' has the same `iss`"},
    ),
    "no keys": (
        "issuers: [{name: aa, issuer: i, audience: a}]",
        {"issuers[0].jwks_uri": "exactly one of jwks_uri and jwks_file is required"},
    ),
    "two places of keys": (
        'issuers: [{name: aa, issuer: i, audience: a, jwks_file: /j, jwks_uri: "https://i/j"}]',
        {"issuers[0].jwks_uri": "exactly one of jwks_uri and jwks_file is required"},
    ),
    "keys in plaintext": (
        'issuers: [{name: aa, issuer: i, audience: a, jwks_uri: "http://kube.example/j"}]',
        {"issuers[0].jwks_uri": "must be an https URL without user name and fragment; http only to loopback"},
    ),
    "an HMAC": (
        "issuers: [{name: aa, issuer: i, audience: a, jwks_file: /j, algorithms: [HS256, none]}]",
        {"issuers[0].algorithms[0]": ALGORITHMS, "issuers[0].algorithms[1]": ALGORITHMS},
    ),
    "files beside a file": (
        "issuers: [{name: aa, issuer: i, audience: a, jwks_file: j, ca_file: /c}]",
        {
            "issuers[0].jwks_file": "must be an absolute path on the broker's machine",
            "issuers[0].ca_file": "serves only to fetch jwks_uri",
        },
    ),
    "spaces in an audience": (
        'issuers: [{name: aa, issuer: "", audience: "a b", jwks_file: /j, extra_audiences: [""]}]',
        {
            "issuers[0].issuer": PRINTABLE,
            "issuers[0].audience": PRINTABLE,
            "issuers[0].extra_audiences[0]": PRINTABLE,
        },
    ),
}


@pytest.mark.parametrize(("text", "expected"), SAID.values(), ids=SAID)
def test_each_rule_is_told_at_its_field(text: str, expected: dict[str, str]) -> None:
    """A configuration that breaks a rule is told the field and the rule, and nothing else."""
    whole = text if text.startswith("revision") else f"revision: 1\n{text}"
    config = parse_config(dedent(whole)).config
    found = merged([*config_rules.problems(config), *config_references.problems(config, Staying())])
    assert expected == found


def test_an_excess_by_its_wire_scope_is_refused() -> None:
    """What withdraw means at a provider is not accepted unasked under another word either."""
    text = """\
        revision: 1
        providers: [{name: a, preset: aries, scopes: {withdraw: ["money:out"]}}]
        policies:
          - {name: p, callers: ["key:x"], grants: [g], scopes: [read], accept_excess: ["money:out", "order:execution"]}
        """
    config = parse_config(dedent(text)).config
    provider = resolve(config.providers[0], None, provider_id="", origin=Origin.FILE)
    found = merged(config_references.scope_problems(config, Staying(), {"a": provider}))
    assert found == {"policies[0].accept_excess[0]": "'money:out' is a scope of withdraw or admin: never unasked"}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "aries",
            {
                "providers[0].login_scopes[0]": "'order:execution' is a scope of trade: grants ask for it",
                "providers[0].login_scopes[2]": "'money:out' is a scope of withdraw: grants ask for it",
            },
        ),
        ("generic", {"providers[0].login_scopes[2]": "'money:out' is a scope of withdraw: grants ask for it"}),
    ],
)
def test_a_login_asks_beside_for_no_scope_of_a_product(preset: str, expected: dict[str, str]) -> None:
    """Neither by the preset's map nor by the file's: what no policy allows would come with every login."""
    text = f"""\
        revision: 1
        providers:
          - {{name: a, preset: {preset}, token_url: "https://a/t",
             scopes: {{withdraw: ["money:out"]}}, wire_scopes: [more],
             login_scopes: ["order:execution", openid, "money:out", more]}}
        """
    config = parse_config(dedent(text)).config
    provider = resolve(config.providers[0], None, provider_id="", origin=Origin.FILE)
    assert expected == merged(config_references.scope_problems(config, Staying(), {"a": provider}))


def test_a_grant_may_have_the_scopes_that_stand_for_something() -> None:
    """What is called unmapped is what no wire scope would be sent for."""
    text = """\
        revision: 1
        providers: [{name: a, preset: aries, scopes: {withdraw: [money], admin: []}, wire_scopes: [more, read]}]
        clients: [{name: c, provider: a, client_id: c}]
        grants: [{name: g, client: c, type: refresh_token, scopes: [read, admin, withdraw, money, more, cash, trade]}]
        """
    config = parse_config(dedent(text)).config
    provider = resolve(config.providers[0], None, provider_id="", origin=Origin.FILE)
    mapped = [bool(scopes.expand((scope,), provider)) for scope in config.grants[0].scopes]
    found = merged(config_references.scope_problems(config, Staying(), {"a": provider}))
    assert [True, False, True, True, True, False, True] == mapped
    assert ["grants[0].scopes[1]", "grants[0].scopes[5]"] == list(found)


def test_twice_as_large_a_configuration_is_checked_with_twice_the_work() -> None:
    """Nothing is compared, one by one, with everything of another kind or of its own."""

    def calls(count: int) -> int:
        config = ConfigFile(
            1,
            tuple(ProviderConfig(f"a{i}", "aries", wire_scopes=("w", "x")) for i in range(count)),
            tuple(ClientConfig(f"c{i}", f"a{i}", "id") for i in range(count)),
            tuple(GrantConfig(f"g{i}", f"c{i}", "refresh_token", ("read", "none")) for i in range(count)),
            tuple(PolicyConfig(f"p{i}", (f"key:{i}",), (f"g{i}",), ("read", "none"), ("w",)) for i in range(count)),
            tuple(LimitConfig(f"l{i}", "admin", ("caller",), (WindowConfig("1/s", 1),)) for i in range(count)),
            tuple(IssuerConfig(f"i{i}", f"i{i}", "a", jwks_file="/j") for i in range(count)),
            tuple(RoleConfig("admin", (f"key:o{i}", f"i{i}:x"), f"r{i}") for i in range(count)),
        )
        written = (item for kind, (_, items) in sections(config).items() if kind != Kind.PROVIDER for item in items)
        others = tuple(build_object(item, Origin.FILE) for item in written)
        providers = {one.name: one for one in map(vocabulary, config.providers) if one is not None}
        keys = [ApiKey(f"{i}", f"o{i}", b"", "") for i in range(count)]

        def check() -> None:
            config_rules.problems(config)
            config_rules.remote_problems(config)
            config_references.problems(config, Staying())
            config_references.problems(config, Staying(catalog_of(others), {f"h{i}": GRANT for i in range(count)}))
            config_references.scope_problems(config, Staying(), providers)
            config_change.identity_problems(config, others)
            config_change.warnings(others, config_change.difference(others, others[::2]))
            admins.live_admins(catalog_of(others), keys, 0.0, trusts_spiffe=True)

        return calls_within(check)

    assert calls(200) < 2.5 * calls(100)


class Unsearched(tuple[str, ...]):
    """Scopes that nobody looks through, one by one, for one of them."""

    __slots__ = ()

    def __contains__(self, _: object) -> bool:
        raise AssertionError


def test_wire_scopes_are_not_searched_for_each_of_them() -> None:
    """Whether a provider maps `read` to itself is looked up, however many words it has."""
    config = ProviderConfig("a", "generic", "https://a", "https://a", scopes={"read": Unsearched(("r", "read"))})
    assert [] == provider_config.validate(replace(config, wire_scopes=("read", "read")))


def test_too_long_lists_are_refused() -> None:
    """Every list has a bound."""
    callers = ", ".join(f'"key:c{number}"' for number in range(1001))
    config = parse_config(f"revision: 1\nroles: [{{role: auditor, callers: [{callers}]}}]").config
    assert merged(config_rules.problems(config)) == {"roles[0].callers": "at most 1000 are allowed"}


def test_values_are_built_from_what_was_checked_only() -> None:
    """A provider is its preset's to resolve, and an unchecked rate is a caller's mistake."""
    provider = parse_config("revision: 1\nproviders: [{name: a, preset: aries}]").config.providers[0]
    with pytest.raises(TypeError):
        build_object(provider, Origin.FILE)
    limit = LimitConfig("a", "admin", ("caller",), (WindowConfig("fast", 1),))
    with pytest.raises(ValueError, match="not checked"):
        build_object(limit, Origin.FILE)


def test_too_many_objects_are_refused() -> None:
    """A configuration has a bound, so that checking it has one."""
    limit = parse_config("revision: 1\nlimits: [{name: a, applies_to: admin, key: [caller], rate: 1/s, burst: 1}]")
    config = ConfigFile(revision=1, limits=limit.config.limits * 10_001)
    assert "at most 10000 are allowed" == merged(config_rules.problems(config))["limits"]


RATES = [
    ("50/s", Fraction(50)),
    ("300/min", Fraction(5)),
    ("1000/h", Fraction(5, 18)),
    ("1/h", Fraction(1, 3600)),
    ("0/s", None),
    ("-1/s", None),
    ("01/s", None),
    ("1.5/s", None),
    ("1e3/s", None),
    ("10/sec", None),
    ("10 /s", None),
    ("10/s\n", None),
    ("1000000/s", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "rate"), RATES)
def test_rates_are_whole_numbers_per_unit(text: str, rate: Fraction | None) -> None:
    """A rate is a whole number above 0 and s, min or h; nothing else is guessed at."""
    assert rate == parse_rate(text)
