"""Taking an existing refresh token in.

find the grant ▸ seal and keep the token as the grant's own ▸ redeem it at once: rotation proves sole possession
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from broker.core import lease, scopes
from broker.core.audit import Action
from broker.core.errors import GrantConflictError, GrantHeldError, InvalidRequestError, NotFoundError
from broker.core.grant_state import GrantState, Health, Hold, Phase, was_used
from broker.core.models import Grant, GrantType, Kind, Provider
from broker.core.oauth.salvage import is_refresh_token
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.trail import Trail
from broker.ports import AccessTokenStore, CatalogStore, Cipher, Clock, GrantStore

OLD_HOLDER: Final = "remove the refresh token from wherever it was kept: its old holder must not use it again"
NOT_ROTATED: Final = (
    "the provider did not rotate the refresh token: whoever held it before can still use it; have it revoked there and "
    "let a person log in anew"
)
EXCESS: Final = (
    "its access tokens carry more than the grant's scopes ({excess}): callers get them only where a policy accepts that"
)


class RedeemNow(Protocol):
    """Redeems a grant's refresh token at once."""

    async def __call__(self, grant_name: str, /) -> bool:
        """Return whether the provider gave a new refresh token; raise BrokerError when it gave no token at all."""


@dataclass(frozen=True, slots=True)
class Imported:
    """How it went."""

    rotated: bool
    warnings: tuple[str, ...]


class ImportGrant:
    """Import one refresh token."""

    def __init__(  # noqa: PLR0913 - each is a port
        self,
        *,
        catalogs: CatalogStore,
        grants: GrantStore,
        access_tokens: AccessTokenStore,
        cipher: Cipher,
        clock: Clock,
        redeem_now: RedeemNow,
    ) -> None:
        self._catalogs = catalogs
        self._grants = grants
        self._access_tokens = access_tokens
        self._cipher = cipher
        self._clock = clock
        self._redeem_now = redeem_now
        self._running: set[asyncio.Task[bool]] = set()

    async def __call__(
        self, grant_name: str, refresh_token: Secret, trail: Trail, *, replace: bool = False
    ) -> Imported:
        """Keep the token and redeem it; a caller that hangs up meanwhile changes nothing.

        Args:
            grant_name: of a grant of type refresh_token.
            refresh_token: as the old holder has it.
            trail: who imports it.
            replace: also when the grant has a refresh token that works, which is then used no more.

        Raises:
            NotFoundError: no such grant.
            InvalidRequestError: the grant has no refresh tokens, or one that works; or this is none.
            GrantHeldError: operators hold the grant or its provider.
            GrantConflictError: the grant changed meanwhile, or is being redeemed; nothing was kept.
            BrokerError: the token is kept, and redeeming it failed for this reason.
        """
        trail.grant = grant_name
        if not is_refresh_token(refresh_token.reveal()):
            problem = "a refresh token has at most 8192 characters of printable ASCII"
            raise InvalidRequestError(problem, fields={"refresh_token": problem})
        grant, provider = await self._find(grant_name, trail)
        same = self._cipher.fingerprint(refresh_token) == grant.state.current
        if _works(grant.state) and not same and not replace:
            problem = "the grant has a refresh token that works: importing gives it up, which `replace` has to confirm"
            raise InvalidRequestError(problem, fields={"replace": problem})
        task = asyncio.create_task(self._keep_and_redeem(grant, provider, refresh_token, trail))
        self._running.add(task)
        task.add_done_callback(self._ended)
        rotated = await asyncio.shield(task)
        warnings = [] if rotated else [NOT_ROTATED]
        return Imported(rotated, (*warnings, OLD_HOLDER, *await self._excess(grant, provider)))

    async def _excess(self, grant: Grant, provider: Provider) -> Sequence[str]:
        """Return a warning where tokens of the grant carry more than its scopes, and are withheld for that."""
        own = scopes.expand(grant.scopes, provider)
        tokens = await self._access_tokens.live_access_tokens(grant.id)
        excess = sorted(set().union(*(token.granted for token in tokens)) - own)
        return [EXCESS.format(excess=" ".join(excess))] if excess else []

    async def _keep_and_redeem(self, grant: Grant, provider: Provider, refresh_token: Secret, trail: Trail) -> bool:
        """Do both or, where keeping fails, neither: what is kept and not redeemed its old holder may still use."""
        await self._keep(grant, provider, refresh_token, trail)
        return await self._redeem_now(grant.name)

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: a caller that hung up leaves no warning behind

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for what runs."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)

    async def _find(self, name: str, trail: Trail) -> tuple[Grant, Provider]:
        catalog = await self._catalogs.load_catalog()
        named = await self._grants.find_grant(name)
        grant = None if named is None else await self._grants.get_grant(named.id)
        client = None if grant is None else catalog.clients.get(grant.client)
        provider = None if client is None else catalog.providers.get(client.provider)
        if grant is None or client is None or provider is None:
            raise NotFoundError("there is no such grant", metadata={"kind": Kind.GRANT.value, "name": name})
        trail.client, trail.provider = client.name, provider.name
        if grant.type is not GrantType.REFRESH_TOKEN:
            problem = "must be of type refresh_token"
            raise InvalidRequestError(f"the grant {problem}", fields={"grant": problem})
        if provider.frozen or grant.state.hold is not Hold.NONE:
            raise GrantHeldError("the grant is held by operators")
        return grant, provider

    async def _keep(self, grant: Grant, provider: Provider, refresh_token: Secret, trail: Trail) -> None:
        """Make the token the grant's current one, fenced by the state it was sealed for.

        Raises:
            InvalidRequestError: the grant had this very token before and used it: once more would be a reuse.
            GrantConflictError: the grant changed at the same moment, or this very token is about to be sent.
        """
        state = grant.state
        binding = refresh_token_binding(grant.id, state.consent + 1, state.attempt + 1, origin_of(provider.token_url))
        fingerprint = self._cipher.fingerprint(refresh_token)
        if any(token.fingerprint == fingerprint and was_used(token) for token in state.tokens):
            problem = "the grant had this token before and used it: there is nothing to import"
            raise InvalidRequestError(problem, fields={"refresh_token": problem})
        if state.phase is Phase.PREPARED and fingerprint == state.current:
            # Sending it moves none of the fences: it could be sent before the import and then once more.
            raise GrantConflictError("the grant is being redeemed with this token; nothing was imported, try again")
        sealed = await self._cipher.seal(refresh_token, binding)
        event = trail.event(Action.GRANT_IMPORT, self._clock.now(), fingerprint=fingerprint)
        after = await self._grants.keep_and_consent(
            grant.id,
            lease.Consented(fingerprint),
            state.consent,
            sealed,
            None,
            event,
            expected_attempt=state.attempt,
        )
        if after is None:
            raise GrantConflictError("the grant changed at the same moment; nothing was imported, try again")


def _works(state: GrantState) -> bool:
    return state.current is not None and state.health is Health.OK and state.phase is not Phase.UNKNOWN
