"""Scopes: the words of a request, their way to the wire, and the verdict on what came back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import scopes
from broker.core.errors import InvalidRequestError, ScopeExceededError, ScopeNotGrantedError, ScopeNotSupportedError
from broker.core.models import AbsentScope, GrantType, Narrowing
from tests.core.values import READ_WIRE, TRADE_WIRE, provider

WORDS = st.frozensets(st.sampled_from(["read", "trade", "withdraw", "a", "b", "openid"]))
ASKED = WORDS.filter(bool)


def words(text: str) -> frozenset[str]:
    """Return the scopes named in `text`."""
    return frozenset(text.split())


# --- what a caller asks for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (["trade", "read", "trade"], ("read", "trade")),
        (["account:information"], ("account:information",)),
        (["x" * 128], ("x" * 128,)),
        ([f"s{number:02}" for number in range(32)], tuple(f"s{number:02}" for number in range(32))),
    ],
)
def test_requested_scopes_are_sorted_and_folded(requested: list[str], expected: tuple[str, ...]) -> None:
    """Duplicates fold and order is ignored."""
    assert expected == scopes.parse_requested(requested)


@pytest.mark.parametrize(
    ("requested", "problem"),
    [
        ([], "name at least one scope"),
        ([f"s{number}" for number in range(33)], "name at most 32 scopes"),
        (["read"] * 1000, "name at most 32 scopes"),
        ([""], "a scope must not be empty"),
        (["x" * 129], "a scope has at most 128 characters"),
        (["read trade"], "a scope holds no whitespace; name several scopes as several values"),
        (["read\n"], "a scope holds no whitespace; name several scopes as several values"),
        (["read\u00a0"], "a scope holds no whitespace; name several scopes as several values"),
        (["Read"], "scopes are lower case"),
        (["réad"], "a scope holds printable ASCII without quotes and backslashes (RFC 6749 section 3.3)"),
        (['re"ad'], "a scope holds printable ASCII without quotes and backslashes (RFC 6749 section 3.3)"),
        (["re\\ad"], "a scope holds printable ASCII without quotes and backslashes (RFC 6749 section 3.3)"),
        (["read\x7f"], "a scope holds printable ASCII without quotes and backslashes (RFC 6749 section 3.3)"),
        (["read", "TRADE"], "scopes are lower case"),
    ],
)
def test_malformed_scopes_are_refused(requested: list[str], problem: str) -> None:
    """What is no list of 1 to 32 lower-case scope-tokens is INVALID_REQUEST, told at the field `scopes`."""
    with pytest.raises(InvalidRequestError) as caught:
        scopes.parse_requested(requested)
    assert {"scopes": problem} == caught.value.fields


@pytest.mark.parametrize("requested", [["read"], ["admin"], ["order:execution"], ["extra"], ["read", "extra"]])
def test_known_scopes_pass(requested: list[str]) -> None:
    """Product scopes are always known, wire scopes when any provider has them."""
    scopes.check_known(requested, [provider(), provider({}, wire_scopes=["extra"])])


@pytest.mark.parametrize("requested", [["raed"], ["read", "nonsense"], ["openid"]])
def test_a_scope_no_provider_has_is_refused_before_policy(requested: list[str]) -> None:
    """A misspelling is INVALID_REQUEST, and the answer does not repeat it."""
    with pytest.raises(InvalidRequestError) as caught:
        scopes.check_known(requested, [provider()])
    assert ["scopes"] == list(caught.value.fields)
    assert requested[-1] not in caught.value.public


# --- product scopes and wire scopes ----------------------------------------------------------------------------------


def test_the_wire_scopes_a_caller_may_name() -> None:
    """The mapped ones and the further ones, but no further one that bears a product scope's name."""
    made = provider({"trade": ["trade", "t"], "admin": []}, wire_scopes=["extra", "admin"])
    assert words("trade t extra") == scopes.known_wire(made)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (["read"], READ_WIRE),
        (["read", "trade"], READ_WIRE | TRADE_WIRE),
        (["account:information"], {"account:information"}),
        (["read", "account:information"], READ_WIRE),
        (["extra"], {"extra"}),
    ],
)
def test_resolve(requested: list[str], expected: frozenset[str]) -> None:
    """Product scopes stand for their wire scopes, wire scopes of the configuration for themselves."""
    assert expected == scopes.resolve(requested, provider(wire_scopes=["extra"]))


