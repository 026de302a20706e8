"""StartAuthorization: a caller wants a person to log in for a grant.

pay ▸ may this caller? ▸ the grant can be authorized ▸ where the result goes ▸ code verifier made and sealed
▸ stored with its event ▸ the link, and the short code only the starter is shown
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from broker.core import policy, scopes
from broker.core.audit import Action
from broker.core.authorization import (
    LIFE_MS,
    MOST_OPEN,
    SHORT_CODE_LENGTH,
    SHORT_CODE_LETTERS,
    Authorization,
    AuthorizationFacts,
    Way,
    digest,
)
from broker.core.errors import (
    GrantHeldError,
    InvalidRequestError,
    NotFoundError,
    PolicyDeniedError,
    RateLimitedError,
    RoleRequiredError,
)
from broker.core.grant_state import Hold, held_because
from broker.core.identity import CallerId, Role
from broker.core.models import Client, Grant, GrantType, Kind, LimitTarget, Provider
from broker.core.oauth.authorization_request import scope_parameter
from broker.core.oauth.rfc7636 import VERIFIER_BYTES, challenge_of, is_challenge, verifier_of
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.catalog_view import CatalogView
from broker.flows.limits import Limiter
from broker.flows.login_standing import OPERATORS, place_of
from broker.flows.trail import Trail
from broker.ports import AuthorizationStore, Cipher, Clock

FLOW_ID_BYTES: Final = 32
MAX_APP_STATE: Final = 512
"""Longest `state` of an app, in characters."""


@dataclass(frozen=True, slots=True)
class AppRedirect:
    """Where an app wants the result, and what it brings to know it again; empty where it brought none."""

    uri: str
    state: str = ""
    code_challenge: str = ""


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """A caller's wish, fields as in the contract.

    Attributes:
        scopes: empty: all of the grant's.
        app, direct_redirect_uri: at most one of them.
        any_subject: the grant may become another person's.
    """

    caller: CallerId
    roles: AbstractSet[Role]
    grant: str
    client: str = ""
    scopes: tuple[str, ...] = ()
    app: AppRedirect | None = None
    direct_redirect_uri: str | None = None
    any_subject: bool = False


@dataclass(frozen=True, slots=True)
class DirectStart:
    """What the starter's own process needs to ask the provider itself."""

    url: str
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str


@dataclass(frozen=True, slots=True)
class StartedLogin:
    """A login that is open; `expires_in` in seconds. `url` holds the flow id, and both open the page."""

    flow_id: Secret
    url: Secret | None
    short_code: Secret | None
    expires_in: float
    direct: DirectStart | None


class StartAuthorization:
    """The flow; `public_url` is the origin people reach the pages at, None where there are none."""

    def __init__(  # noqa: PLR0913 - each is a port or a fact of the process
        self,
        *,
        view: CatalogView,
        logins: AuthorizationStore,
        cipher: Cipher,
        limiter: Limiter,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        public_url: str | None,
    ) -> None:
        self._view = view
        self._logins = logins
        self._cipher = cipher
        self._limiter = limiter
        self._clock = clock
        self._random_bytes = random_bytes
        self._public_url = public_url

    async def __call__(self, request: LoginRequest, trail: Trail) -> StartedLogin:
        """Open a login.

        Raises:
            BrokerError: why it cannot be.
        """
        await self._limiter.spend(LimitTarget.GET_TOKEN, {"caller": str(request.caller)})
        grant, client, provider = await self._permitted(request, trail)
        trail.client, trail.provider = client.name, provider.name
        _check_fits(request, grant, client, provider)
        if provider.connect_login is not None and place_of(provider, self._view.catalog) is None:
            raise _refusal(
                "grant", "people have to sign in first, and nobody can: operators have to see to connect_login"
            )
        way, redirect_uri = self._way(request, client, provider)
        flow_id = _text(self._random_bytes(FLOW_ID_BYTES))
        verifier = verifier_of(self._random_bytes(VERIFIER_BYTES))
        short_code = Secret(_short_code(self._random_bytes(8))) if way is Way.PAGE else None
        facts = AuthorizationFacts(
            id=digest(flow_id),
            grant_id=grant.id,
            grant=grant.name,
            client_id=client.id,
            provider_id=provider.id,
            starter=str(request.caller),
            way=way,
            scopes=tuple(sorted(scopes.expand(grant.scopes, provider))),
            redirect_uri=redirect_uri,
            app_redirect_uri="" if request.app is None else request.app.uri,
            app_state="" if request.app is None else request.app.state,
            app_challenge="" if request.app is None else request.app.code_challenge,
            short_code="" if short_code is None else self._cipher.fingerprint(short_code),
            any_subject=request.any_subject,
        )
        trail.scopes = " ".join(sorted(grant.scopes))
        sealed = await self._cipher.seal(Secret(verifier), facts.binding("verifier", origin_of(provider.token_url)))
        event = trail.event(Action.LOGIN_START, self._clock.now(), object_kind="login", object_name=facts.id[:16])
        if await self._logins.add_login(Authorization(facts, sealed, 0), LIFE_MS, MOST_OPEN, event) is None:
            raise RateLimitedError(
                f"{MOST_OPEN} logins of this caller are open: let some end, or cancel them",
                metadata={"limit": "open-logins"},
                retry_after=60.0,
            )
        return StartedLogin(
            flow_id=Secret(flow_id),
            url=None if way is Way.DIRECT else Secret(f"{self._public_url}/connect/{flow_id}"),
            short_code=short_code,
            expires_in=LIFE_MS / 1000,
            direct=_direct(facts, client, provider, challenge_of(verifier)) if way is Way.DIRECT else None,
        )

    async def _permitted(self, request: LoginRequest, trail: Trail) -> tuple[Grant, Client, Provider]:
        """Return the grant, if this caller may have people log in for it.

        Raises:
            PolicyDeniedError: it may not, or there is no such grant: the two look alike.
            NotFoundError: there is none, told to holders of a role.
        """
        catalog = self._view.catalog
        trail.grant = request.grant
        grant = await self._view.grant(request.grant)
        client = None if grant is None else catalog.clients.get(grant.client)
        provider = None if client is None else catalog.providers.get(client.provider)
        operates = bool(OPERATORS & request.roles)
        if request.any_subject and Role.ADMIN not in request.roles:
            raise RoleRequiredError("to give the grant to another person needs a role", metadata={"role": "admin"})
        requested = frozenset(request.scopes or (() if grant is None else grant.scopes))
        allowing = policy.may_authorize(
            catalog.policies, request.caller, request.grant, requested, provider, roles=frozenset(request.roles)
        )
        if not operates and allowing is None:
            raise PolicyDeniedError("no policy allows this caller to have a person log in for the grant and its scopes")
        if grant is None or client is None or provider is None:
            raise NotFoundError("there is no such grant", metadata={"kind": Kind.GRANT.value, "name": request.grant})
        if allowing is not None:
            trail.policy = allowing.name
        return grant, client, provider

    def _way(self, request: LoginRequest, client: Client, provider: Provider) -> tuple[Way, str]:
        """Return how the person logs in, and where the provider sends the browser.

        Raises:
            InvalidRequestError: not so.
        """
        if request.direct_redirect_uri is not None:
            if not client.direct_login or provider.direct_login_url is None:
                raise _refusal("direct", "the client does not allow the direct steps, or the provider has none")
            if provider.connect_login is not None:
                raise _refusal("direct", "people sign in first at this provider, and so need a browser")
            _check_registered("direct.redirect_uri", request.direct_redirect_uri, client)
            return Way.DIRECT, request.direct_redirect_uri
        if provider.authorize_url is None:
            raise _refusal("grant", "the grant's provider has no authorize_url: nobody can log in there")
        if self._public_url is None:
            raise _refusal("grant", "this broker has no pages: its operators have to set BROKER_PUBLIC_URL")
        redirect_uri = f"{self._public_url}/callback/{provider.name}"
        if request.app is None:
            return Way.PAGE, redirect_uri
        _check_app(request.app, client)
        return Way.APP, redirect_uri


