"""What a person's login brought becomes the grant's: or is given up, and the provider told.

enough granted ▸ whose login was it? ▸ the grant's own person ▸ refresh token the grant's current one, in a new consent
▸ connected

Every step can be made again, by any replica: the login's row holds what was received, sealed, until one of the two.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from broker.core import lease
from broker.core.audit import Action
from broker.core.authorization import (
    SETTLE_MS,
    Authorization,
    Failure,
    ReceivedGrant,
    connect,
    fail,
    parse_bundle,
)
from broker.core.errors import BrokerError, GrantConflictError
from broker.core.grant_state import GrantState, Hold
from broker.core.models import Client, Grant, Provider
from broker.core.oauth.echo import repeats_any
from broker.core.oauth.rfc7009 import TokenTypeHint
from broker.core.sealing import refresh_token_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.catalog_view import CatalogView
from broker.flows.end_token import EndToken
from broker.flows.login_standing import LoginStanding, is_anothers
from broker.flows.trail import Trail
from broker.ports import AuthorizationStore, Cipher, Clock, GrantStore, SealBrokenError, Subjects

MAX_ROUNDS: Final = 8
"""How often landing is tried anew because the grant moved at the same moment."""


@dataclass(frozen=True, slots=True)
class Whose:
    """The person as the provider knows them, and as they signed in before; None where nobody says."""

    subject: str | None
    person: str | None


class SettleLogin:
    """The flow; one per process."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        logins: AuthorizationStore,
        grants: GrantStore,
        standing: LoginStanding,
        cipher: Cipher,
        subjects: Subjects,
        end_token: EndToken,
        clock: Clock,
    ) -> None:
        self._view = view
        self._logins = logins
        self._grants = grants
        self._standing = standing
        self._cipher = cipher
        self._subjects = subjects
        self._end_token = end_token
        self._clock = clock

    async def __call__(self, login: Authorization, trail: Trail) -> Authorization:
        """Return the login at its end.

        Args:
            login: received.
            trail: of whoever made it come so far.

        Raises:
            BrokerError: the provider or the store is away: it is tried again later; the login stays received.
        """
        facts = login.facts
        trail.grant, trail.scopes = facts.grant, " ".join(facts.scopes)
        trail.object_kind, trail.object_name = "login", facts.id[:16]
        client, provider = self._client_of(login)
        received = None if provider is None else await self._open(login, provider)
        if client is None or provider is None or received is None:
            return await self._ended(login, Failure.GRANT_UNAVAILABLE, trail)
        trail.client, trail.provider = client.name, provider.name
        failure = None
        if received.access_token is None and received.subject is None:
            failure = Failure.UNUSABLE_REPLY
        elif not set(facts.scopes) <= set(login.granted):
            failure = Failure.SCOPE_NOT_GRANTED
        else:
            failure = await self._land(login, received, provider, trail)
        if failure is None:
            return await self._written(connect(login))
        await self._tell(client, provider, received.refresh_token)
        return await self._ended(login, failure, trail)

    async def give_up(self, login: Authorization, failure: Failure, trail: Trail) -> Authorization:
        """End a login that nobody completed, and tell the provider of its token."""
        client, provider = self._client_of(login)
        received = None if provider is None else await self._open(login, provider)
        if client is not None and provider is not None and received is not None:
            trail.client, trail.provider = client.name, provider.name
            await self._tell(client, provider, received.refresh_token)
        return await self._ended(login, failure, trail)

    async def _tell(self, client: Client, provider: Provider, refresh_token: Secret) -> None:
        """Tell the provider, once: nobody but us ever had the token, and it is forgotten here."""
        with suppress(BrokerError):
            await self._end_token(client, provider, refresh_token, TokenTypeHint.REFRESH_TOKEN)

    async def _land(
        self, login: Authorization, received: ReceivedGrant, provider: Provider, trail: Trail
    ) -> Failure | None:
        """Make the refresh token the grant's, if it is of the grant's own person; return why it is not."""
        subject = received.subject
        if subject is None and received.access_token is not None:
            subject = await self._subjects.find(provider, received.access_token)
        if repeats_any(subject, (received.refresh_token, received.access_token)):
            return Failure.UNUSABLE_REPLY
        fingerprint = self._cipher.fingerprint(received.refresh_token)
        for _ in range(MAX_ROUNDS):
            grant = await self._grants.get_grant(login.facts.grant_id)
            if grant is not None and _has_landed(login, grant.state, fingerprint):
                return None  # whatever came since: the token is the grant's, and not ours to end
            if grant is None or grant.state.hold is not Hold.NONE or await self._standing.of(login, grant) is None:
                return Failure.GRANT_UNAVAILABLE
            if is_anothers(login, grant) or (grant.subject not in {None, subject} and not login.facts.any_subject):
                return Failure.SUBJECT_MISMATCH
            if grant.subject is not None and subject is None:  # it would go on under the name of the one before
                return Failure.UNUSABLE_REPLY
            whose = Whose(subject, login.person or None)
            if await self._landed(grant, received.refresh_token, whose, provider, trail) is not None:
                return None
        raise GrantConflictError("the grant changed again and again while the login ended; it is tried again")

    async def _landed(
        self, grant: Grant, refresh_token: Secret, whose: Whose, provider: Provider, trail: Trail
    ) -> GrantState | None:
        """Run the consent; None when the grant moved meanwhile."""
        state, fingerprint = grant.state, self._cipher.fingerprint(refresh_token)
        binding = refresh_token_binding(grant.id, state.consent + 1, state.attempt + 1, origin_of(provider.token_url))
        sealed = await self._cipher.seal(refresh_token, binding)
        event = trail.event(Action.GRANT_AUTHORIZE, self._clock.now(), fingerprint=fingerprint)
        return await self._grants.keep_and_consent(
            grant.id,
            lease.Consented(fingerprint),
            state.consent,
            sealed,
            whose.subject,
            event,
            expected_attempt=state.attempt,
            person=whose.person,
        )

    async def _open(self, login: Authorization, provider: Provider) -> ReceivedGrant | None:
        if login.received is None:
            return None
        try:
            bundle = await self._cipher.open(
                login.received, login.facts.binding("received", origin_of(provider.token_url))
            )
        except SealBrokenError:  # the provider's token endpoint is another one now
            return None
        return parse_bundle(bundle)

    def _client_of(self, login: Authorization) -> tuple[Client | None, Provider | None]:
        """Return our client and its provider as they are now, None where they are not those the login began with."""
        catalog, facts = self._view.catalog, login.facts
        client = next((one for one in catalog.clients.values() if one.id == facts.client_id), None)
        provider = next((one for one in catalog.providers.values() if one.id == facts.provider_id), None)
        return client, provider

    async def _ended(self, login: Authorization, failure: Failure, trail: Trail) -> Authorization:
        event = trail.event(
            Action.LOGIN_FAIL,
            self._clock.now(),
            object_kind="login",
            object_name=login.facts.id[:16],
            detail=failure.value,
        )
        ended = fail(login, failure)
        return ended if await self._logins.move_login(ended, event) else await self._read_back(login)

    async def _written(self, after: Authorization) -> Authorization:
        return after if await self._logins.move_login(after) else await self._read_back(after)

    async def _read_back(self, login: Authorization) -> Authorization:
        """Return what another process, which settled it at the same moment, made of it."""
        reading = await self._logins.find_login(login.facts.id)
        if reading is None:
            raise GrantConflictError("the login was forgotten while it ended", cause="login_forgotten")
        return reading.login


def _has_landed(login: Authorization, state: GrantState, fingerprint: str) -> bool:
    """Tell whether the token is the grant's own already, or was until a later login's took its place.

    A provider may give one token to two logins: what was kept in an older consent, before this login received it, is
    the other's.
    """
    since = login.expires_at - SETTLE_MS
    kept = (token for token in state.tokens if token.fingerprint == fingerprint)
    return any(token.consent == state.consent or token.received_at >= since for token in kept)