def test_product_names_resolve_first() -> None:
    """A word that is a product scope and a wire scope is the product scope."""
    both = provider({"trade": ["trade", "order:execution"]})
    assert frozenset({"trade", "order:execution"}) == scopes.resolve(["trade"], both)


@pytest.mark.parametrize(
    ("requested", "scope"),
    [
        (["withdraw"], "withdraw"),
        (["read", "withdraw"], "withdraw"),
        (["admin"], "admin"),
        (["elsewhere"], "elsewhere"),
        (["read", "elsewhere"], "elsewhere"),
    ],
)
def test_what_the_provider_does_not_map_is_refused_also_in_company(requested: list[str], scope: str) -> None:
    """An empty map or a word of another provider is SCOPE_NOT_SUPPORTED: nothing is narrowed silently."""
    with pytest.raises(ScopeNotSupportedError) as caught:
        scopes.resolve(requested, provider())
    assert {"scope": scope} == caught.value.metadata


def test_a_wire_scope_named_like_an_unmapped_product_scope_stays_unsupported() -> None:
    """`withdraw` among the wire scopes does not make the product scope `withdraw` available."""
    with pytest.raises(ScopeNotSupportedError):
        scopes.resolve(["withdraw"], provider({"withdraw": []}, wire_scopes=["withdraw"]))


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        (["read"], READ_WIRE),
        (["withdraw"], frozenset()),
        (["order:execution", "read"], READ_WIRE | TRADE_WIRE),
        (["elsewhere"], frozenset()),
    ],
)
def test_expand(configured: list[str], expected: frozenset[str]) -> None:
    """Configured scopes stand for wire scopes; what this provider does not map stands for none."""
    assert expected == scopes.expand(configured, provider())


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (READ_WIRE, {"read"}),
        (READ_WIRE | TRADE_WIRE, {"read", "trade"}),
        (frozenset({"account:information"}), set()),
        (frozenset(), set()),
    ],
)
def test_a_product_scope_is_granted_only_whole(wire: frozenset[str], expected: set[str]) -> None:
    """A product scope counts as granted only if all its wire scopes are, and one mapped to nothing never."""
    assert expected == scopes.products_granted(wire, provider())


@pytest.mark.parametrize(
    ("mapped", "accept_excess", "expected"),
    [
        ({"trade": ["order:execution"]}, ["trade"], {"order:execution"}),
        ({"trade": ["order:execution"]}, [], set()),
        ({"withdraw": ["cash:out"], "trade": ["t"]}, ["withdraw", "admin", "trade"], {"t"}),
        ({"withdraw": ["cash:out"], "trade": ["t"]}, ["cash:out"], set()),
        ({"withdraw": ["cash:out"], "trade": ["t", "cash:out"]}, ["trade"], {"t"}),
        ({"withdraw": ["withdraw"]}, ["withdraw"], set()),
        ({"trade": ["t", "withdraw"]}, ["trade"], {"t"}),
    ],
)
def test_withdraw_and_admin_are_never_accepted_unasked(
    mapped: dict[str, list[str]], accept_excess: list[str], expected: set[str]
) -> None:
    """No policy lets in withdraw, admin or a wire scope of theirs, under whatever name it lists them."""
    assert expected == scopes.accepted_excess(accept_excess, provider(mapped))


@pytest.mark.parametrize(
    ("mapped", "wire", "expected"),
    [
        ({"read": ["read", "r"], "withdraw": []}, ["x"], []),
        ({"trade": ["trade"]}, ["trade"], []),
        ({"reed": []}, [], [("scopes.reed", "'reed' is no product scope")]),
        (
            {"read": ["r", "trade"]},
            [],
            [
                (
                    "scopes.read[1]",
                    "wire scope 'trade' bears the name of a product scope and may only be that one's own, not 'read''s",
                )
            ],
        ),
        (
            {},
            ["x", "admin"],
            [("wire_scopes[1]", "wire scope 'admin' bears the name of a product scope: map it in `scopes`")],
        ),
        (
            {"read": ["Read"]},
            ["a b"],
            [
                ("scopes.read[0]", "wire scope 'Read': scopes are lower case"),
                (
                    "wire_scopes[0]",
                    "wire scope 'a b': a scope holds no whitespace; name several scopes as several values",
                ),
            ],
        ),
    ],
)
def test_map_problems(mapped: dict[str, list[str]], wire: list[str], expected: list[tuple[str, str]]) -> None:
    """A map whose words could be taken for another product scope is refused."""
    assert expected == list(scopes.map_problems(mapped, wire))


