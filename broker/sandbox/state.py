"""All that the sandbox remembers, in memory."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.requests import Request

from broker.sandbox.behaviour import Behaviour
from broker.sandbox.config import AccountSeed, ClientSeed, SandboxConfig, UserSeed
from broker.sandbox.login_state import Logins, Tries
from broker.sandbox.script import Failure, Target


@dataclass
class Family:
    """A person's consent, and every refresh token that descends from it; dead once `revoked`."""

    number: int
    client_id: str
    user_id: int
    revoked: bool = False


@dataclass
class RefreshToken:
    """One refresh token; `successors` were given for it, the first at `used_at`.

    It is `superseded` once another use of the token it was given for took its place.
    """

    token: str = field(repr=False)
    family: Family
    scopes: frozenset[str]
    expires_at: float
    used_at: float | None = None
    successors: list[RefreshToken] = field(default_factory=list, repr=False)
    superseded: bool = False


@dataclass(frozen=True)
class AccessToken:
    """What an access token is good for; `refresh_token` came with it, or gave it where rotation is `none`."""

    client_id: str
    user_id: int
    scopes: frozenset[str]
    expires_at: float
    refresh_token: RefreshToken | None = None

    @property
    def family(self) -> Family | None:
        """The family it was given to; none for client credentials."""
        return None if self.refresh_token is None else self.refresh_token.family


@dataclass
class AuthorizationCode:
    """A code waiting for its exchange; `family` is set once it was used (RFC 6749 §4.1.2)."""

    client_id: str
    user_id: int
    scopes: frozenset[str]
    redirect_uri: str
    code_challenge: str | None
    code_challenge_method: str
    expires_at: float
    family: Family | None = None


@dataclass
class Order:
    """An order as the API shows it; `fields` are those of the request, checked."""

    cl_ord_id: str
    account: AccountSeed
    submitted_by: str
    fields: Mapping[str, Any]
    status: str
    created_at: float
    updated_at: float
    orig_cl_ord_id: str | None = None
    reject_reason: str | None = None


@dataclass
class Counters:
    """How the endpoints and the API were called since the start or the last reset.

    `reuses` are spent refresh tokens presented outside the rule; `families_ended` those that ended a family by it.
    """

    token_calls: int = 0
    token_outcomes: Counter[str] = field(default_factory=Counter)
    revocation_calls: int = 0
    revocation_outcomes: Counter[str] = field(default_factory=Counter)
    reuses: int = 0
    families_ended: int = 0
    api_calls: Counter[str] = field(default_factory=Counter)
    last_token_call: Mapping[str, object] = field(default_factory=dict)
    last_api_scopes: list[str] = field(default_factory=list)


@dataclass
class State:
    """The whole memory of one sandbox."""

    config: SandboxConfig
    behaviour: Behaviour
    clients: Mapping[str, ClientSeed]
    users: Mapping[int, UserSeed]
    signing_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    access_tokens: dict[str, AccessToken] = field(default_factory=dict, repr=False)
    refresh_tokens: dict[str, RefreshToken] = field(default_factory=dict, repr=False)
    family_numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)
    codes: dict[str, AuthorizationCode] = field(default_factory=dict, repr=False)
    logins: Logins = field(default_factory=Logins, repr=False)
    steps: Logins = field(default_factory=Logins, repr=False)
    tries: Tries = field(default_factory=Tries, repr=False)
    # By user and client.
    consents: dict[tuple[int, str], frozenset[str]] = field(default_factory=dict)
    assertion_ids: dict[str, float] = field(default_factory=dict, repr=False)
    orders: dict[str, Order] = field(default_factory=dict)
    failures: dict[Target, deque[Failure]] = field(default_factory=lambda: {target: deque() for target in Target})
    api_times: dict[str, deque[float]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    # Set when the sandbox stops or is reset: calls that hang, drip or are late then end.
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the configured clock, which decides everything here."""
        return self.config.now()

    def new_family(self, client_id: str, user_id: int) -> Family:
        """Return the family of a new consent, numbered from 1."""
        return Family(next(self.family_numbers), client_id, user_id)

    def account(self, user_id: int, path_id: str) -> AccountSeed | None:
        """Return the user's account with this trading account id or numeric id."""
        for account in self.accounts_of(user_id):
            if path_id in {account.trading_account_id, str(account.id)}:
                return account
        return None

    def accounts_of(self, user_id: int) -> list[AccountSeed]:
        """Return the user's accounts."""
        return [account for account in self.config.accounts if account.user_id == user_id]

    def orders_of(self, account: AccountSeed) -> list[Order]:
        """Return the account's orders, newest first."""
        return [order for order in reversed(self.orders.values()) if order.account is account]


def new_state(config: SandboxConfig) -> State:
    """Return the state a sandbox starts with."""
    return State(
        config=config,
        behaviour=config.behaviour,
        clients={client.client_id: client for client in config.clients},
        users={user.id: user for user in config.users},
    )


def state_of(request: Request) -> State:
    """Return the state of the sandbox that got this request."""
    return cast("State", request.app.state.sandbox)
