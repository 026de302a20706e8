"""Who the client is and where it goes: arguments, then the environment, then a `.env` that was asked for.

A credential given as an argument hides those of the environment, so that no two identities get mixed: a client that was
built with a secret does not act by a refresh token it was not given, nor through a broker it was not told of.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from dotenv import dotenv_values

from aries_exchange.token_endpoint import ClientCredentials
from aries_exchange.urls import BASE_URL, check_base_url

VARIABLES: Final = (
    "ARIES_BROKER",
    "ARIES_GRANT",
    "ARIES_CLIENT_ID",
    "ARIES_CLIENT_SECRET",
    "ARIES_REFRESH_TOKEN",
    "ARIES_BASE_URL",
)


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller gave, empty texts being none.

    Attributes:
        dotenv: a file of variables, read only when it is named here.
    """

    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    broker: str | None = None
    grant: str | None = None
    base_url: str | None = None
    dotenv: str | os.PathLike[str] | None = None

    @property
    def has_secret(self) -> bool:
        """Whether the caller brought a secret."""
        return bool(self.client_secret or self.refresh_token or self.bearer_token)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client is built from.

    Attributes:
        broker: host:port; None: straight to Aries.
        grant: at the broker; None: the one that policy leaves this caller.
        base_url: of Aries' API; None: where the broker's tokens are for.
        app: who the app is at the token endpoint; None: nobody.
    """

    broker: str | None = None
    grant: str | None = None
    base_url: str | None = None
    app: ClientCredentials | None = None
    refresh_token: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)

    @classmethod
    def resolve(cls, given: Given, environ: Mapping[str, str]) -> Self:
        """Complete what was given.

        Raises:
            ValueError: it contradicts itself, or there is nothing to go by.
            OSError: the file of variables cannot be read.
        """
        found = _variables(given.dotenv, environ)
        url = given.base_url or found.get("ARIES_BASE_URL")
        if given.broker and given.has_secret:
            raise ValueError("broker and a secret are given: with a broker no secret is in this process")
        address = given.broker or found.get("ARIES_BROKER")
        if address and not given.has_secret:
            return cls(address, given.grant or found.get("ARIES_GRANT"), check_base_url(url) if url else None)
        if given.grant:
            raise ValueError("grant is given without a broker")
        if address:
            _warn(address)
        return cls._direct(given, found, check_base_url(url or BASE_URL))

    @classmethod
    def _direct(cls, given: Given, found: Mapping[str, str], base_url: str) -> Self:
        client_id = given.client_id or found.get("ARIES_CLIENT_ID")
        client_secret = given.client_secret or found.get("ARIES_CLIENT_SECRET")
        refresh_token = given.refresh_token
        if not given.has_secret:
            refresh_token = found.get("ARIES_REFRESH_TOKEN")
        if refresh_token and not client_id:
            raise ValueError("a refresh token is good together with the client_id it was given to")
        if not client_id and not given.bearer_token:
            raise ValueError(
                "nothing to go by: give client_id and client_secret, bearer_token or broker, or set "
                "ARIES_CLIENT_ID and ARIES_CLIENT_SECRET, or ARIES_BROKER"
            )
        app = ClientCredentials(client_id, client_secret or None) if client_id else None
        return cls(
            base_url=base_url, app=app, refresh_token=refresh_token or None, bearer_token=given.bearer_token or None
        )


def _variables(dotenv: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables that are set; the environment's beat the file's, as with `load_dotenv`.

    In the file a value is what stands there: a secret may have a dollar sign.
    """
    in_file: Mapping[str, str | None] = {}
    if dotenv is not None:
        with Path(dotenv).open(encoding="utf-8") as stream:
            in_file = dotenv_values(stream=stream, interpolate=False)
    found = {name: environ.get(name) or in_file.get(name) for name in VARIABLES}
    return {name: value for name, value in found.items() if value}


def _warn(address: str) -> None:
    """Say it where the client is built; Python shows a warning of one place once."""
    warnings.warn(
        f"ARIES_BROKER names {address}, and this client was built with a secret: it goes straight to Aries. "
        "Leave the secrets out to go through the broker",
        RuntimeWarning,
        stacklevel=4,
    )
