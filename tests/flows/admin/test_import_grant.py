"""Importing a refresh token: kept first, redeemed at once, and the old holder is warned of."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.core import lease
from broker.core.audit import Action
from broker.core.errors import (
    GrantConflictError,
    GrantHeldError,
    InvalidRequestError,
    NotFoundError,
    ProviderUnavailableError,
)
from broker.core.grant_state import GrantState, Health, Hold
from broker.core.models import AccessTokenKey, Grant
from broker.core.sealing import Sealed, refresh_token_binding
from broker.core.secret import Secret
from broker.flows.import_grant import EXCESS, NOT_ROTATED, OLD_HOLDER, ImportGrant, RedeemNow
from broker.ports import AttemptRecord, StoredAccessToken
from tests.flows.admin.kit import AdminKit, trail
from tests.support.waiting import ENOUGH

FILE = """\
    revision: 1
    providers: [{name: aries, preset: aries}]
    clients: [{name: desk, provider: aries, client_id: a}]
    grants:
      - {name: g, client: desk, type: refresh_token, scopes: [read]}
      - {name: cc, client: desk, type: client_credentials, scopes: [read]}
"""
TOKEN = Secret("canary-refresh-token")


def importing(kit: AdminKit, redeem: RedeemNow) -> ImportGrant:
    """Return the flow with a redeem."""
    return ImportGrant(
        catalogs=kit.store,
        grants=kit.store,
        access_tokens=kit.store,
        cipher=kit.keyring,
        clock=kit.clock,
        redeem_now=redeem,
    )


async def rotates(_: str) -> bool:
    """Stand for a provider that rotates."""
    return True


async def keeps(_: str) -> bool:
    """Stand for a provider that does not rotate."""
    return False


def record(grant: Grant, state: GrantState) -> AttemptRecord:
    """Return the line a send opens in a grant's history."""
    return AttemptRecord(grant.id, state.attempt, "me", 1, datetime(2026, 1, 2, tzinfo=UTC), "")


async def test_a_token_is_kept_sealed_before_it_is_redeemed(kit: AdminKit) -> None:
    """When the redeem begins the token is the grant's current one, bound to its row and the token endpoint."""
    await kit.apply(FILE)
    grant = await kit.grant("g")

    async def redeem(name: str) -> bool:
        assert name == "g"
        stored = await kit.store.current_refresh_token(grant.id)
        assert stored is not None
        binding = refresh_token_binding(grant.id, stored.consent, stored.attempt, "https://api.aries.com")
        assert await kit.keyring.open(stored.sealed, binding) == TOKEN
        return True

    imported = await importing(kit, redeem)("g", TOKEN, trail())
    assert (imported.rotated, imported.warnings) == (True, (OLD_HOLDER,))
    event = (await kit.events())[-1]
    assert (event.action, event.grant, event.client) == (Action.GRANT_IMPORT, "g", "desk")
    assert event.fingerprint == kit.keyring.fingerprint(TOKEN)
    assert "canary" not in repr(await kit.events())


async def test_a_token_that_was_not_rotated_is_warned_of(kit: AdminKit) -> None:
    """Without rotation nothing proves that we are the only holder."""
    await kit.apply(FILE)
    imported = await importing(kit, keeps)("g", TOKEN, trail())
    assert (imported.rotated, imported.warnings) == (False, (NOT_ROTATED, OLD_HOLDER))


async def test_a_redeem_that_fails_leaves_the_token_kept(kit: AdminKit) -> None:
    """A provider that is away is told, and the token is there for the next try."""
    await kit.apply(FILE)

    async def fails(_: str) -> bool:
        raise ProviderUnavailableError("away")

    with pytest.raises(ProviderUnavailableError):
        await importing(kit, fails)("g", TOKEN, trail())
    assert await kit.store.current_refresh_token((await kit.grant("g")).id) is not None


