"""`AriesClient`: what the SDK's documentation calls the client."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, Self

from aries_exchange import wiring
from aries_exchange.accounts import Accounts
from aries_exchange.oauth2 import OAuth2
from aries_exchange.orders import Orders
from aries_exchange.settings import Given, Settings
from aries_exchange.timing import Timing
from aries_exchange.users import Users

REAL: Final = Timing()


class AriesClient:
    """Calls the Aries API, straight or with tokens of the broker; safe to share between threads.

    Attributes:
        users, accounts, orders: the API's calls.
    """

    def __init__(  # noqa: PLR0913 - the documented parameters, and where else they may come from
        self,
        client_id: str | None = None,
        client_secret: str | None = None,
        *,
        refresh_token: str | None = None,
        auto_refresh: bool = True,
        bearer_token: str | None = None,
        broker: str | None = None,
        grant: str | None = None,
        base_url: str | None = None,
        dotenv: str | os.PathLike[str] | None = None,
        timing: Timing = REAL,
    ) -> None:
        """Set up the client; nothing is sent before the first call.

        What is not given comes from ARIES_CLIENT_ID, ARIES_CLIENT_SECRET, ARIES_REFRESH_TOKEN, ARIES_BROKER,
        ARIES_GRANT and ARIES_BASE_URL. A secret given as an argument hides the refresh token and the broker of the
        environment, with a warning about the latter. Who is asking the broker stands in the BROKER_* variables.

        Args:
            client_id: the app's.
            client_secret: the app's; with it alone calls act for the app's owner.
            refresh_token: of a person; calls act for that person. Where Aries rotates it, the newest is in this client
                alone: an app that is started again needs one of its own, which a broker keeps for it.
            auto_refresh: replace access tokens that end or are refused; without it their 401 is the caller's.
            bearer_token: an access token; with a refresh token it is that one's first.
            broker: host:port of the broker; no secret is in this process then.
            grant: at the broker; may be left out when policy leaves this caller exactly one.
            base_url: of the API.
            dotenv: a file of variables such as `.env`, read only if it is named; the environment beats it.
            timing: clocks and waiting, for tests.

        Raises:
            ValueError: the arguments contradict each other, or there is nothing to go by.
            OSError: the file of variables cannot be read.
            aries_broker.ConfigurationError: the BROKER_* variables contradict each other or are unsafe.
        """
        given = Given(client_id, client_secret, refresh_token, bearer_token, broker, grant, base_url, dotenv)
        settings = Settings.resolve(given, os.environ)
        build = wiring.direct if settings.broker is None else wiring.through_broker
        self._parts = build(settings, timing, renews=auto_refresh)
        self.users = Users(self._parts.api)
        self.accounts = Accounts(self._parts.api)
        self.orders = Orders(self._parts.api, self.users, self.accounts)

    @property
    def oauth2(self) -> OAuth2:
        """The calls by which an app gets tokens of a person.

        Raises:
            ValueError: the client was built without a client_id.
        """
        if self._parts.oauth2 is None:
            raise ValueError("oauth2 needs a client_id: this client has a bearer token alone")
        return self._parts.oauth2

    @property
    def bearer_token(self) -> str | None:
        """The access token the caller set, which is used for every call and never replaced; None: the client's own.

        Raises:
            ValueError: what is set is no access token.
        """
        bearer = self._parts.api.bearer
        return None if bearer is None else bearer.value

    @bearer_token.setter
    def bearer_token(self, token: str | None) -> None:
        self._parts.api.set_bearer(token)

    def close(self) -> None:
        """Close all connections."""
        for close in self._parts.closes:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
