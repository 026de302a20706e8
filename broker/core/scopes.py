"""Scopes: what a caller may ask for, what goes on the wire, and whether what came back is what was asked.

A request names *product scopes* (`read trade withdraw admin`) or *wire scopes*, the provider's own words that stand in
its configuration. Product names resolve first, so a word that is both is the product's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from broker.core.errors import InvalidRequestError, ScopeExceededError, ScopeNotGrantedError, ScopeNotSupportedError
from broker.core.models import AbsentScope, GrantType, Narrowing, Provider

PRODUCT_SCOPES: Final = frozenset({"read", "trade", "withdraw", "admin"})
NEVER_EXCESS: Final = frozenset({"withdraw", "admin"})
"""Product scopes, and with them their wire scopes, that no policy may accept unasked."""

MAX_SCOPES: Final = 32
MAX_SCOPE: Final = 128
"""Longest scope, in characters."""

_FIELD: Final = "scopes"
_UPPER: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


# --- what a caller asks for ------------------------------------------------------------------------------------------


def parse_requested(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes of a request, sorted, duplicates folded.

    Raises:
        InvalidRequestError: none, more than 32, or one that is no lower-case scope-token (RFC 6749 §3.3) of at most
            128 characters; the field is `scopes`.
    """
    if not scopes:
        _refuse("name at least one scope")
    if len(scopes) > MAX_SCOPES:
        _refuse(f"name at most {MAX_SCOPES} scopes")
    if wrong := next(filter(None, map(word_problem, scopes)), None):
        _refuse(wrong)
    return tuple(sorted(set(scopes)))


def word_problem(scope: str) -> str | None:
    """Return what is wrong with a scope's spelling, or None; the answer never repeats the scope."""
    if not scope:
        return "a scope must not be empty"
    if len(scope) > MAX_SCOPE:
        return f"a scope has at most {MAX_SCOPE} characters"
    if any(char.isspace() for char in scope):
        return "a scope holds no whitespace; name several scopes as several values"
    if not _UPPER.isdisjoint(scope):
        return "scopes are lower case"
    if not is_scope_token(scope):
        return "a scope holds printable ASCII without quotes and backslashes (RFC 6749 section 3.3)"
    return None


def is_scope_token(text: str) -> bool:
    """Tell whether `text` is a scope-token of RFC 6749 §3.3: printable ASCII without space, quote and backslash."""
    return bool(text) and all("!" <= char <= "~" and char not in '"\\' for char in text)


def check_known(requested: Iterable[str], providers: Iterable[Provider]) -> None:
    """Refuse a scope that no provider has a word for; a misspelling is told before policy is asked.

    Raises:
        InvalidRequestError: with field `scopes`.
    """
    known = PRODUCT_SCOPES.union(*map(known_wire, providers))
    if any(scope not in known for scope in requested):
        _refuse("a scope is unknown to every provider; product scopes are read, trade, withdraw, admin")


def _refuse(problem: str) -> NoReturn:
    raise InvalidRequestError(problem, fields={_FIELD: problem})


# --- product scopes and wire scopes ----------------------------------------------------------------------------------


def known_wire(provider: Provider) -> frozenset[str]:
    """Return the wire scopes that stand in the provider's configuration and that a caller may name."""
    mapped = frozenset(wire for wires in provider.scopes.values() for wire in wires)
    return mapped | (provider.wire_scopes - PRODUCT_SCOPES)


def resolve(requested: Iterable[str], provider: Provider) -> frozenset[str]:
    """Return the wire scopes of a request.

    Raises:
        ScopeNotSupportedError: one of them is a product scope the provider maps to nothing, or a word it does not
            have; in company as well as alone, since handing out the rest would be a silent narrowing.
    """
    known = known_wire(provider)
    wire: set[str] = set()
    for scope in sorted(requested):
        words = provider.scopes.get(scope, ()) if scope in PRODUCT_SCOPES else (scope,)
        if not words or not known.issuperset(words):
            public = "the grant's provider does not support a scope asked for"
            raise ScopeNotSupportedError(public, metadata={"scope": scope})
        wire.update(words)
    return frozenset(wire)


