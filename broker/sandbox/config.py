"""Settings of the sandbox, and the clients, users and accounts it starts with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from broker.sandbox.behaviour import Behaviour

READ_SCOPES = frozenset(
    {
        "user:information",
        "account:information",
        "position:information",
        "order:information",
        "market:information",
        "market:supplemental",
        "calendar:information",
        "options:information",
        "analytics:information",
        "watchlist:information",
    },
)
# What Aries documents, and the two it does not: nothing of the API asks for them, but a server could grant them.
WIRE_SCOPES = READ_SCOPES | {"user:management", "watchlist:management", "order:execution", "withdraw", "admin"}


class AuthMethod(StrEnum):
    """How a client proves itself at the token endpoint (RFC 7591 §2; `client_secret_json` is Aries' own)."""

    BASIC = "client_secret_basic"
    FORM = "client_secret_post"
    JSON = "client_secret_json"
    PRIVATE_KEY_JWT = "private_key_jwt"
    NONE = "none"


@dataclass(frozen=True)
class ClientSeed:
    """A registered client; without `auth_method`, whatever it has a credential for is accepted.

    `owner` is the id of the user a client_credentials token acts for. `jwks` (a JWK set) or `public_key`
    (PEM) verifies its assertions. `name` is what people who log in are shown; empty: the `client_id`. A code is sent to
    one of the `redirect_uris`, compared as they stand: of loopback too the port has to be the registered one.
    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: frozenset[str] = READ_SCOPES | {"order:execution"}
    auth_method: AuthMethod | None = None
    jwks: Mapping[str, Any] | None = None
    public_key: str | None = None
    owner: int = 1001
    name: str = ""
    redirect_uris: tuple[str, ...] = ()

    @property
    def shown_name(self) -> str:
        """What people are told it is called."""
        return self.name or self.client_id

    @property
    def is_public(self) -> bool:
        """Whether it has nothing to authenticate with, so that its codes want PKCE (RFC 7636)."""
        return self.client_secret is None and self.jwks is None and self.public_key is None


@dataclass(frozen=True)
class UserSeed:
    """A person with an Aries login, which nobody can use who has no `password`; with `mfa` it wants `mfa_code` too."""

    id: int
    email: str
    country: str = "USA"
    password: str | None = field(default=None, repr=False)
    mfa: bool = False
    mfa_code: str = field(default="123456", repr=False)


@dataclass(frozen=True)
class PositionSeed:
    """Shares held; `price` is also what the symbol is worth."""

    symbol: str
    quantity: Decimal
    average_price: Decimal
    price: Decimal


@dataclass(frozen=True)
class AccountSeed:
    """A trading account; its path id may be `trading_account_id` or `id`."""

    trading_account_id: str
    id: int
    user_id: int
    broker_account_id: str
    account_type: str = "INDIVIDUAL"
    account_class: str = "CASH"
    is_sim: bool = True
    status: str = "OPEN"
    cash: Decimal = Decimal("25000.00")
    positions: tuple[PositionSeed, ...] = ()


DEFAULT_CLIENTS = (
    ClientSeed("desk-app", "desk-app-secret", name="Desk", redirect_uris=("http://127.0.0.1:8080/callback/aries",)),
)
DEFAULT_USERS = (
    UserSeed(1001, "ada@example.com", password="correct horse", mfa=True),  # noqa: S106 - opens nothing but a sandbox
    UserSeed(1003, "grace@example.com", password="battery staple"),  # noqa: S106 - the same
)
DEFAULT_ACCOUNTS = (
    AccountSeed(
        "TA-1001",
        501,
        1001,
        "5AR00501",
        positions=(
            PositionSeed("AAPL", Decimal(40), Decimal("171.20"), Decimal("228.10")),
            PositionSeed("MSFT", Decimal(15), Decimal("402.00"), Decimal("415.75")),
        ),
    ),
    AccountSeed(
        "TA-1002",
        502,
        1001,
        "5AR00502",
        account_class="MARGIN",
        is_sim=False,
        cash=Decimal("90000.00"),
        positions=(PositionSeed("SPY", Decimal(100), Decimal("488.05"), Decimal("561.30")),),
    ),
    AccountSeed("TA-1003", 503, 1003, "5AR00503"),
)


@dataclass(frozen=True)
class SandboxConfig:
    """Everything the sandbox is started with.

    `issuer` is what access tokens name and client assertions must be addressed to; empty: the URL served.
    `admin_token` empty: one is made. `admin_token_file`: where `run` writes it instead of printing it.
    `now` returns seconds since the epoch.
    """

    clients: tuple[ClientSeed, ...] = DEFAULT_CLIENTS
    users: tuple[UserSeed, ...] = DEFAULT_USERS
    accounts: tuple[AccountSeed, ...] = DEFAULT_ACCOUNTS
    behaviour: Behaviour = field(default_factory=Behaviour)
    refresh_token_prefix: str = "art_"  # noqa: S105, no token
    issuer: str = ""
    admin_token: str = field(default="", repr=False)
    admin_token_file: Path | None = None
    now: Callable[[], float] = time.time