# --- what goes out ---------------------------------------------------------------------------------------------------

GRANT = words("read trade")


@pytest.mark.parametrize(
    ("grant_type", "narrows", "asked", "expected"),
    [
        (GrantType.CLIENT_CREDENTIALS, False, words("read"), words("read")),
        (GrantType.CLIENT_CREDENTIALS, False, GRANT, GRANT),
        (GrantType.REFRESH_TOKEN, True, words("read"), words("read")),
        (GrantType.REFRESH_TOKEN, True, GRANT, GRANT),
        (GrantType.REFRESH_TOKEN, False, GRANT, None),
    ],
)
def test_wire_to_send(
    grant_type: GrantType, narrows: bool, asked: frozenset[str], expected: frozenset[str] | None
) -> None:
    """`scope` always goes with client_credentials, with a refresh only where narrowing is proved."""
    assert expected == scopes.wire_to_send(grant_type, GRANT, asked, narrows=narrows)


def test_a_grant_that_cannot_be_narrowed_serves_its_own_set_alone() -> None:
    """Another set needs a grant with a consent of its own, and the error says so."""
    with pytest.raises(ScopeNotGrantedError, match="a consent of its own"):
        scopes.wire_to_send(GrantType.REFRESH_TOKEN, GRANT, words("read"), narrows=False)


@pytest.mark.parametrize("grant_type", GrantType)
def test_no_token_is_asked_for_beyond_the_grant(grant_type: GrantType) -> None:
    """What the grant does not have is SCOPE_NOT_GRANTED, naming what is missing."""
    with pytest.raises(ScopeNotGrantedError, match="another grant") as caught:
        scopes.wire_to_send(grant_type, GRANT, words("read withdraw cash"), narrows=True)
    assert {"missing": "cash withdraw"} == caught.value.metadata


def test_asking_for_nothing_is_our_own_bug() -> None:
    """An empty set would mean the whole grant on the wire, so it never gets there."""
    with pytest.raises(ValueError, match="at least one"):
        scopes.wire_to_send(GrantType.CLIENT_CREDENTIALS, GRANT, frozenset(), narrows=True)


@given(st.sampled_from(GrantType), st.booleans(), ASKED, WORDS)
def test_nothing_that_narrows_leaves_without_scope(
    grant_type: GrantType, narrows: bool, asked: frozenset[str], grant: frozenset[str]
) -> None:
    """Either exactly the asked scopes are sent, or none and the whole grant was asked for."""
    try:
        sent = scopes.wire_to_send(grant_type, grant, asked, narrows=narrows)
    except ScopeNotGrantedError:
        return
    assert asked <= grant
    assert asked == (grant if sent is None else sent)


# --- what came back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "stated", "claimed", "expected"),
    [
        ("read trade", "read trade", None, (Narrowing.EXACT, "", "")),
        ("read", "read", None, (Narrowing.NARROWED, "", "")),
        ("read", "read", "read", (Narrowing.NARROWED, "", "")),
        ("read", None, "read", (Narrowing.NARROWED, "", "")),
        ("read", "read trade", None, (Narrowing.WIDER, "trade", "")),
        ("read", "read", "read trade", (Narrowing.WIDER, "trade", "")),
        ("read", "read trade", "read", (Narrowing.WIDER, "trade", "")),
        ("read", "read openid", None, (Narrowing.WIDER, "openid", "")),
        ("read trade", "read", None, (Narrowing.NARROWED, "", "trade")),
        ("read trade", None, "read", (Narrowing.NARROWED, "", "trade")),
        ("read trade", "read", "read trade", (Narrowing.EXACT, "", "trade")),
        ("read trade", "read trade", "read", (Narrowing.EXACT, "", "")),
        ("read", "", None, (Narrowing.NARROWED, "", "read")),
        ("read", "trade", None, (Narrowing.WIDER, "trade", "read")),
        ("read cash", "read cash", None, (Narrowing.UNVERIFIED, "", "")),
    ],
)
def test_judge(asked: str, stated: str | None, claimed: str | None, expected: tuple[Narrowing, str, str]) -> None:
    """Granted is the union of reply and claim; a claim shows an excess and never fills a gap in the reply."""
    verdict = scopes.judge(
        words(asked),
        None if stated is None else words(stated),
        None if claimed is None else words(claimed),
        GRANT,
        AbsentScope.AS_ASKED,
        proved=True,
    )
    assert expected == (verdict.label, " ".join(verdict.excess), " ".join(verdict.missing))
    assert verdict.verified


