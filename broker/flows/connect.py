"""The browser's half of a login: what a person sees before and after the provider.

open: the page that says who asked for what, where it must be after a sign-in ▸ confirm: the short code is right, off
to the provider ▸ callback: ours, this browser's, the provider's own ▸ the code exchanged ▸ the result, here or at the
app
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from broker.core import policy
from broker.core.audit import Action
from broker.core.authorization import (
    MOST_TRIES,
    Authorization,
    Failure,
    LoginPhase,
    Obstacle,
    StepError,
    Way,
    check_at_hand,
    check_back,
    confirm,
    digest,
    fail,
    give_code,
    is_digest,
    normal_short_code,
)
from broker.core.errors import (
    BrokerError,
    OverloadedError,
    ProviderRefusedClientError,
    ProviderUnavailableError,
    RateLimitedError,
)
from broker.core.gcra import charge
from broker.core.models import Client, Grant, Provider, Window
from broker.core.oauth.authorization_request import (
    Callback,
    app_redirect,
    build_authorization_url,
    issuer_is_right,
)
from broker.core.oauth.rfc7636 import challenge_of
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.catalog_view import CatalogView
from broker.flows.connect_views import ConfirmView, ConnectError, Onward, ResultView, SignInView, WhoMayUse
from broker.flows.exchange_code import ExchangeCode
from broker.flows.login_secrets import open_verifier
from broker.flows.login_standing import LoginStanding, Place, is_anothers
from broker.flows.sign_in import MOVED, STATE_BYTES, SignIn, SignInError
from broker.flows.trail import Trail
from broker.ports import AuthorizationStore, Buckets, Cipher, Clock, GrantStore, LoginReading

MAX_ROUNDS: Final = 4
"""How often a step is tried anew because the login moved at the same moment."""

NOTHING_SENT: Final = (ProviderUnavailableError, ProviderRefusedClientError, RateLimitedError)
"""Why a code was not sent, and soon will not be: the person begins again."""

PAGES: Final = Window(rate=Fraction(20), burst=100)
"""Requests of one address: behind an ingress, of all people together."""
ALL_PAGES: Final = Window(rate=Fraction(50), burst=200)
"""Requests of all, so that nobody guessing at links keeps the store busy."""


class Connect:
    """The flow; one per process.

    `where` is a link's flow id, or the id of a login this browser has already; `browser` is what the browser's cookie
    holds, made by whoever serves the pages.
    """

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        logins: AuthorizationStore,
        grants: GrantStore,
        standing: LoginStanding,
        exchange: ExchangeCode,
        sign_in: SignIn,
        cipher: Cipher,
        clock: Clock,
        buckets: Buckets,
        random_text: Callable[[int], str],
    ) -> None:
        self._view = view
        self._logins = logins
        self._grants = grants
        self._standing = standing
        self._exchange = exchange
        self._sign_in = sign_in
        self._cipher = cipher
        self._clock = clock
        self._buckets = buckets
        self._random_text = random_text

    async def admit(self, address: str) -> None:
        """Let a request from this address be looked at.

        Raises:
            OverloadedError: there are too many.
        """
        charges = [charge("pages", ("pages", "address", address), PAGES), charge("pages", ("pages",), ALL_PAGES)]
        if not (await self._buckets.spend(charges)).allowed:
            raise OverloadedError("too many requests for pages", retry_after=1.0)

    async def open(self, where: Secret | str, browser: str) -> ConfirmView | SignInView:
        """Return what the person is to confirm, or where they have to sign in before they are told.

        Raises:
            ConnectError: there is nothing to confirm for this browser.
            BrokerError: the store is away.
        """
        reading = await self._reading(where, browser)
        login = reading.login
        try:
            check_at_hand(login, digest(browser), reading.now)
        except StepError as error:
            raise ConnectError(error.obstacle) from None
        grant, client, provider = await self._grant_of(login)
        place = self._place(login, provider)
        expires_in = (login.expires_at - reading.now) / 1000
        if place is not None:
            return SignInView(place.provider.name, expires_in)
        facts = login.facts
        return ConfirmView(
            person=login.person,
            starter=facts.starter,
            grant=grant.name,
            client=client.name,
            provider=provider.name,
            scopes=tuple(sorted(grant.scopes)),
            wire_scopes=facts.scopes,
            who_may_use=tuple(
                WhoMayUse(one.callers, tuple(sorted(one.scopes)))
                for one in policy.who_may_use(self._view.catalog.policies, grant.name)
            ),
            subject=grant.subject,
            connected_by=grant.person,
            has_token=grant.state.current is not None,
            any_subject=facts.any_subject,
            needs_code=bool(facts.short_code),
            app=origin_or_scheme(facts.app_redirect_uri) if facts.way is Way.APP else None,
            expires_in=expires_in,
        )

    async def confirm(self, where: Secret | str, browser: str, unverified_code: str, trail: Trail) -> Secret:
        """Return the provider's URL for a person who saw the page and typed the starter's code.

        It is the sign-in's URL as long as the person has to sign in first: then nothing is confirmed. The login is
        this browser's from now on.

        Raises:
            ConnectError: not so; a wrong code counts.
            BrokerError: the store is away.
        """
        for _ in range(MAX_ROUNDS):
            url = await self._confirmed(await self._reading(where, browser), browser, unverified_code, trail)
            if url is not None:
                return url
        raise ConnectError(Obstacle.OVER)

    async def _confirmed(
        self, reading: LoginReading, browser: str, unverified_code: str, trail: Trail
    ) -> Secret | None:
        """Confirm once; None when the login moved at the same moment, as after a second click."""
        login = reading.login
        _, client, provider = await self._grant_of(login)
        place = self._place(login, provider)
        if place is not None:
            return await self._to_sign_in(reading, provider, place, browser)
        state, code = self._random_text(STATE_BYTES), normal_short_code(unverified_code)
        typed = self._cipher.fingerprint(Secret(code)) if code else ""
        try:
            confirmed = confirm(login, digest(browser), typed, digest(state), reading.now)
        except StepError as error:
            refused = await self._refused(error, login, trail)
            if refused is None:
                return None
            raise refused from None
        verifier = await open_verifier(self._cipher, login, provider)
        if verifier is None:
            raise ConnectError(Obstacle.OVER)
        event = trail.event(Action.LOGIN_CONFIRM, self._clock.now(), **self._named(login))
        if not await self._logins.move_login(confirmed, event):
            return None
        url = build_authorization_url(
            provider,
            client_id=client.client_id,
            redirect_uri=login.facts.redirect_uri,
            scopes=login.facts.scopes,
            state=state,
            code_challenge=challenge_of(verifier.reveal()),
        )
        return Secret(url)

    async def callback(self, provider_name: str, callback: Callback, browser: str, trail: Trail) -> Onward:
        """Take what the provider, or the sign-in before it, sent with the browser, and say where to go.

        Raises:
            ConnectError: it belongs to no login of this browser.
            BrokerError: the store is away.
        """
        provider = self._view.catalog.providers.get(provider_name)
        if provider is None or not callback.unverified_state:
            raise ConnectError(Obstacle.WRONG_STATE)
        reading = await self._logins.find_by_state(digest(callback.unverified_state))
        if reading is None:
            raise ConnectError(Obstacle.WRONG_STATE)
        login = reading.login
        if login.phase is LoginPhase.STARTED:
            return await self._signed_in(reading, provider, callback, browser, trail)
        try:
            check_back(login, digest(browser), provider.id, reading.now)
        except StepError as error:
            raise ConnectError(error.obstacle) from None
        failure = _failure_in(callback, provider)
        if failure is not None:
            return await self._onward(await self._failed(login, failure, trail))
        found = await self._standing(login)
        if found is None or callback.code is None:
            why = Failure.GRANT_UNAVAILABLE if found is None else Failure.PROVIDER_ERROR
            return await self._onward(await self._failed(login, why, trail))
        return await self._onward(await self._exchanged(reading, found, callback.code, trail))

    async def result(self, result_id: str, browser: str) -> ResultView:
        """Return how the login of this browser stands.

        Raises:
            ConnectError: there is none, or another browser has it.
        """
        reading = await self._of_browser(result_id, browser)
        if reading is None:
            raise ConnectError(Obstacle.UNKNOWN)
        login = reading.login
        grant = await self._grants.get_grant(login.facts.grant_id) if login.phase is LoginPhase.CONNECTED else None
        return ResultView(
            id=login.facts.id,
            grant=login.facts.grant,
            phase=login.phase,
            failure=login.failure,
            granted=login.granted,
            subject=None if grant is None else grant.subject,
        )

    async def _to_sign_in(self, reading: LoginReading, provider: Provider, place: Place, browser: str) -> Secret | None:
        try:
            begun, url = await self._sign_in.begin(reading.login, provider, place, browser, reading.now)
        except StepError as error:
            raise ConnectError(error.obstacle) from None
        except SignInError as error:
            raise _not_signed_in(error, reading.login) from None
        return url if await self._logins.move_login(begun) else None

    async def _signed_in(
        self, reading: LoginReading, there: Provider, callback: Callback, browser: str, trail: Trail
    ) -> Onward:
        """Take what the sign-in sent with the browser; the login's own page comes next."""
        login = reading.login
        grant, _, provider = await self._grant_of(login)
        place = self._place(login, provider)
        if place is None or place.provider.id != there.id:
            raise ConnectError(Obstacle.WRONG_STATE)
        try:
            login = await self._sign_in.end(login, provider, place, callback, browser, reading.now, trail)
        except StepError as error:
            raise ConnectError(error.obstacle) from None
        except SignInError as error:
            raise _not_signed_in(error, login) from None
        if is_anothers(login, grant):
            login = await self._failed(login, Failure.SUBJECT_MISMATCH, trail)
            return await self._onward(login)
        return Onward(None, login.facts.id)

    async def _exchanged(
        self, reading: LoginReading, found: tuple[Grant, Client, Provider], code: Secret, trail: Trail
    ) -> Authorization:
        """Return the login after the exchange, or as it stands where that could not be ended now."""
        login = reading.login
        try:
            return await self._exchange(login, *found, code, reading.now, trail)
        except StepError as error:
            raise ConnectError(error.obstacle) from None
        except BrokerError as error:
            after = await self._logins.find_login(login.facts.id)
            if after is not None and after.login.phase is not LoginPhase.CONFIRMED:
                return after.login
            if not isinstance(error, NOTHING_SENT):  # the page may be loaded again: the state is not spent
                raise
            refused = isinstance(error, ProviderRefusedClientError)
            why = Failure.CLIENT_REFUSED if refused else Failure.PROVIDER_UNAVAILABLE
            return await self._failed(login, why, trail)

    async def _onward(self, login: Authorization) -> Onward:
        """Say where the browser goes: an app gets its own state, and a code of ours or an error (RFC 6749 §4.1.2)."""
        facts = login.facts
        if facts.way is not Way.APP:
            return Onward(None, facts.id)
        state = {"state": facts.app_state} if facts.app_state else {}
        if login.phase is not LoginPhase.RECEIVED:
            error = "access_denied" if login.failure is Failure.DENIED else "server_error"
            return Onward(Secret(app_redirect(facts.app_redirect_uri, {"error": error, **state})), None)
        code = self._random_text(STATE_BYTES)
        reading = await self._logins.find_login(facts.id)
        try:
            given = None if reading is None else give_code(reading.login, digest(code), reading.now)
        except StepError:
            given = None
        if given is None or not await self._logins.move_login(given):
            return Onward(Secret(app_redirect(facts.app_redirect_uri, {"error": "server_error", **state})), None)
        return Onward(Secret(app_redirect(facts.app_redirect_uri, {"code": code, **state})), None)

    async def _refused(self, error: StepError, login: Authorization, trail: Trail) -> ConnectError | None:
        """Return what is told of a step that was refused, after writing what it changed; None when it moved."""
        ended = error.ended
        if ended is None:
            return ConnectError(error.obstacle)
        over = ended.phase is LoginPhase.FAILED
        facts = self._named(login) | {"detail": Failure.TOO_MANY_TRIES.value}
        event = trail.event(Action.LOGIN_FAIL, self._clock.now(), **facts) if over else None
        if not await self._logins.move_login(ended, event):
            return None
        return ConnectError(Obstacle.TOO_MANY_TRIES if over else error.obstacle, MOST_TRIES - ended.tries)

    async def _failed(self, login: Authorization, failure: Failure, trail: Trail) -> Authorization:
        facts = self._named(login) | {"detail": failure.value}
        after = fail(login, failure)
        if await self._logins.move_login(after, trail.event(Action.LOGIN_FAIL, self._clock.now(), **facts)):
            return after
        reading = await self._logins.find_login(login.facts.id)
        return after if reading is None else reading.login

    def _place(self, login: Authorization, provider: Provider) -> Place | None:
        try:
            return self._sign_in.place(login, provider)
        except SignInError as error:
            raise _not_signed_in(error, login) from None

    async def _reading(self, where: Secret | str, browser: str) -> LoginReading:
        if isinstance(where, Secret):
            reading = await self._logins.find_login(digest(where.reveal()))
        else:
            reading = await self._of_browser(where, browser)
        if reading is None or reading.login.facts.way is Way.DIRECT:
            raise ConnectError(Obstacle.UNKNOWN)
        return reading

    async def _of_browser(self, login_id: str, browser: str) -> LoginReading | None:
        """Return the login of this id, if this browser has it."""
        reading = await self._logins.find_login(login_id) if is_digest(login_id) else None
        return reading if reading is not None and reading.login.browser == digest(browser) else None

    async def _grant_of(self, login: Authorization) -> tuple[Grant, Client, Provider]:
        found = await self._standing(login, yet_to_sign_in=True)
        if found is None or found[2].authorize_url is None:
            raise ConnectError(Obstacle.OVER)
        return found

    def _named(self, login: Authorization) -> dict[str, str]:
        facts = login.facts
        return {
            "grant": facts.grant,
            "scopes": " ".join(facts.scopes),
            "object_kind": "login",
            "object_name": facts.id[:16],
        }


def origin_or_scheme(uri: str) -> str:
    """Return what a person knows an app's redirect URI by."""
    scheme, _, rest = uri.partition(":")
    return origin_of(uri) if scheme in {"http", "https"} and rest else f"{scheme}:"


def _not_signed_in(error: SignInError, login: Authorization) -> ConnectError:
    moved = error.cause == MOVED  # the answer is being taken already
    return ConnectError(
        Obstacle.WRONG_STATE if moved else Obstacle.NOT_SIGNED_IN, cause=error.cause, login=login.facts.id[:16]
    )


def _failure_in(callback: Callback, provider: Provider) -> Failure | None:
    """Return why a callback ends its login before a code is sent anywhere."""
    if not issuer_is_right(callback, provider):
        return Failure.WRONG_ISSUER
    if callback.error == "access_denied":
        return Failure.DENIED
    return None if callback.error is None else Failure.PROVIDER_ERROR
