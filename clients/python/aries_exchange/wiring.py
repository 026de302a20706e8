"""Puts a client together: the one place that knows both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aries_broker import Client, Connection
from aries_exchange.api import Api
from aries_exchange.broker_authorization import GrpcAuthorization
from aries_exchange.broker_oauth2 import BrokerOAuth2
from aries_exchange.broker_tokens import BrokerTokens
from aries_exchange.direct_login import DirectLogin
from aries_exchange.direct_oauth2 import DirectOAuth2
from aries_exchange.fetchers import ByClient, ByRefreshToken
from aries_exchange.lineages import Lineages
from aries_exchange.oauth2 import OAuth2
from aries_exchange.settings import Settings
from aries_exchange.timing import Timing
from aries_exchange.token_endpoint import TokenEndpoint
from aries_exchange.tokens import AccessToken, Fetcher, KeptTokens
from aries_exchange.transport import Transport
from aries_exchange.urls import BASE_URL


@dataclass(frozen=True, slots=True)
class Parts:
    """What a client is made of.

    Attributes:
        api: sends the calls.
        oauth2: None where the app has no name at the token endpoint.
        closes: what to call in the end.
    """

    api: Api
    oauth2: OAuth2 | None
    closes: tuple[Callable[[], None], ...]


def direct(settings: Settings, timing: Timing, *, renews: bool) -> Parts:
    """Return a client that asks Aries' token endpoint itself."""
    transport = Transport(timing)
    base_url = settings.base_url or BASE_URL
    fetcher: Fetcher | None = None
    oauth2: OAuth2 | None = None
    if settings.app is not None:
        endpoint = TokenEndpoint(transport, base_url, settings.app, timing.monotonic)
        lineages = Lineages(endpoint)
        oauth2 = DirectOAuth2(settings.app.client_id, base_url, endpoint, lineages, DirectLogin(transport))
        if settings.refresh_token:
            fetcher = ByRefreshToken(endpoint, lineages, settings.refresh_token)
        elif settings.app.client_secret:
            fetcher = ByClient(endpoint)
    first = None
    if settings.refresh_token and settings.bearer_token:
        first = AccessToken(settings.bearer_token, None, None, base_url)
    tokens = None if fetcher is None else KeptTokens(fetcher, timing.monotonic, renews=renews, first=first)
    api = Api(transport, tokens, lambda: base_url, timing)
    if first is None:
        api.set_bearer(settings.bearer_token)
    return Parts(api, oauth2, (transport.close,))


def through_broker(settings: Settings, timing: Timing, *, renews: bool) -> Parts:
    """Return a client that asks the broker, and Aries' API with what it gets there."""
    transport = Transport(timing)
    broker = Client(settings.broker)
    logins = GrpcAuthorization(Connection.resolve(settings.broker))
    fetcher = BrokerTokens(broker, settings.grant, settings.base_url, timing.monotonic)
    api = Api(transport, KeptTokens(fetcher, timing.monotonic, renews=renews), fetcher.base_url, timing)
    oauth2 = BrokerOAuth2(settings.grant, logins, fetcher, DirectLogin(transport), api.was_refused)
    return Parts(api, oauth2, (transport.close, broker.close, logins.close))