@pytest.mark.parametrize(
    ("stated", "claimed", "expected"),
    [
        ("read trade openid offline_access", None, (Narrowing.EXACT, "read trade", "")),
        ("read trade", "read openid", (Narrowing.EXACT, "read trade", "")),
        (None, "read trade openid", (Narrowing.EXACT, "read trade", "")),
        ("read trade openid cash", None, (Narrowing.WIDER, "read trade cash", "cash")),
        ("openid", None, (Narrowing.NARROWED, "", "")),
    ],
)
def test_what_a_login_asked_for_beside_counts_for_nothing(
    stated: str | None, claimed: str | None, expected: tuple[Narrowing, str, str]
) -> None:
    """It is no excess and makes up for nothing, whoever states it; anything else is an excess as ever."""
    verdict = scopes.judge(
        GRANT,
        None if stated is None else words(stated),
        None if claimed is None else words(claimed),
        GRANT,
        AbsentScope.REFUSE,
        proved=True,
        beside=words("openid offline_access"),
    )
    label, granted, excess = expected
    assert (label, words(granted), words(excess)) == (verdict.label, verdict.granted, verdict.excess)


@pytest.mark.parametrize(
    ("grant_type", "login_scopes", "expected"),
    [
        (GrantType.REFRESH_TOKEN, ("openid", "offline_access"), "openid offline_access"),
        (GrantType.CLIENT_CREDENTIALS, ("openid",), ""),
        (GrantType.REFRESH_TOKEN, ("order:execution", "openid"), "openid"),
        (GrantType.REFRESH_TOKEN, ("market:information", "openid"), "openid"),
        (GrantType.REFRESH_TOKEN, ("admin", "openid"), "openid"),
    ],
)
def test_what_a_login_asks_for_beside(grant_type: GrantType, login_scopes: tuple[str, ...], expected: str) -> None:
    """Only where people log in, and never what a policy decides on, whatever is stored of the provider."""
    there = replace(provider(wire_scopes=["market:information"]), login_scopes=login_scopes)
    assert words(expected) == scopes.asked_beside(grant_type, there)


def test_a_subset_that_nobody_proved_is_unverified() -> None:
    """NARROWED is said only where the provider is known to narrow."""
    verdict = scopes.judge(words("read"), words("read"), None, GRANT, AbsentScope.REFUSE, proved=False)
    assert Narrowing.UNVERIFIED == verdict.label


@pytest.mark.parametrize(("absent", "granted"), [(AbsentScope.REFUSE, ""), (AbsentScope.AS_ASKED, "read")])
def test_a_reply_that_states_nothing_is_unverified(absent: AbsentScope, granted: str) -> None:
    """When both statements are absent the provider's setting says what that means, and it is labelled so."""
    verdict = scopes.judge(words("read"), None, None, GRANT, absent, proved=True)
    assert (words(granted), Narrowing.UNVERIFIED, False) == (verdict.granted, verdict.label, verdict.verified)


@pytest.mark.parametrize(
    ("stated", "claimed", "expected"),
    [("read", None, True), ("read trade", "read", True), ("", None, False), ("read", "read trade", False)],
)
def test_a_token_of_unclear_scope_is_not_cached(stated: str, claimed: str | None, expected: bool) -> None:
    """A token is kept under what it has, so it is not kept where that is unclear."""
    claim = None if claimed is None else words(claimed)
    verdict = scopes.judge(GRANT, words(stated), claim, GRANT, AbsentScope.REFUSE, proved=True)
    assert expected == verdict.cacheable


def test_a_wider_token_is_withheld() -> None:
    """More than asked and accepted is SCOPE_EXCEEDED, naming only scopes of the configuration."""
    verdict = scopes.judge(words("read"), words("read trade abk_leak"), None, GRANT, AbsentScope.REFUSE, proved=True)
    with pytest.raises(ScopeExceededError) as caught:
        scopes.accept(verdict, frozenset(), GRANT)
    assert {"excess": "trade"} == caught.value.metadata


