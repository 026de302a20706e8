"""The client of the Aries credential broker: asks for short-lived access tokens, and for no more scope than needed.

    from aries_broker import Client

    with Client() as broker:
        token = broker.get_token(["read"])

Where the broker is and who is asking comes from arguments or from BROKER_ADDRESS, BROKER_API_KEY or BROKER_TOKEN_FILE,
BROKER_CA, BROKER_CERT and BROKER_CERT_KEY.
"""

from __future__ import annotations

from aries_broker.aio import AsyncClient
from aries_broker.client import Client
from aries_broker.connection import Connection
from aries_broker.errors import (
    BrokerError,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    ExhaustedError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)
from aries_broker.token import Narrowing, Token

__all__ = [
    "AsyncClient",
    "BrokerError",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "Connection",
    "DeadlineExceededError",
    "ExhaustedError",
    "InternalError",
    "InvalidRequestError",
    "Narrowing",
    "NotFoundError",
    "PermissionDeniedError",
    "PreconditionError",
    "Token",
    "UnauthenticatedError",
    "UnavailableError",
]
