"""Signing in: before a person is told what a login is about, an OpenID provider tells us who they are.

begin: off to the sign-in ▸ end: its answer, to this browser ▸ the state is spent ▸ the code exchanged, once
▸ the ID token names the person ▸ the login is theirs

Whoever could not sign in may try again from the link: the login stays open.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from broker.core.audit import Action
from broker.core.authorization import (
    Authorization,
    come_back,
    digest,
    is_signed_in,
    know,
    named_person,
    sign_in,
)
from broker.core.errors import BrokerError
from broker.core.models import Provider
from broker.core.oauth.authorization_request import Callback, build_authorization_url, issuer_is_right
from broker.core.oauth.echo import repeats_any
from broker.core.oauth.id_token import AnswerTo, subject_of
from broker.core.oauth.rfc6749 import AuthorizationCode
from broker.core.oauth.rfc7009 import TokenTypeHint
from broker.core.oauth.rfc7636 import challenge_of, derived_verifier
from broker.core.secret import Secret
from broker.flows.catalog_view import CatalogView
from broker.flows.end_token import EndToken
from broker.flows.login_secrets import open_verifier
from broker.flows.login_standing import Place, place_of
from broker.flows.provider_call import ProviderCall
from broker.flows.trail import Trail
from broker.ports import AuthorizationStore, Cipher, Clock

OPENID: Final = ("openid",)
"""What makes it an authentication request (OpenID Connect Core §3.1.2.1)."""
STATE_BYTES: Final = 32
REPLY_DEADLINE: Final = 30.0
"""Seconds a reply is waited for: a person waits with it."""


MOVED: Final = "moved"
"""Cause: another answer, or another step, came first."""


class SignInError(Exception):
    """Nobody was signed in; `cause` is ours, for the log."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class SignIn:
    """The flow; `public_url` is the origin people reach the pages at."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        logins: AuthorizationStore,
        call: ProviderCall,
        end_token: EndToken,
        cipher: Cipher,
        clock: Clock,
        random_text: Callable[[int], str],
        public_url: str,
    ) -> None:
        self._view = view
        self._logins = logins
        self._call = call
        self._end_token = end_token
        self._cipher = cipher
        self._clock = clock
        self._random_text = random_text
        self._public_url = public_url

    def place(self, login: Authorization, provider: Provider) -> Place | None:
        """Return where the person has yet to sign in before they log in at `provider`; None: nowhere.

        Raises:
            SignInError: nobody can sign in there now.
        """
        if provider.connect_login is None:
            return None
        place = place_of(provider, self._view.catalog)
        if place is None:
            raise SignInError("unavailable")
        return None if is_signed_in(login, place.provider.issuer) else place

    async def begin(
        self, login: Authorization, provider: Provider, place: Place, browser: str, now: int
    ) -> tuple[Authorization, Secret]:
        """Return the login to be stored, and where the browser goes.

        Raises:
            StepError: the login is over, confirmed already, or another browser has it.
            SignInError: its verifier is lost.
        """
        state = self._random_text(STATE_BYTES)
        begun = sign_in(login, digest(browser), digest(state), now)
        verifier = await self._verifier(login, provider, state)
        url = build_authorization_url(
            place.provider,
            client_id=place.client.client_id,
            redirect_uri=self._redirect_uri(place),
            scopes=OPENID,
            state=state,
            code_challenge=challenge_of(verifier.reveal()),
            nonce=begun.state,
        )
        return begun, Secret(url)

    async def end(  # noqa: PLR0913 - what a step is made of
        self,
        login: Authorization,
        provider: Provider,
        place: Place,
        callback: Callback,
        browser: str,
        now: int,
        trail: Trail,
    ) -> Authorization:
        """Return the login, stored, with the person who signed in.

        Args:
            login: found by the state that the callback brought.
            provider: where the person is to log in afterwards.
            place: where they signed in.
            callback: as the browser brought it.
            browser: what the browser's cookie holds.
            now: the store's clock when the login was read.
            trail: of the callback.

        Raises:
            StepError: nobody was sent to sign in, or another browser was.
            SignInError: nobody signed in, or another step came first.
            BrokerError: nothing was sent; the page may be loaded again.
        """
        back = come_back(login, digest(browser), now)
        verifier = await self._verifier(login, provider, callback.unverified_state)
        if not issuer_is_right(callback, place.provider) or callback.error is not None or callback.code is None:
            await self._logins.move_login(back)
            unsaid = "no_code" if issuer_is_right(callback, place.provider) else "wrong_issuer"
            raise SignInError(callback.error or unsaid)
        await self._call.pay(place.client, place.provider)
        grant = AuthorizationCode(callback.code, self._redirect_uri(place), verifier)
        prepared = await self._call.prepare(place.client, place.provider, grant)
        if not await self._logins.move_login(back):
            raise SignInError(MOVED)
        reading = await self._call.send(
            place.client, place.provider, prepared, before_write=_licensed, reply_deadline=REPLY_DEADLINE
        )
        if reading.refresh_token is not None:  # nobody needs it: who a person is was all we asked
            with suppress(BrokerError):
                await self._end_token(place.client, place.provider, reading.refresh_token, TokenTypeHint.REFRESH_TOKEN)
        token = None if reading.tokens is None else reading.tokens.unverified_id_token
        if reading.tokens is None or token is None:
            raise SignInError("no_id_token" if reading.error is None else reading.cause)
        answer_to = AnswerTo(login.state, self._clock.now())
        subject = subject_of(token, issuer=place.provider.issuer, client_id=place.client.client_id, answer_to=answer_to)
        if subject is None or repeats_any(
            subject, (*prepared.secrets, reading.refresh_token, reading.tokens.access_token)
        ):  # a person's name is shown: what calls one by a secret of ours is not used
            raise SignInError("id_token")
        return await self._known(back, named_person(subject, place.provider.issuer), place, trail)

    async def _known(self, login: Authorization, person: str, place: Place, trail: Trail) -> Authorization:
        event = trail.event(
            Action.LOGIN_IDENTIFY,
            self._clock.now(),
            grant=login.facts.grant,
            client=place.client.name,
            provider=place.provider.name,
            object_kind="person",
            object_name=person,
            detail=f"login {login.facts.id[:16]}",
        )
        known = know(login, person)
        if not await self._logins.move_login(known, event):
            raise SignInError(MOVED)
        return known

    async def _verifier(self, login: Authorization, provider: Provider, state: str) -> Secret:
        """Return the sign-in's own verifier: no server is shown one that another was sent the challenge of."""
        verifier = await open_verifier(self._cipher, login, provider)
        if verifier is None:
            raise SignInError("verifier")
        return Secret(derived_verifier(verifier.reveal(), state))

    def _redirect_uri(self, place: Place) -> str:
        return f"{self._public_url}/callback/{place.provider.name}"


async def _licensed() -> None:
    """The row says so already: its state is spent."""
