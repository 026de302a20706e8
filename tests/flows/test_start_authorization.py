"""Who may have a person log in for what, and where the result goes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker.core.audit import Action
from broker.core.authorization import LIFE_MS, MOST_OPEN, SHORT_CODE_LETTERS, Way
from broker.core.errors import BrokerError, Reason
from broker.core.grant_state import Hold
from broker.core.identity import CallerId, Role
from broker.core.models import Limit, LimitTarget, Origin, Policy, Window
from broker.core.oauth.rfc7636 import challenge_of
from broker.core.urls import origin_of
from broker.flows.start_authorization import AppRedirect
from tests.flows.logins import APP, APP_URI, LOGIN_CLIENT, LOGIN_PROVIDER, OPS, PUBLIC, Logins, new_logins
from tests.flows.world import ALL


async def refused(logins: Logins, **fields: Any) -> BrokerError:  # noqa: ANN401 - of a request
    """Return the error that a start is answered with."""
    with pytest.raises(BrokerError) as refusal:
        await logins.started(**fields)
    assert [] == [event for event in logins.events() if event.action is Action.LOGIN_START]
    return refusal.value


async def test_a_login_is_opened_with_what_only_its_starter_gets() -> None:
    """A link, a short code in letters that cannot be mistaken, ten minutes; the store holds none of it readable."""
    logins = await new_logins()
    login = await logins.started()
    row = await logins.row(login)
    assert login.url is not None
    assert login.short_code is not None
    flow_id, code = login.flow_id.reveal(), login.short_code.reveal()
    assert (f"{PUBLIC}/connect/{flow_id}", LIFE_MS / 1000, None) == (login.url.reveal(), login.expires_in, login.direct)
    assert (8, True, 43) == (len(code), set(code) <= set(SHORT_CODE_LETTERS), len(flow_id))
    facts = row.facts
    assert ("key:ops", "login", Way.PAGE, ALL) == (facts.starter, facts.grant, facts.way, facts.scopes)
    assert f"{PUBLIC}/callback/aries" == facts.redirect_uri
    stored = repr(row)
    assert (False, False) == (flow_id in stored, code in stored)
    event = logins.events()[-1]
    assert (Action.LOGIN_START, "key:ops", "login", "desk", "aries") == (
        event.action,
        event.actor,
        event.grant,
        event.client,
        event.provider,
    )


@pytest.mark.parametrize(
    ("who", "roles", "fields", "reason"),
    [
        (OPS, {Role.OPERATOR}, {}, None),
        (OPS, {Role.ADMIN}, {}, None),
        (OPS, {Role.ADMIN}, {"any_subject": True}, None),
        (APP, set(), {}, None),
        (APP, set(), {"scopes": ("trade", "read")}, None),
        (APP, set(), {"scopes": ALL}, None),
        (OPS, {Role.OPERATOR}, {"any_subject": True}, Reason.ROLE_REQUIRED),
        (APP, set(), {"any_subject": True}, Reason.ROLE_REQUIRED),
        (OPS, {Role.AUDITOR}, {}, Reason.POLICY_DENIED),
        (CallerId("key", "orders"), set(), {}, Reason.POLICY_DENIED),
        (APP, set(), {"grant": "person"}, Reason.POLICY_DENIED),
        (APP, set(), {"grant": "nothing"}, Reason.POLICY_DENIED),
        (APP, {Role.AUDITOR}, {}, Reason.POLICY_DENIED),
        (OPS, {Role.OPERATOR}, {"grant": "nothing"}, Reason.NOT_FOUND),
    ],
)
async def test_who_may_start(who: CallerId, roles: set[Role], fields: dict[str, Any], reason: Reason | None) -> None:
    """Operators for any grant; callers whose policy says so for this very grant; another person for it: admins."""
    logins = await new_logins()
    wish = {"who": who, "roles": frozenset(roles), **fields}
    if reason is None:
        await logins.started(**wish)
    else:
        assert reason is (await refused(logins, **wish)).reason


@pytest.mark.parametrize(
    ("grants", "scopes", "allowed"),
    [
        (("login",), {"read", "trade"}, True),
        (("login",), set(ALL), False),
        (("login",), {"read"}, False),
        (("log*",), {"read", "trade"}, False),
        (("other", "login"), {"read", "trade", "admin"}, True),
    ],
)
async def test_a_policy_names_the_grant_and_all_its_scopes(
    grants: tuple[str, ...], scopes: set[str], *, allowed: bool
) -> None:
    """A pattern that happens to match lets nobody have people log in."""
    logins = await new_logins()
    may = Policy("id-m2", "m2", Origin.RPC, ("key:shop",), grants, frozenset(scopes), authorize=True)
    await logins.world.put(may)
    await logins.view.catch_up(await logins.world.store.inner.read_version())
    who = CallerId("key", "shop")
    if allowed:
        await logins.started(who=who)
    else:
        assert Reason.POLICY_DENIED is (await refused(logins, who=who)).reason


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"grant": "desk"}, "grant"),
        ({"client": "other"}, "client"),
        ({"scopes": ("read",)}, "scopes"),
        ({"scopes": ("read", "trade", "admin")}, "scopes"),
        ({"scopes": ("Read",)}, "scopes"),
        ({"app": AppRedirect(f"{APP_URI}/", "s")}, "app.redirect_uri"),
        ({"app": AppRedirect(APP_URI.upper(), "s")}, "app.redirect_uri"),
        ({"app": AppRedirect(APP_URI)}, "app.state"),
        ({"app": AppRedirect(APP_URI, "s" * 513)}, "app.state"),
        ({"app": AppRedirect(APP_URI, "s\n")}, "app.state"),
        ({"app": AppRedirect(APP_URI, "s", "plain")}, "app.code_challenge"),
        ({"direct_redirect_uri": "https://app.example/other"}, "direct.redirect_uri"),
    ],
)
async def test_what_a_login_cannot_be_for_is_told_at_its_field(fields: dict[str, Any], field: str) -> None:
    """Another set of scopes, an app nobody registered, an app that could not know its own answer."""
    error = await refused(await new_logins(), **fields)
    assert (Reason.INVALID_REQUEST, [field]) == (error.reason, list(error.fields))


async def test_a_grant_that_is_held_is_not_logged_in_for() -> None:
    """Frozen, revoked, or of a frozen provider."""
    logins = await new_logins()
    for hold in (Hold.FROZEN, Hold.REVOKED):
        await logins.world.hold("login", hold)
        await logins.view.catch_up(await logins.world.store.inner.read_version())
        assert Reason.GRANT_HELD is (await refused(logins)).reason
    frozen = await new_logins(replace(LOGIN_PROVIDER, frozen=True))
    assert Reason.GRANT_HELD is (await refused(frozen)).reason


async def test_without_an_authorization_endpoint_or_pages_nobody_logs_in() -> None:
    """The operator is told which is missing."""
    nowhere = await new_logins(replace(LOGIN_PROVIDER, authorize_url=None))
    assert "authorize_url" in (await refused(nowhere)).public
    logins = await new_logins()
    logins.start._public_url = None
    assert "BROKER_PUBLIC_URL" in (await refused(logins)).public
    assert (await logins.started(direct_redirect_uri=APP_URI)).direct is not None


async def test_a_direct_login_gets_what_the_steps_need() -> None:
    """Our client_id, the challenge of the broker's own verifier, all the scopes; neither link nor code."""
    logins = await new_logins(replace(LOGIN_PROVIDER, login_scopes=("openid",)))
    login = await logins.started(direct_redirect_uri=APP_URI)
    row = await logins.row(login)
    sealed = row.facts.binding("verifier", origin_of(LOGIN_PROVIDER.token_url))
    verifier = (await logins.world.keyring.open(row.verifier, sealed)).reveal()
    assert login.direct is not None
    assert (None, None, challenge_of(verifier)) == (login.url, login.short_code, login.direct.code_challenge)
    assert ("https://id.example/direct", "desk-app", APP_URI, " ".join(sorted((*ALL, "openid")))) == (
        login.direct.url,
        login.direct.client_id,
        login.direct.redirect_uri,
        login.direct.scope,
    )


