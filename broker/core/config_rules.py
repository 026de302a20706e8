"""What a configuration may say, object by object; whether the objects fit together is `config_references`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Final

from broker.core import globs, provider_config, scopes
from broker.core.config import (
    ClientConfig,
    ConfigFile,
    ConfigObject,
    GrantConfig,
    IssuerConfig,
    LimitConfig,
    PolicyConfig,
    Problem,
    RoleConfig,
    WindowConfig,
    name_of,
    sections,
)
from broker.core.identity import ISSUER_NAME, RESERVED_KINDS, Role
from broker.core.models import GrantType, LimitTarget
from broker.core.oauth.redirect_uri import redirect_uri_problem
from broker.core.provider_config import ProviderConfig

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""What objects may be called."""
NAME_RULE: Final = (
    "a name has lower-case letters, digits, `.`, `_` and `-`, begins with a letter or digit, and is at most 63 long"
)

MAX_REVISION: Final = 2**63 - 1
MAX_OBJECTS: Final = 10_000
"""Most objects of one kind in one configuration."""
MAX_ITEMS: Final = 1_000
"""Most values of one list."""
MAX_BURST: Final = 1_000_000
MAX_REDIRECT_URIS: Final = 32
MAX_WINDOWS: Final = 8

SIGNATURE_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Asymmetric ones alone: with an HMAC whoever can verify can also sign."""

LIMIT_KEYS: Final[Mapping[LimitTarget, frozenset[str]]] = {
    LimitTarget.GET_TOKEN: frozenset({"caller", "grant", "client", "provider"}),
    LimitTarget.PROVIDER: frozenset({"grant", "client", "provider"}),
    LimitTarget.ACQUIRE: frozenset({"caller", "grant", "client", "provider"}),
    LimitTarget.ADMIN: frozenset({"caller"}),
}
"""What is known of a call when a limit of this target is spent."""

LOCAL_ONLY: Final = "only in a configuration that the broker reads itself, with serve --config"
"""Of what is refused over the network."""

_RATE: Final = re.compile(r"([1-9][0-9]{0,5})/(s|min|h)")
_SECONDS: Final = {"s": 1, "min": 60, "h": 3600}

Found = Iterator[tuple[str, str]]
"""Pairs of a field within the object and what is wrong with it."""


def problems(config: ConfigFile) -> list[Problem]:
    """Return everything wrong with the objects of a configuration, each looked at by itself."""
    fits = 1 <= config.revision <= MAX_REVISION
    found = [] if fits else [Problem("revision", f"must be a whole number from 1 to {MAX_REVISION}")]
    for section, items in sections(config).values():
        if len(items) > MAX_OBJECTS:
            found.append(Problem(section, f"at most {MAX_OBJECTS} are allowed"))
        for index, item in enumerate(items):
            path = f"{section}[{index}]"
            found += [Problem(f"{path}.{field}" if field else path, message) for field, message in _object(item)]
    return found


def remote_problems(config: ConfigFile) -> list[Problem]:
    """Return what nobody may say over the network: what makes the broker read its machine's files or speak plain http.

    Whoever may both name a token file and the server it is sent to could read any file of the machine.
    """
    found = []
    for index, issuer in enumerate(config.issuers):
        path = f"issuers[{index}]"
        said = {"jwks_file": issuer.jwks_file, "ca_file": issuer.ca_file, "token_file": issuer.token_file}
        found += [Problem(f"{path}.{field}", LOCAL_ONLY) for field, value in said.items() if value is not None]
        if issuer.jwks_uri is not None and not issuer.jwks_uri.lower().startswith("https:"):
            found.append(Problem(f"{path}.jwks_uri", f"plain http is taken {LOCAL_ONLY}"))
    return found


def parse_rate(text: str) -> Fraction | None:
    """Return events per second of a rate such as `50/s`, `300/min` or `1000/h`; None when it is none."""
    match = _RATE.fullmatch(text)
    return Fraction(int(match[1]), _SECONDS[match[2]]) if match else None


def _object(item: ConfigObject) -> Found:
    if not isinstance(item, IssuerConfig) and not NAME.fullmatch(name_of(item)):
        yield "name", NAME_RULE
    match item:
        case ProviderConfig():
            yield from provider_config.validate(item)
        case ClientConfig():
            yield from _client(item)
        case GrantConfig():
            yield from _grant(item)
        case PolicyConfig():
            yield from _policy(item)
        case LimitConfig():
            yield from _limit(item)
        case IssuerConfig():
            yield from _issuer(item)
        case _:
            yield from _role(item)


def _client(client: ClientConfig) -> Found:
    if not 0 < len(client.client_id) <= 255 or not all(" " <= char <= "~" for char in client.client_id):  # noqa: PLR2004
        yield "client_id", "must be 1 to 255 printable ASCII characters (RFC 6749 appendix A.1)"
    if len(client.redirect_uris) > MAX_REDIRECT_URIS:
        yield "redirect_uris", f"at most {MAX_REDIRECT_URIS} are allowed"
    yield from _listed("redirect_uris", client.redirect_uris, empty=True)
    for index, uri in enumerate(client.redirect_uris):
        if wrong := redirect_uri_problem(uri):
            yield f"redirect_uris[{index}]", wrong


def _grant(grant: GrantConfig) -> Found:
    yield from _one_of("type", grant.type, GrantType)
    yield from _listed("scopes", grant.scopes)
    yield from _spelt("scopes", grant.scopes)


def _policy(policy: PolicyConfig) -> Found:
    yield from _listed("callers", policy.callers)
    for index, pattern in enumerate(policy.callers):
        for message in globs.caller_problems(pattern, any_subject=policy.any_subject):
            yield f"callers[{index}]", message
    yield from _listed("grants", policy.grants)
    for index, pattern in enumerate(policy.grants):
        for message in globs.problems(pattern):
            yield f"grants[{index}]", message
    if policy.authorize:
        for index, pattern in enumerate(policy.grants):
            if "*" in pattern:
                yield f"grants[{index}]", "authorize is for grants named in full, without patterns"
    yield from _listed("scopes", policy.scopes)
    yield from _spelt("scopes", policy.scopes)
    yield from _listed("accept_excess", policy.accept_excess, empty=True)
    yield from _spelt("accept_excess", policy.accept_excess)
    for index, scope in enumerate(policy.accept_excess):
        if scope in scopes.NEVER_EXCESS:
            yield f"accept_excess[{index}]", f"{scope} is never accepted unasked"


def _limit(limit: LimitConfig) -> Found:
    yield from _one_of("applies_to", limit.applies_to, LimitTarget)
    yield from _listed("key", limit.key)
    known = limit.applies_to in set(LimitTarget)
    allowed = LIMIT_KEYS[LimitTarget(limit.applies_to)] if known else frozenset[str]().union(*LIMIT_KEYS.values())
    for index, part in enumerate(limit.key):
        if part not in allowed:
            where = f" where {limit.applies_to} is limited" if known else ""
            yield f"key[{index}]", f"must be one of {_words(allowed)}{where}"
    if not 1 <= len(limit.windows) <= MAX_WINDOWS:
        yield "windows", f"1 to {MAX_WINDOWS} are needed, or `rate` and `burst`"
    for index, window in enumerate(limit.windows):
        for field, message in _window(window):
            yield f"windows[{index}].{field}", message


def _window(window: WindowConfig) -> Found:
    if parse_rate(window.rate) is None:
        yield "rate", "must be a whole number above 0 and its unit, such as 10/s, 300/min or 1000/h"
    if not 1 <= window.burst <= MAX_BURST:
        yield "burst", f"must be 1 to {MAX_BURST}"


def _issuer(issuer: IssuerConfig) -> Found:
    if not ISSUER_NAME.fullmatch(issuer.name):
        yield "name", "an issuer's name is a lower-case letter, then 1 to 30 of lower-case letters, digits and `-`"
    if issuer.name in RESERVED_KINDS:
        yield "name", f"{issuer.name} is the broker's own word for a kind of caller"
    texts = {"issuer": issuer.issuer, "audience": issuer.audience}
    texts |= {f"extra_audiences[{index}]": audience for index, audience in enumerate(issuer.extra_audiences)}
    for field, text in texts.items():
        if not _is_text(text):
            yield field, "must be 1 to 512 printable ASCII characters without spaces"
    yield from _listed("extra_audiences", issuer.extra_audiences, empty=True)
    yield from _keys_of_issuer(issuer)
    yield from _listed("algorithms", issuer.algorithms)
    for index, algorithm in enumerate(issuer.algorithms):
        if algorithm not in SIGNATURE_ALGORITHMS:
            yield f"algorithms[{index}]", f"must be one of {_words(SIGNATURE_ALGORITHMS)}"


def _keys_of_issuer(issuer: IssuerConfig) -> Found:
    if (issuer.jwks_uri is None) == (issuer.jwks_file is None):
        yield "jwks_uri", "exactly one of jwks_uri and jwks_file is required"
    if issuer.jwks_uri is not None and provider_config.url_problem(issuer.jwks_uri, insecure_loopback=True):
        yield "jwks_uri", "must be an https URL without user name and fragment; http only to loopback"
    for field in ("jwks_file", "ca_file", "token_file"):
        path = getattr(issuer, field)
        if path is not None and not path.startswith("/"):
            yield field, "must be an absolute path on the broker's machine"
        if path is not None and field != "jwks_file" and issuer.jwks_uri is None:
            yield field, "serves only to fetch jwks_uri"


def _role(binding: RoleConfig) -> Found:
    yield from _one_of("role", binding.role, Role)
    yield from _listed("callers", binding.callers)
    role = Role(binding.role) if binding.role in set(Role) else Role.AUDITOR  # no role asks for less
    for index, pattern in enumerate(binding.callers):
        for message in globs.role_problems(pattern, role):
            yield f"callers[{index}]", message


# --- words and lists -------------------------------------------------------------------------------------------------


def _one_of(field: str, text: str, words: type[StrEnum]) -> Found:
    if text not in set(words):
        yield field, f"must be one of {_words(words)}"


def _listed(field: str, values: tuple[str, ...], *, empty: bool = False) -> Found:
    if not values and not empty:
        yield field, "at least one is required"
    if len(values) > MAX_ITEMS:
        yield field, f"at most {MAX_ITEMS} are allowed"
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield f"{field}[{index}]", "stands there twice"
        seen.add(value)


def _spelt(field: str, values: tuple[str, ...]) -> Found:
    for index, value in enumerate(values):
        if "*" in value:
            yield f"{field}[{index}]", "scopes are named in full, without patterns"
        elif wrong := scopes.word_problem(value):
            yield f"{field}[{index}]", wrong


def _words(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _is_text(text: str) -> bool:
    return 0 < len(text) <= 512 and all(" " < char <= "~" for char in text)  # noqa: PLR2004 - said in the message
