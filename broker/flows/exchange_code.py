"""An authorization code, exchanged once (RFC 6749 §4.1.3): what it brings is stored first, sealed, in the login's row.

room in the journal ▸ budget ▸ request built ▸ the row says exchanging: the licence to send ▸ sent once
▸ received stored, or the login failed ▸ settled, or left for the app to complete

A code is never sent a second time: what nobody knows the fate of ends the login, and the person logs in again. It all
runs in a task of its own, so that a browser that goes away changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

from broker.core import scopes
from broker.core.audit import Action
from broker.core.authorization import Authorization, Failure, ReceivedGrant, Way, begin_exchange, fail
from broker.core.errors import BrokerError, GrantConflictError
from broker.core.models import AbsentScope, Client, Grant, Provider
from broker.core.oauth.causes import Cause
from broker.core.oauth.echo import repeats_any
from broker.core.oauth.id_token import subject_of
from broker.core.oauth.reply import Outcome, Reading
from broker.core.oauth.rfc6749 import AuthorizationCode
from broker.core.oauth.token_response import TokenResponse
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.keep_received import KeepReceived
from broker.flows.login_secrets import open_verifier
from broker.flows.provider_call import ProviderCall
from broker.flows.settle_login import SettleLogin
from broker.flows.trail import Trail
from broker.flows.wish import Wish, wish_for
from broker.ports import AuthorizationStore, Cipher, Clock, ReceivedLogin

REPLY_DEADLINE: Final = 30.0
"""Seconds a reply is waited for: a person waits with it."""
LONGEST_BUNDLE: Final = 14_000
"""Characters of what is sealed together, so that a place of the journal holds it."""

_CLIENT_CAUSES: Final = frozenset({Cause.INVALID_CLIENT, Cause.UNAUTHORIZED_CLIENT, Cause.UNAUTHENTICATED})


class ExchangeCode:
    """The flow; one per process."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        logins: AuthorizationStore,
        call: ProviderCall,
        keep_received: KeepReceived,
        settle: SettleLogin,
        cipher: Cipher,
        clock: Clock,
        owner: str,
    ) -> None:
        self._logins = logins
        self._call = call
        self._keep_received = keep_received
        self._settle = settle
        self._cipher = cipher
        self._clock = clock
        self._owner = owner
        self._running: set[asyncio.Task[Authorization]] = set()

    async def __call__(  # noqa: PLR0913 - what an exchange is made of
        self,
        login: Authorization,
        grant: Grant,
        client: Client,
        provider: Provider,
        code: Secret,
        now: int,
        trail: Trail,
    ) -> Authorization:
        """Return the login after it: settled, failed, or received where an app has to complete it.

        Args:
            login: confirmed, or started where it is direct.
            grant: its own, as it is now.
            client: the same.
            provider: the same.
            code: as the provider gave it.
            now: the store's clock when the login was read.
            trail: of whoever brought the code.

        Raises:
            StepError: the login is not so far, or over.
            BrokerError: nothing was sent, or what was received is stored and is settled later.
        """
        trail.grant, trail.client, trail.provider = grant.name, client.name, provider.name
        trail.scopes = " ".join(login.facts.scopes)
        wish = wish_for(grant, client, provider, frozenset(login.facts.scopes))
        place = self._keep_received.reserve()
        task = asyncio.create_task(self._exchange(login, wish, code, now, trail, place))
        self._running.add(task)
        task.add_done_callback(lambda done: self._ended(done, place))
        return await asyncio.shield(task)

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for what runs."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)

    def _ended(self, task: asyncio.Task[Authorization], place: int) -> None:
        self._running.discard(task)
        self._keep_received.release(place)
        if not task.cancelled():
            task.exception()  # retrieved: a browser that went away leaves no warning behind

    async def _exchange(  # noqa: PLR0913 - the same
        self, login: Authorization, wish: Wish, code: Secret, now: int, trail: Trail, place: int
    ) -> Authorization:
        verifier = await open_verifier(self._cipher, login, wish.provider)
        if verifier is None:
            return await self._failed(login, Failure.GRANT_UNAVAILABLE, trail)
        sending = begin_exchange(login, self._owner, now)
        client, provider = wish.client, wish.provider
        await self._call.pay(client, provider, wish.grant.name)
        grant = AuthorizationCode(code, login.facts.redirect_uri, verifier)
        prepared = await self._call.prepare(client, provider, grant)
        if not await self._logins.move_login(sending):
            raise GrantConflictError("the login moved on at the same moment", cause="login_moved")
        reading = await self._call.send(
            client, provider, prepared, before_write=_licensed, reply_deadline=REPLY_DEADLINE
        )
        failure = _failure(reading)
        if failure is not None or reading.refresh_token is None:
            return await self._failed(sending, failure or Failure.NO_REFRESH_TOKEN, trail)
        received = await self._keep(sending, wish, reading, prepared.secrets, place, trail)
        if received.facts.way is Way.APP and reading.tokens is not None:
            return received
        return await self._settle(received, trail)

    async def _keep(  # noqa: PLR0913 - the same
        self,
        login: Authorization,
        wish: Wish,
        reading: Reading,
        sent: tuple[Secret, ...],
        place: int,
        trail: Trail,
    ) -> Authorization:
        """Store what came, first and alone; return the login's row. `sent` are the secrets that the request held."""
        if reading.refresh_token is None:  # pragma: no cover - the caller looked
            raise RuntimeError("nothing was received")
        tokens, provider = reading.tokens, wish.provider
        subject = _subject(tokens, provider, wish.client)
        access_token = None if tokens is None else tokens.access_token
        if repeats_any(subject, (*sent, reading.refresh_token, access_token)):
            subject = access_token = None  # a subject is shown: what calls a person by a secret of ours is not used
        got = ReceivedGrant(reading.refresh_token, access_token, subject)
        sealed = await self._cipher.seal(
            got.bundle(LONGEST_BUNDLE), login.facts.binding("received", origin_of(provider.token_url))
        )
        granted = () if tokens is None else _granted(tokens, wish)
        fingerprint = self._cipher.fingerprint(reading.refresh_token)
        event = trail.event(
            Action.LOGIN_RECEIVE,
            self._clock.now(),
            fingerprint=fingerprint,
            granted=" ".join(granted),
            object_kind="login",
            object_name=login.facts.id[:16],
        )
        await self._keep_received.login(
            ReceivedLogin(login.facts.id, login.facts.grant_id, sealed, granted, event), place, _untold
        )
        kept = await self._logins.find_login(login.facts.id)
        if kept is None:
            raise GrantConflictError("the login was forgotten while its code was exchanged", cause="login_forgotten")
        return kept.login

    async def _failed(self, login: Authorization, failure: Failure, trail: Trail) -> Authorization:
        event = trail.event(
            Action.LOGIN_FAIL,
            self._clock.now(),
            object_kind="login",
            object_name=login.facts.id[:16],
            detail=failure.value,
        )
        after = fail(login, failure)
        await self._logins.move_login(after, event)
        return after