def test_a_word_of_the_providers_reply_is_never_repeated() -> None:
    """An excess that is no configured scope could be anything, a token even, and is not told."""
    verdict = scopes.judge(words("read"), words("read abk_leak"), None, GRANT, AbsentScope.REFUSE, proved=True)
    with pytest.raises(ScopeExceededError) as caught:
        scopes.accept(verdict, GRANT, GRANT)
    assert ({}, False) == (caught.value.metadata, "abk_leak" in str(caught.value) + caught.value.cause)


def test_an_excess_the_policy_lists_is_accepted() -> None:
    """The token is handed out, labelled WIDER."""
    verdict = scopes.judge(words("read"), words("read trade"), None, GRANT, AbsentScope.REFUSE, proved=True)
    scopes.accept(verdict, words("trade"), GRANT)
    assert (Narrowing.WIDER, words("trade")) == (verdict.label, verdict.excess)


@pytest.mark.parametrize(("stated", "cause"), [("read", "narrower than asked"), (None, "scope absent")])
def test_a_narrower_token_is_not_handed_out_for_what_was_asked(stated: str | None, cause: str) -> None:
    """Less than asked, or nothing said, is SCOPE_NOT_GRANTED, naming what is missing."""
    verdict = scopes.judge(
        GRANT, None if stated is None else words(stated), None, GRANT, AbsentScope.REFUSE, proved=True
    )
    with pytest.raises(ScopeNotGrantedError) as caught:
        scopes.accept(verdict, frozenset(), GRANT)
    assert (cause, " ".join(sorted(verdict.missing))) == (caught.value.cause, caught.value.metadata["missing"])


OPTIONAL = st.none() | WORDS


@given(ASKED, OPTIONAL, OPTIONAL, WORDS, st.sampled_from(AbsentScope), st.booleans(), WORDS)
def test_never_wider_than_asked_and_accepted(
    asked: frozenset[str],
    stated: frozenset[str] | None,
    claimed: frozenset[str] | None,
    grant: frozenset[str],
    absent: AbsentScope,
    proved: bool,
    accepted: frozenset[str],
) -> None:
    """Whatever is stated, an accepted token carries what was asked and at most what was accepted beyond."""
    verdict = scopes.judge(asked, stated, claimed, grant, absent, proved=proved)
    try:
        scopes.accept(verdict, accepted, grant)
    except (ScopeExceededError, ScopeNotGrantedError):
        return
    everything_said = (stated or frozenset()) | (claimed or frozenset())
    assert everything_said <= asked | accepted
    assert asked <= verdict.granted <= asked | accepted


@given(ASKED, OPTIONAL, WORDS, st.sampled_from(AbsentScope), st.booleans(), WORDS)
def test_a_claim_beside_a_reply_only_makes_stricter(
    asked: frozenset[str],
    stated: frozenset[str] | None,
    claimed: frozenset[str],
    absent: AbsentScope,
    proved: bool,
    accepted: frozenset[str],
) -> None:
    """What is refused by the reply alone is refused with any claim beside it."""
    if stated is None:
        return
    try:
        scopes.accept(scopes.judge(asked, stated, claimed, GRANT, absent, proved=proved), accepted, GRANT)
    except (ScopeExceededError, ScopeNotGrantedError):
        return
    scopes.accept(scopes.judge(asked, stated, None, GRANT, absent, proved=proved), accepted, GRANT)


@given(ASKED, OPTIONAL, OPTIONAL, WORDS, st.sampled_from(AbsentScope), st.booleans())
def test_labels(
    asked: frozenset[str],
    stated: frozenset[str] | None,
    claimed: frozenset[str] | None,
    grant: frozenset[str],
    absent: AbsentScope,
    proved: bool,
) -> None:
    """WIDER means an excess, EXACT the grant's whole set, NARROWED a proved proper subset, UNVERIFIED all else."""
    verdict = scopes.judge(asked, stated, claimed, grant, absent, proved=proved)
    expected = Narrowing.UNVERIFIED
    if verdict.verified and verdict.granted - asked:
        expected = Narrowing.WIDER
    elif verdict.verified and verdict.granted == grant:
        expected = Narrowing.EXACT
    elif verdict.verified and verdict.granted < grant and proved:
        expected = Narrowing.NARROWED
    assert expected == verdict.label