def expand(scopes: Iterable[str], provider: Provider) -> frozenset[str]:
    """Return the wire scopes that configured scopes (of a grant or a policy) stand for; unsupported ones for none."""
    known = known_wire(provider)
    wire: set[str] = set()
    for scope in scopes:
        words = provider.scopes.get(scope, ()) if scope in PRODUCT_SCOPES else (scope,)
        wire.update(known.intersection(words))
    return frozenset(wire)


def products_granted(wire: frozenset[str], provider: Provider) -> frozenset[str]:
    """Return the product scopes all of whose wire scopes are in `wire`; one mapped to nothing is never granted."""
    return frozenset(
        product for product in PRODUCT_SCOPES if (words := provider.scopes.get(product, ())) and wire.issuperset(words)
    )


def accepted_excess(accept_excess: Iterable[str], provider: Provider) -> frozenset[str]:
    """Return the wire scopes a policy accepts beyond those asked; never withdraw, admin or a wire scope of theirs."""
    return expand(accept_excess, provider) - NEVER_EXCESS - expand(NEVER_EXCESS, provider)


def asked_beside(grant_type: GrantType, provider: Provider) -> frozenset[str]:
    """Return the wire scopes that tokens of a grant carry because its login asked for them, and that count for nothing.

    Whatever a caller may ask for by name is not among them, so that what a policy decides on is never left out.
    """
    if grant_type is not GrantType.REFRESH_TOKEN:
        return frozenset()
    return frozenset(provider.login_scopes) - PRODUCT_SCOPES - known_wire(provider)


