"""The flows of logins wired over the store in memory; a test plays the starter, the browser and the provider."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from broker.adapters.memory.journal import MemoryJournal
from broker.core.audit import Action, AuditEvent
from broker.core.authorization import Authorization, LoginPhase, digest
from broker.core.identity import CallerId, Role
from broker.core.models import ApiKey, Client, GrantType, Origin, Policy, Provider, RoleBinding
from broker.core.oauth.authorization_request import parse_callback
from broker.core.secret import Secret
from broker.flows.catalog_view import CatalogView
from broker.flows.client_breaker import ClientBreaker
from broker.flows.complete_authorization import CompleteAuthorization, ShownLogin
from broker.flows.connect import Connect
from broker.flows.connect_views import ConfirmView, Onward
from broker.flows.drain_journal import DrainJournal
from broker.flows.end_token import EndToken
from broker.flows.exchange_code import ExchangeCode
from broker.flows.heart import Heart
from broker.flows.keep_received import KeepReceived
from broker.flows.limits import Limiter
from broker.flows.login_standing import LoginStanding
from broker.flows.prove_client import ProveClient
from broker.flows.provider_call import ProviderCall
from broker.flows.settle_login import SettleLogin
from broker.flows.sign_in import SignIn
from broker.flows.start_authorization import AppRedirect, LoginRequest, StartAuthorization, StartedLogin
from broker.flows.tend_logins import TendLogins
from broker.flows.trail import Trail
from tests.flows.world import ALL, PROVIDER, Signer, World, grant, new_world, tokens
from tests.support.times import TIMES

PUBLIC = "https://broker.example"
APP_URI = "https://app.example/cb"
HERS = "her-browser"
OPS = CallerId("key", "ops")
APP = CallerId("key", "portal")
RECEIVED = "canary-rt-login"
CODE = "canary-provider-code"
EVENT = AuditEvent(datetime(2026, 1, 1, tzinfo=UTC), Action.KEY_CREATE)

LOGIN_PROVIDER = replace(
    PROVIDER,
    authorize_url="https://login.example/authorize",
    direct_login_url="https://id.example/direct",
    revocation_url="https://id.example/revoke",
    subject_url="https://id.example/me",
)
LOGIN_CLIENT = Client("c1", "desk", Origin.RPC, "aries", "desk-app", redirect_uris=(APP_URI,), direct_login=True)


def id_token(subject: str = "ada", **claims: object) -> str:
    """Return an ID token of the provider's for our client."""
    members = {"iss": LOGIN_PROVIDER.issuer, "aud": "desk-app", "sub": subject} | claims
    body = base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


class Subjects:
    """The port Subjects; `answers` are a subject, None, or an exception to raise, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[str | Exception | None] = ["ada"]
        self.asked: list[str] = []

    async def find(self, provider: Provider, access_token: Secret) -> str | None:
        self.asked.append(access_token.reveal())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Logins:
    """One process's flows of logins, and what their tests need.

    Attributes:
        world: the store and the provider.
        start, complete, connect, tend: the flows.
        draining: set while the process is about to end.
    """

    world: World
    view: CatalogView
    start: StartAuthorization
    complete: CompleteAuthorization
    connect: Connect
    exchange: ExchangeCode
    tend: TendLogins
    drain: DrainJournal
    subjects: Subjects
    journal: MemoryJournal
    draining: asyncio.Event
    _numbers: Any = field(default_factory=lambda: count(1))

    async def started(self, name: str = "login", *, who: CallerId = OPS, **fields: Any) -> StartedLogin:  # noqa: ANN401
        """Start a login, as an operator unless told otherwise."""
        roles = frozenset({Role.OPERATOR}) if who == OPS else frozenset[Role]()
        wish = LoginRequest(**{"caller": who, "roles": roles, "grant": name, **fields})
        return await self.start(wish, Trail("Start", "peer", "r1", actor=str(who)))

    async def app_started(self, **fields: Any) -> StartedLogin:  # noqa: ANN401 - of the app's redirect
        """Start an app's login."""
        return await self.started(who=APP, app=AppRedirect(APP_URI, **({"state": "app-state"} | fields)))

    async def page(self, where: Secret | str, browser: str = HERS) -> ConfirmView:
        """Return what the person is to confirm."""
        shown = await self.connect.open(where, browser)
        assert isinstance(shown, ConfirmView)
        return shown

    async def confirmed(self, login: StartedLogin, browser: str = HERS) -> dict[str, str]:
        """Confirm a login; return the parameters of the authorization request."""
        code = "" if login.short_code is None else login.short_code.reveal()
        url = await self.connect.confirm(login.flow_id, browser, code, self.trail())
        return dict(parse_qsl(urlsplit(url.reveal()).query))

    async def back(
        self,
        query: Mapping[str, str],
        browser: str = HERS,
        provider: str = "aries",
        answer: Mapping[str, str | None] | None = None,
    ) -> Onward:
        """Send the browser back with the provider's answer to an authorization request."""
        told = {"code": CODE, "state": query["state"], **(answer or {})}
        callback = parse_callback({name: [value] for name, value in told.items() if value is not None})
        return await self.connect.callback(provider, callback, browser, self.trail())

    async def logged_in(self, login: StartedLogin, answer: object = None) -> Onward:
        """Go the whole way, the provider's token endpoint answering so."""
        query = await self.confirmed(login)
        self.world.endpoint.answers.append(gave() if answer is None else answer)  # type: ignore[arg-type]
        return await self.back(query)

    async def row(self, login: StartedLogin) -> Authorization:
        """Return a login as it is stored."""
        reading = await self.world.store.inner.find_login(digest(login.flow_id.reveal()))
        assert reading is not None
        return reading.login

    async def end(self, login: StartedLogin) -> tuple[LoginPhase, str]:
        """Return a login's phase, and its failure or nothing."""
        row = await self.row(login)
        return row.phase, "" if row.failure is None else row.failure.value

    async def get(self, login: StartedLogin, wait: float = 0.0, who: CallerId = OPS) -> ShownLogin:
        """Ask how a login stands."""
        return await self.complete.get(who, login.flow_id, wait, self.trail())

    def trail(self) -> Trail:
        """Return a trail."""
        return Trail("web", "peer", f"w{next(self._numbers)}")

    def events(self) -> list[AuditEvent]:
        """Return the events stored with steps so far, in order."""
        return list(self.world.store.inner._outbox.values())

    def subject(self, name: str = "login") -> str | None:
        """Return whose a grant is."""
        return self.world.store.inner._grants[f"id-{name}"].subject