def _failure(reading: Reading) -> Failure | None:
    """Return why an exchange brought no refresh token, None when it did."""
    if reading.refresh_token is not None:
        return None
    if reading.tokens is not None:
        return Failure.NO_REFRESH_TOKEN
    if reading.outcome is Outcome.REFUSED:
        return Failure.CODE_REFUSED
    if reading.cause in _CLIENT_CAUSES:
        return Failure.CLIENT_REFUSED
    if reading.cause is Cause.INVALID_SCOPE:
        return Failure.SCOPE_NOT_GRANTED
    return Failure.UNUSABLE_REPLY if reading.outcome is Outcome.LANDED else Failure.PROVIDER_UNAVAILABLE


def _granted(tokens: TokenResponse, wish: Wish) -> tuple[str, ...]:
    """Return the wire scopes the provider stated, as far as they are configured: words of a reply are kept nowhere."""
    stated = tokens.granted
    if stated is None:
        stated = wish.asked if wish.provider.absent_scope is AbsentScope.AS_ASKED else frozenset()
    return tuple(sorted(stated & scopes.known_wire(wish.provider)))


def _subject(tokens: TokenResponse | None, provider: Provider, client: Client) -> str | None:
    if tokens is None or tokens.unverified_id_token is None:
        return None
    return subject_of(tokens.unverified_id_token, issuer=provider.issuer, client_id=client.client_id)


async def _licensed() -> None:
    """The row says so already."""


def _untold(_: BrokerError) -> None:
    """Nobody waits for a store that is away but the browser, which is told in the end."""