@pytest.mark.parametrize(
    ("provider", "client"),
    [
        (LOGIN_PROVIDER, replace(LOGIN_CLIENT, direct_login=False)),
        (replace(LOGIN_PROVIDER, direct_login_url=None), LOGIN_CLIENT),
    ],
)
async def test_direct_logins_are_off_unless_both_know_them(provider: Any, client: Any) -> None:  # noqa: ANN401 - both
    """The client allows them, and the provider has such steps."""
    error = await refused(await new_logins(provider, client), direct_redirect_uri=APP_URI)
    assert ["direct"] == list(error.fields)


async def test_open_logins_of_one_caller_are_bounded() -> None:
    """The newest is refused, others may go on, and time frees places."""
    logins = await new_logins()
    for _ in range(MOST_OPEN):
        await logins.started()
    with pytest.raises(BrokerError) as refusal:
        await logins.started()
    assert (Reason.RATE_LIMITED, "open-logins") == (refusal.value.reason, refusal.value.metadata["limit"])
    await logins.started(who=APP)
    logins.world.clock.advance(LIFE_MS / 1000)
    await logins.started()


async def test_starting_pays_the_callers_limit() -> None:
    """As any call of a caller's."""
    logins = await new_logins()
    window = Window(Fraction(1), 1)
    await logins.world.put(Limit("l", "per-caller", Origin.RPC, LimitTarget.GET_TOKEN, ("caller",), (window,)))
    await logins.view.catch_up(await logins.world.store.inner.read_version())
    await logins.started()
    with pytest.raises(BrokerError) as refusal:
        await logins.started()
    assert Reason.RATE_LIMITED is refusal.value.reason


async def test_a_link_is_at_the_public_url() -> None:
    """Never at an address that a request names."""
    login = await (await new_logins()).started()
    assert login.url is not None
    assert "broker.example" == urlsplit(login.url.reveal()).netloc