def gave(**members: object) -> Any:  # noqa: ANN401 - a reply
    """Return the reply of a provider that granted all."""
    return tokens(**{"refresh_token": RECEIVED, "scope": " ".join(ALL), **members})


async def new_logins(
    provider: Provider = LOGIN_PROVIDER,
    client: Client = LOGIN_CLIENT,
    world: World | None = None,
    owner: str = "a",
    journal: MemoryJournal | None = None,
) -> Logins:
    """Return logins for a grant `login`, which `portal` may have people log in for, and `orders` use."""
    world = world or await _world(provider, client)
    store: Any = world.store
    view, journal = CatalogView(store, store), journal or MemoryJournal()
    await view.load()
    counted: Any = world.counted
    breaker = ClientBreaker(clock=world.clock, telemetry=counted)
    prove = ProveClient(secrets=store, cipher=world.keyring, signer=Signer(), breaker=breaker, clock=world.clock)
    limiter = Limiter(lambda: view.catalog.limits, view.catch_up, world.buckets)
    call = ProviderCall(
        prove_client=prove,
        breaker=breaker,
        endpoint=world.endpoint,
        limiter=limiter,
        clock=world.clock,
        telemetry=counted,
        refuse_sandbox=False,
    )
    subjects, random, draining = Subjects(), count(1), asyncio.Event()
    end_token = EndToken(prove_client=prove, breaker=breaker, endpoint=world.endpoint, telemetry=counted)
    parts: dict[str, Any] = {"view": view, "logins": store, "grants": store, "clock": world.clock}
    parts["standing"] = LoginStanding(view=view, grants=store, keys=store, clock=world.clock)
    settle = SettleLogin(**parts, cipher=world.keyring, subjects=subjects, end_token=end_token)
    exchange = ExchangeCode(
        logins=store,
        call=call,
        keep_received=KeepReceived(grants=store, logins=store, journal=journal, telemetry=counted, times=TIMES),
        settle=settle,
        cipher=world.keyring,
        clock=world.clock,
        owner=owner,
    )
    return Logins(
        world=world,
        view=view,
        start=StartAuthorization(
            view=view,
            logins=store,
            cipher=world.keyring,
            limiter=limiter,
            clock=world.clock,
            random_bytes=lambda length: next(random).to_bytes(length, "big"),
            public_url=PUBLIC,
        ),
        complete=CompleteAuthorization(
            **parts, exchange=exchange, settle=settle, limiter=limiter, is_draining=draining.is_set
        ),
        connect=Connect(
            **parts,
            exchange=exchange,
            sign_in=SignIn(
                view=view,
                logins=store,
                call=call,
                end_token=end_token,
                cipher=world.keyring,
                clock=world.clock,
                random_text=lambda length: f"sign-in-{next(random)}-{length}",
                public_url=PUBLIC,
            ),
            cipher=world.keyring,
            buckets=world.buckets,
            random_text=lambda length: f"random-{next(random)}-{length}",
        ),
        exchange=exchange,
        tend=TendLogins(logins=store, settle=settle, clock=world.clock, owner=owner),
        drain=DrainJournal(
            grants=store,
            logins=store,
            replicas=store,
            journal=journal,
            heart=Heart(replicas=store, clock=world.clock, owner=owner, volume=journal.volume, every=5.0),
            telemetry=counted,
            owner=owner,
        ),
        subjects=subjects,
        journal=journal,
        draining=draining,
    )


async def _world(provider: Provider, client: Client) -> World:
    world = await new_world(provider)
    may = Policy("id-may", "may", Origin.RPC, ("key:portal",), ("login",), frozenset({"read", "trade"}), authorize=True)
    use = Policy("id-use", "use", Origin.RPC, ("key:orders", "key:reports"), ("log*",), frozenset({"read"}))
    ops = [RoleBinding(f"id-{role}", role, Origin.RPC, role, (str(OPS),)) for role in (Role.ADMIN, Role.OPERATOR)]
    for caller in (OPS, APP):
        await world.store.inner.add_api_key(ApiKey(f"id-{caller.subject}", caller.subject, b"mac", "mac-1"), EVENT)
    await world.put(client, grant("login", GrantType.REFRESH_TOKEN), may, use, *ops)
    return world