@pytest.mark.parametrize("while_keeping", [True, False])
async def test_a_caller_that_hangs_up_does_not_stop_the_redeem(
    kit: AdminKit, monkeypatch: pytest.MonkeyPatch, while_keeping: bool
) -> None:
    """Whenever that is, a token that was kept is redeemed, and the end of the broker waits for it."""
    await kit.apply(FILE)
    begun, done = asyncio.Event(), asyncio.Event()
    keep = kit.store.keep_and_consent

    async def keep_slowly(*args: Any, **facts: Any) -> GrantState | None:  # noqa: ANN401 - passed on
        begun.set()
        await asyncio.sleep(0)
        return await keep(*args, **facts)

    async def redeem(_: str) -> bool:
        begun.set()
        await asyncio.sleep(0)
        done.set()
        return True

    if while_keeping:
        monkeypatch.setattr(kit.store, "keep_and_consent", keep_slowly)
    flow = importing(kit, redeem)
    call = asyncio.create_task(flow("g", TOKEN, trail()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await flow.aclose(ENOUGH)
    assert done.is_set()


async def test_a_token_used_before_is_refused(kit: AdminKit) -> None:
    """A token the grant sent once would be a reuse, which costs the whole family."""
    await kit.apply(FILE)
    await importing(kit, keeps)("g", TOKEN, trail())
    grant = await kit.grant("g")
    state = await kit.store.apply(grant.id, lease.Take("me"))
    assert state is not None
    assert await kit.store.licence(lease.Sent(state.attempt, state.generation, None), record(grant, state)) is not None
    with pytest.raises(InvalidRequestError, match="had this token before"):
        await importing(kit, rotates)("g", TOKEN, trail())


async def test_a_token_that_works_is_given_up_only_when_said(kit: AdminKit) -> None:
    """A mistyped import does not cost a working grant; said so, or where nothing works any more, it is taken."""
    await kit.apply(FILE)
    await importing(kit, keeps)("g", TOKEN, trail())
    other = Secret("canary-other")
    with pytest.raises(InvalidRequestError, match="`replace` has to confirm"):
        await importing(kit, keeps)("g", other, trail())
    grant = await kit.grant("g")
    assert kit.keyring.fingerprint(TOKEN) == grant.state.current
    await importing(kit, keeps)("g", other, trail(), replace=True)
    quarantined = replace((await kit.grant("g")).state, health=Health.QUARANTINED)
    kit.store._grants[grant.id] = replace(kit.store._grants[grant.id], state=quarantined)
    await importing(kit, keeps)("g", Secret("canary-third"), trail())


@pytest.mark.parametrize("text", ["a\nb", "\x00", "caf\u00e9", "x" * 9000])
async def test_what_is_no_refresh_token_is_not_even_sent(kit: AdminKit, text: str) -> None:
    """A refresh token is printable ASCII of a bounded length."""
    await kit.apply(FILE)
    with pytest.raises(InvalidRequestError, match="printable ASCII"):
        await importing(kit, rotates)("g", Secret(text), trail())


async def test_a_token_about_to_be_sent_is_not_imported_again(kit: AdminKit) -> None:
    """While an owner holds the lease it may send the grant's token at any moment; another token fences it off."""
    await kit.apply(FILE)
    await importing(kit, keeps)("g", TOKEN, trail())
    grant = await kit.grant("g")
    assert await kit.store.apply(grant.id, lease.Take("me")) is not None
    with pytest.raises(GrantConflictError, match="being redeemed with this token"):
        await importing(kit, keeps)("g", TOKEN, trail())
    await importing(kit, keeps)("g", Secret("another"), trail(), replace=True)


async def test_a_token_is_imported_again_after_a_wrong_endpoint(kit: AdminKit) -> None:
    """A token that was never written to the socket is sealed for the endpoint configured now when imported again."""
    wrong = FILE.replace("preset: aries", "preset: generic, token_url: 'https://wrong.example/token'")
    await kit.apply(wrong)
    await importing(kit, keeps)("g", TOKEN, trail())
    grant = await kit.grant("g")
    state = await kit.store.apply(grant.id, lease.Take("me"))
    assert state is not None
    assert await kit.store.licence(lease.Sent(state.attempt, state.generation, None), record(grant, state)) is not None
    assert await kit.store.apply(grant.id, lease.NotSent(state.attempt, 0)) is not None
    await kit.apply(FILE.replace("revision: 1", "revision: 2"))
    await importing(kit, keeps)("g", TOKEN, trail())
    stored = await kit.store.current_refresh_token(grant.id)
    assert stored is not None
    binding = refresh_token_binding(grant.id, stored.consent, stored.attempt, "https://api.aries.com")
    assert TOKEN == await kit.keyring.open(stored.sealed, binding)


async def test_grants_that_take_no_token_are_refused(kit: AdminKit) -> None:
    """Unknown grants, those of another type and those on a frozen provider are told apart, to operators."""
    await kit.apply(FILE)
    flow = importing(kit, rotates)
    with pytest.raises(NotFoundError):
        await flow("nothing", TOKEN, trail())
    with pytest.raises(InvalidRequestError, match="of type refresh_token"):
        await flow("cc", TOKEN, trail())
    held = GrantState(hold=Hold.FROZEN)
    kit.store._grants = {id_: replace(grant, state=held) for id_, grant in kit.store._grants.items()}
    with pytest.raises(GrantHeldError):
        await flow("g", TOKEN, trail())


async def test_a_grant_that_moves_meanwhile_is_not_overtaken(kit: AdminKit) -> None:
    """Two imports at once: the second finds the state moved and keeps nothing."""
    await kit.apply(FILE)
    flow = importing(kit, keeps)
    stale = await kit.grant("g")
    await flow("g", TOKEN, trail())
    provider = (await kit.catalog()).providers["aries"]
    with pytest.raises(GrantConflictError):
        await flow._keep(stale, provider, Secret("another"), trail())
    current = await kit.store.current_refresh_token(stale.id)
    assert current is not None
    assert current.fingerprint == kit.keyring.fingerprint(TOKEN)


async def test_tokens_with_more_than_the_grant_s_scopes_are_told(kit: AdminKit) -> None:
    """The token is taken in; what its access tokens carry beyond the grant is named: callers will not get them."""
    await kit.apply(FILE)
    grant_id = (await kit.grant("g")).id

    async def brings_more(_: str) -> bool:
        key = AccessTokenKey(grant_id, 2, "c:a", ("account:information",))
        carries = ("account:information", "order:execution")
        token = StoredAccessToken(
            key,
            attempt=1,
            sealed=Sealed("k", b"x"),
            fingerprint="f",
            granted=carries,
            verified=True,
            life_ms=60_000,
            remaining_ms=60_000,
            renew_ms=None,
            lifetime_assumed=False,
        )
        await kit.store.put_access(token)
        return True

    imported = await importing(kit, brings_more)("g", TOKEN, trail())
    assert [OLD_HOLDER, EXCESS.format(excess="order:execution")] == list(imported.warnings)
