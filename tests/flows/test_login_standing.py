"""Operators change their mind while a person is away: the login ends, and its token is told to the provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import pytest

from broker.core.authorization import SETTLE_MS, LoginPhase, Obstacle
from broker.core.errors import Reason
from broker.core.grant_state import Hold
from broker.core.identity import Role
from broker.core.models import GrantType, Kind
from broker.core.secret import Secret
from broker.flows.start_authorization import StartedLogin
from tests.flows.logins import APP_URI, EVENT, HERS, OPS, RECEIVED, Logins, gave, new_logins
from tests.flows.test_complete_authorization import coded, complete, refused
from tests.flows.test_connect import CONNECTED, failed, obstacle
from tests.flows.world import grant

Change = Callable[[Logins], Awaitable[None]]


async def take_the_policy(logins: Logins) -> None:
    """Let `portal` have nobody log in any more."""
    await logins.world.remove(Kind.POLICY, "may")


async def take_the_role(logins: Logins) -> None:
    """Leave the operator who starts logins without a role."""
    await logins.world.remove(Kind.ROLE, "admin")
    await logins.world.remove(Kind.ROLE, "operator")


async def take_admin(logins: Logins) -> None:
    """Leave an admin an operator."""
    await logins.world.remove(Kind.ROLE, "admin")


async def change_scopes(logins: Logins) -> None:
    """Let the grant have fewer scopes than a login asked for."""
    was = logins.world.store.inner._grants["id-login"]
    await logins.world.put(grant("login", GrantType.REFRESH_TOKEN, scopes=was.scopes - {"trade"}))


async def disable_the_key(logins: Logins) -> None:
    """End the key that the starter proves itself by."""
    key = await logins.world.store.inner.find_key_named(OPS.subject)
    assert key is not None
    await logins.world.store.inner.set_api_key(replace(key, disabled=True), EVENT)


async def changed(logins: Logins, change: Change) -> None:
    """Make a change and let this process know of it."""
    await change(logins)
    await logins.view.catch_up(await logins.world.store.inner.read_version())


async def started(logins: Logins, change: Change) -> StartedLogin:
    """Start the login that the change concerns."""
    if change is take_the_policy:
        return await logins.app_started()
    asks_admin = change is take_admin
    roles = frozenset({Role.ADMIN if asks_admin else Role.OPERATOR})
    return await logins.started(who=OPS, roles=roles, any_subject=asks_admin)


CHANGES: Final = [take_the_policy, take_the_role, take_admin, change_scopes, disable_the_key]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_page_is_not_shown_any_more(change: Change) -> None:
    """Neither shown nor confirmed: nothing is sent to the provider."""
    logins = await new_logins()
    login = await started(logins, change)
    await changed(logins, change)
    code = "" if login.short_code is None else login.short_code.reveal()
    told = [
        await obstacle(lambda: logins.connect.open(login.flow_id, HERS)),
        await obstacle(lambda: logins.connect.confirm(login.flow_id, HERS, code, logins.trail())),
    ]
    assert [Obstacle.OVER, Obstacle.OVER] == told


@pytest.mark.parametrize("change", CHANGES)
async def test_a_code_is_not_exchanged_any_more(change: Change) -> None:
    """The person comes back from the provider too late."""
    logins = await new_logins()
    login = await started(logins, change)
    query = await logins.confirmed(login)
    await changed(logins, change)
    await logins.back(query)
    assert (failed("grant_unavailable"), []) == (await logins.end(login), logins.world.endpoint.requests)


@pytest.mark.parametrize("change", CHANGES)
async def test_what_came_is_not_the_grants_any_more(change: Change) -> None:
    """The provider is told of it; what the grant had before is as it was."""
    logins = await new_logins()
    await logins.world.consent("login", "older")
    login = await started(logins, change)
    logins.world.store.after["receive_login"] = lambda: changed(logins, change)
    await logins.logged_in(login)
    if change is take_the_policy:  # an app's: it waits for the app
        logins.world.clock.advance(SETTLE_MS / 1000)
        await logins.tend()
    assert LoginPhase.FAILED is (await logins.row(login)).phase
    assert ([("refresh_token", RECEIVED)], "older") == (
        logins.world.endpoint.ended,
        await logins.world.refresh_token("login"),
    )


@pytest.mark.parametrize("change", [take_the_policy, change_scopes])
async def test_an_app_does_not_complete_it_any_more(change: Change) -> None:
    """Its one-time code is spent all the same."""
    logins = await new_logins()
    login, code = await coded(logins)
    await changed(logins, change)
    shown = await complete(logins, code)
    assert failed("grant_unavailable") == await logins.end(login)
    assert (LoginPhase.FAILED, [("refresh_token", RECEIVED)]) == (shown.login.phase, logins.world.endpoint.ended)


@pytest.mark.parametrize("change", [take_the_role, disable_the_key])
async def test_a_direct_login_is_not_completed_any_more(change: Change) -> None:
    """Nothing is sent."""
    logins = await new_logins()
    login = await logins.started(direct_redirect_uri=APP_URI)
    await changed(logins, change)
    refusal = await refused(logins.complete.direct(OPS, login.flow_id, Secret("c"), APP_URI, logins.trail()))
    assert (Reason.GRANT_CONFLICT, []) == (refusal.reason, logins.world.endpoint.requests)


async def landed_untold(logins: Logins, token: str) -> StartedLogin:
    """Return a login whose token landed, and whose process died before its row said so."""
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.endpoint.answers.append(gave(refresh_token=token))

    async def lose_the_store() -> None:
        logins.world.store.away.add("move_login")

    logins.world.store.after["keep_and_consent"] = lose_the_store
    await logins.back(query)
    del logins.world.store.after["keep_and_consent"]
    logins.world.store.away.clear()
    assert LoginPhase.RECEIVED is (await logins.row(login)).phase
    return login


async def test_a_token_that_landed_is_not_given_up() -> None:
    """The grant was frozen since: the token stays the grant's."""
    logins = await new_logins()
    login = await landed_untold(logins, RECEIVED)
    await logins.world.hold("login", Hold.FROZEN)
    logins.world.clock.advance(SETTLE_MS / 1000)
    await logins.tend()
    assert (CONNECTED, []) == (await logins.end(login), logins.world.endpoint.ended)


async def test_a_token_does_not_land_again_over_a_newer_one() -> None:
    """Somebody logged in once more before the first login's row was tended."""
    logins = await new_logins()
    login = await landed_untold(logins, "first")
    await logins.logged_in(await logins.started(), gave(refresh_token="second"))
    logins.world.clock.advance(SETTLE_MS / 1000)
    await logins.tend()
    assert (CONNECTED, "second") == (await logins.end(login), await logins.world.refresh_token("login"))
