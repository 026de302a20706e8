"""Finding out what a provider does with `scope` on a refresh, by spending a throw-away grant (RFC 6749 §6).

First a refresh asks for one scope of the set, then one asks for the whole set again. What is granted tells:

    one scope asked   the set asked again   profile
    ───────────────   ───────────────────   ──────────
    the whole set     -                     ignored
    that scope        the whole set         additional
    that scope        less, or refused      sticky: the grant has lost scopes
    that scope        not clear             unproved
    else, or refused  -                     unproved

What was seen is noted at the provider, and holds for this token endpoint alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from broker.core import scopes
from broker.core.audit import Action
from broker.core.errors import (
    BrokerError,
    GrantConflictError,
    GrantHeldError,
    InvalidRequestError,
    NotFoundError,
    ScopeNotGrantedError,
)
from broker.core.grant_state import Hold
from broker.core.models import GrantType, NarrowingProfile, NarrowingProof, Provider
from broker.flows.catalog_view import CatalogView
from broker.flows.redeem_refresh_token import RedeemRefreshToken
from broker.flows.stored_config import put, settled
from broker.flows.trail import Trail
from broker.flows.wish import Wish, wish_for
from broker.ports import CatalogStore, Clock, GrantStore


@dataclass(frozen=True, slots=True)
class Proof:
    """The profile seen, and what was sent and granted, step by step."""

    profile: NarrowingProfile
    observations: tuple[str, ...]


class ProveNarrowing:
    """Spend a throw-away grant's refresh token twice and conclude."""

    def __init__(
        self, *, view: CatalogView, catalogs: CatalogStore, grants: GrantStore, redeem: RedeemRefreshToken, clock: Clock
    ) -> None:
        self._view = view
        self._catalogs = catalogs
        self._grants = grants
        self._redeem = redeem
        self._clock = clock
        self._running: set[asyncio.Task[Proof]] = set()

    async def __call__(self, grant_name: str, trail: Trail) -> Proof:
        """Return what was seen; the redeems run to their end, and are noted, whoever hangs up.

        Raises:
            NotFoundError, InvalidRequestError, GrantHeldError: no such grant, or one that cannot prove anything.
            StoreUnavailableError: what was seen could not be noted.
            BrokerError: a redeem failed for another reason than its scopes.
        """
        trail.grant = grant_name
        whole = await self._whole(grant_name)
        trail.client, trail.provider = whole.client.name, whole.provider.name
        task = asyncio.create_task(self._prove_on_record(whole, trail))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Proof]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: a caller that hung up leaves no warning behind

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for what runs: a redeem whose token was sent must reach its end."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)

    async def _whole(self, grant_name: str) -> Wish:
        grant = await self._grants.find_grant(grant_name)
        client = None if grant is None else self._view.catalog.clients.get(grant.client)
        provider = None if client is None else self._view.catalog.providers.get(client.provider)
        if grant is None or client is None or provider is None:
            raise NotFoundError("no such grant", metadata={"kind": "grant", "name": grant_name})
        if provider.frozen or grant.state.hold is not Hold.NONE:
            raise GrantHeldError("the grant is held by operators")
        grant_scopes = scopes.expand(grant.scopes, provider)
        if grant.type is not GrantType.REFRESH_TOKEN or len(grant_scopes) < 2:  # noqa: PLR2004 - one cannot be narrowed
            raise InvalidRequestError(
                "narrowing is proved with a throw-away grant of type refresh_token that has two scopes or more",
                fields={"grant": "not of type refresh_token, or of a single scope"},
            )
        assumed = NarrowingProof(NarrowingProfile.ADDITIONAL, provider.token_url)
        narrowing = replace(provider, narrowing=NarrowingProfile.ADDITIONAL, proof=assumed)
        return wish_for(grant, client, narrowing, grant_scopes)

    async def _prove_on_record(self, whole: Wish, trail: Trail) -> Proof:
        proof = await self._prove(whole)
        await settled(lambda: self._note(whole.provider, proof, trail))
        return proof

    async def _note(self, proved: Provider, proof: Proof, trail: Trail) -> None:
        """Note what was seen at the provider; what nobody could tell leaves what was noted before."""
        catalog = await self._catalogs.load_catalog()
        provider = catalog.providers.get(proved.name)
        changes = []
        if provider is not None and provider.id == proved.id and proof.profile is not NarrowingProfile.UNPROVED:
            changes = [put(replace(provider, proof=NarrowingProof(proof.profile, proved.token_url)))]
        event = trail.event(Action.PROVIDER_PROVE, self._clock.now(), detail=proof.profile.value)
        await self._catalogs.write_objects(changes, revision=None, event=event, expected_version=catalog.version)

    async def _prove(self, whole: Wish) -> Proof:
        one = wish_for(whole.grant, whole.client, whole.provider, {min(whole.grant_scopes)})
        first = await self._granted(one)
        seen = [_told("one scope of the set", one, first)]
        if first is None:
            return Proof(NarrowingProfile.UNPROVED, tuple(seen))
        if first != one.asked:
            ignored = first >= whole.grant_scopes
            return Proof(NarrowingProfile.IGNORED if ignored else NarrowingProfile.UNPROVED, tuple(seen))
        again = await self._granted(whole)
        seen.append(_told("the whole set", whole, again))
        if again is None:
            return Proof(NarrowingProfile.UNPROVED, tuple(seen))
        profile = NarrowingProfile.ADDITIONAL if again == whole.grant_scopes else NarrowingProfile.STICKY
        return Proof(profile, tuple(seen))

    async def _granted(self, wish: Wish) -> frozenset[str] | None:
        """Return the scopes the provider says it granted, none when it refuses them; None when that is not clear."""
        try:
            received = await self._redeem(wish, _nobody_waits, _always)
        except ScopeNotGrantedError:
            return frozenset()
        if received is None:
            raise GrantConflictError("the grant is in use; a throw-away grant is needed, try again")
        if received.token is None or not received.token.verified:
            return None
        return received.token.granted


def _nobody_waits(_: BrokerError) -> None:
    """A store that is away delays the proof; its caller waits."""


async def _always() -> bool:
    """A token that is there already proves nothing."""
    return True


def _told(what: str, wish: Wish, granted: frozenset[str] | None) -> str:
    asked = " ".join(sorted(wish.asked))
    known = scopes.known_wire(wish.provider)
    if granted is None:
        return f"asked for {what} ({asked}): granted, not clear what"
    if not granted:
        return f"asked for {what} ({asked}): refused"
    return f"asked for {what} ({asked}): granted {' '.join(sorted(granted & known))}"