def map_problems(scopes: Mapping[str, Sequence[str]], wire_scopes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return what is wrong with a provider's map of product scopes and its further wire scopes: field and words."""
    mapped = {product: frozenset(words) for product, words in scopes.items()}
    for product, words in sorted(scopes.items()):
        if product not in PRODUCT_SCOPES:
            yield f"scopes.{product}", f"{product!r} is no product scope"
        for index, word in enumerate(words):
            field = f"scopes.{product}[{index}]"
            if wrong := word_problem(word):
                yield field, f"wire scope {word!r}: {wrong}"
            elif word in PRODUCT_SCOPES and word != product:
                own = f"may only be that one's own, not {product!r}'s"
                yield field, f"wire scope {word!r} bears the name of a product scope and {own}"
    for index, word in enumerate(wire_scopes):
        field = f"wire_scopes[{index}]"
        if wrong := word_problem(word):
            yield field, f"wire scope {word!r}: {wrong}"
        elif word in PRODUCT_SCOPES and word not in mapped.get(word, ()):
            yield field, f"wire scope {word!r} bears the name of a product scope: map it in `scopes`"


# --- what goes out ---------------------------------------------------------------------------------------------------


def wire_to_send(
    grant_type: GrantType, grant_wire: frozenset[str], asked_wire: frozenset[str], *, narrows: bool
) -> frozenset[str] | None:
    """Return the `scope` parameter to send, or None to send none (RFC 6749 §4.4.2, §6).

    An omitted `scope` means "the default" or "the whole grant", so nothing that narrows leaves without one. A refresh
    is sent a `scope` only where the provider is proved to keep the refresh token whole; elsewhere the grant serves
    exactly its own set, for which nothing has to be sent.

    Raises:
        ScopeNotGrantedError: the grant cannot serve this set; another grant, with a consent of its own, is needed.
        ValueError: nothing is asked for; a caller of ours passed nonsense.
    """
    if not asked_wire:
        msg = "a token is asked for with at least one wire scope"
        raise ValueError(msg)
    if missing := asked_wire - grant_wire:
        public = "the grant does not have a scope asked for: another grant, with a consent of its own, is needed"
        raise ScopeNotGrantedError(public, cause="outside the grant", metadata={"missing": _words(missing)})
    if grant_type is GrantType.CLIENT_CREDENTIALS or narrows:
        return asked_wire
    if asked_wire != grant_wire:
        public = (
            "this grant's tokens cannot be narrowed, it serves its own set of scopes as a whole: "
            "another grant, with a consent of its own, is needed for fewer"
        )
        raise ScopeNotGrantedError(public, cause="narrowing is not proved")
    return None


# --- what came back --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a token carries, held against what was asked; wire scopes throughout.

    Attributes:
        granted: what the token may carry: all that the reply and the token's claim state.
        label: how that compares with the grant's set.
        excess: granted and not asked. Words of the provider's reply, so not yet fit to be shown.
        missing: asked and not stated as granted.
        verified: the provider stated the scopes, in the reply or in the token's claim.
    """

    granted: frozenset[str]
    label: Narrowing
    excess: frozenset[str]
    missing: frozenset[str]
    verified: bool

    @property
    def cacheable(self) -> bool:
        """Whether it is clear what the token has; not when its claim states what the reply leaves out."""
        return bool(self.granted) and self.missing.isdisjoint(self.granted)


def judge(  # noqa: PLR0913 - every statement a verdict depends on
    asked: frozenset[str],
    stated: frozenset[str] | None,
    claimed: frozenset[str] | None,
    grant_set: frozenset[str],
    absent: AbsentScope,
    *,
    proved: bool,
    beside: frozenset[str] = frozenset(),
) -> Verdict:
    """Hold what was granted against what was asked.

    The union of both statements counts as granted, whoever states it: an unverified claim can show an excess, and it
    cannot make up for what the reply leaves out. `openid` and the like are scopes as any other, unless `beside`.

    Args:
        asked: wire scopes the token was asked for.
        stated: the reply's `scope`, None when the reply has none.
        claimed: the access token's scope claim, unverified; None when it has none.
        grant_set: the grant's own wire scopes.
        absent: what it means when nothing is stated.
        proved: the provider is known to narrow when told to.
        beside: what `asked_beside` says: neither granted nor an excess.
    """
    if stated is None and claimed is None:
        granted = asked if absent is AbsentScope.AS_ASKED else frozenset()
        return Verdict(granted, Narrowing.UNVERIFIED, frozenset(), asked - granted, verified=False)
    granted = ((stated or frozenset()) | (claimed or frozenset())) - beside
    excess = granted - asked
    if excess:
        label = Narrowing.WIDER
    elif granted == grant_set:
        label = Narrowing.EXACT
    elif granted < grant_set and proved:
        label = Narrowing.NARROWED
    else:
        label = Narrowing.UNVERIFIED
    missing = asked - (granted if stated is None else stated)
    return Verdict(granted, label, excess, missing, verified=True)


def accept(verdict: Verdict, accepted: frozenset[str], known: frozenset[str]) -> None:
    """Return when the token may be handed out, raise when not.

    Args:
        verdict: what `judge` found.
        accepted: wire scopes the policy accepts beyond those asked, from `accepted_excess`.
        known: the provider's configured wire scopes; a word of a reply that is none of them is never repeated.

    Raises:
        ScopeExceededError: the token carries more than was asked for and accepted.
        ScopeNotGrantedError: it carries less, or nobody can tell.
    """
    if refused := verdict.excess - accepted:
        metadata = {"excess": _words(refused & known)} if refused & known else {}
        public = "the provider granted more than was asked for; the token was withheld"
        raise ScopeExceededError(public, cause="wider than asked", metadata=metadata)
    if verdict.missing:
        metadata = {"missing": _words(verdict.missing)}
        if not verdict.verified:
            public = "the provider did not say which scopes it granted, and its silence does not count as a yes"
            raise ScopeNotGrantedError(public, cause="scope absent", metadata=metadata)
        public = "the provider granted fewer scopes than were asked for"
        raise ScopeNotGrantedError(public, cause="narrower than asked", metadata=metadata)


def _words(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))