def _check_fits(request: LoginRequest, grant: Grant, client: Client, provider: Provider) -> None:
    """Make sure that a login can bring what is asked.

    Raises:
        InvalidRequestError: the request does not fit the grant.
        GrantHeldError: operators hold the grant or its provider.
    """
    if grant.type is not GrantType.REFRESH_TOKEN:
        raise _refusal("grant", "people log in for grants of type refresh_token alone")
    if request.client and request.client != client.name:
        raise _refusal("client", "must be the grant's own client, or left out")
    if request.scopes:
        asked = scopes.resolve(scopes.parse_requested(request.scopes), provider)
        if asked != scopes.expand(grant.scopes, provider):
            told = (
                "must be all the grant's scopes, or left out: fewer or others need a grant, and a consent, of their own"
            )
            raise _refusal("scopes", told)
    if not scopes.expand(grant.scopes, provider):
        raise _refusal("grant", "the provider has no word for any of the grant's scopes")
    if provider.frozen or grant.state.hold is not Hold.NONE:
        if grant.state.hold is Hold.NONE:
            raise GrantHeldError("the grant's provider is frozen", cause="provider_frozen")
        raise GrantHeldError(held_because(grant.state), cause=str(grant.state.hold))


def _check_app(app: AppRedirect, client: Client) -> None:
    """Make sure that an app's redirect is registered, and that the app can know the answer again (RFC 9700 §4.7)."""
    _check_registered("app.redirect_uri", app.uri, client)
    if len(app.state) > MAX_APP_STATE or not all(" " <= char <= "~" for char in app.state):
        raise _refusal("app.state", f"has at most {MAX_APP_STATE} characters of printable ASCII")
    if app.code_challenge and not is_challenge(app.code_challenge):
        raise _refusal(
            "app.code_challenge", "must be an S256 challenge (RFC 7636 section 4.2), which has 43 characters"
        )
    if not app.state and not app.code_challenge:
        raise _refusal("app.state", "an app brings a state or an S256 challenge, so that it knows its own answers")


def _check_registered(field: str, uri: str, client: Client) -> None:
    if uri not in client.redirect_uris:
        raise _refusal(field, "must be exactly one of the client's redirect_uris")


def _refusal(field: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {problem}", fields={field: problem})


def _direct(facts: AuthorizationFacts, client: Client, provider: Provider, code_challenge: str) -> DirectStart:
    return DirectStart(
        url=provider.direct_login_url or "",
        client_id=client.client_id,
        redirect_uri=facts.redirect_uri,
        scope=scope_parameter(provider, facts.scopes),
        code_challenge=code_challenge,
    )


def _text(random_bytes: bytes) -> str:
    return base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()


def _short_code(random_bytes: bytes) -> str:
    number, letters = int.from_bytes(random_bytes), []
    for _ in range(SHORT_CODE_LENGTH):
        number, letter = divmod(number, len(SHORT_CODE_LETTERS))
        letters.append(SHORT_CODE_LETTERS[letter])
    return "".join(letters)
