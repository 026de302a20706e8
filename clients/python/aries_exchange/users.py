"""`client.users`: who the token acts for, and that person's accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from aries_exchange import scopes
from aries_exchange.api import Api
from aries_exchange.fields import Body, items, optional_text, text, truth


@dataclass(frozen=True, slots=True)
class User:
    """A person with an Aries login; what Aries does not tell is empty, as are names today."""

    id: int
    email: str
    country: str = ""
    first_name: str = ""
    last_name: str = ""
    created_at: str = ""
    updated_at: str = ""

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the user of a reply."""
        optional = ("country", "first_name", "last_name", "created_at", "updated_at")
        return cls(int(text(body, "id")), text(body, "email"), *(optional_text(body, name) for name in optional))


@dataclass(frozen=True, slots=True)
class Account:
    """A trading account.

    Attributes:
        id: what every other call takes as `account_id`.
        status: OPEN, or why it is not; Aries may add values.
        account_type: INDIVIDUAL, JOINT and others.
        account_class: CASH, MARGIN and others.
        broker_account_id: its name at the clearing firm.
        is_sim: it trades on paper alone.
    """

    id: str
    status: str
    account_type: str = ""
    account_class: str = ""
    broker_account_id: str = ""
    is_sim: bool = False

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the account of an entry in the list, which is of the generation that names `trading_account_id`."""
        return cls(
            text(body, "trading_account_id"),
            text(body, "status"),
            optional_text(body, "account_type"),
            optional_text(body, "account_class"),
            optional_text(body, "broker_account_id"),
            truth(body, "is_sim"),
        )


class Users:
    """The calls about the person."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def get_current_user(self) -> User:
        """Return the person that the access token acts for.

        Raises:
            AriesAPIError: it was refused.
        """
        return self._api.get("/v1/users/me", scopes.USER, User.parse)

    def get_user_accounts(self) -> list[Account]:
        """Return the person's accounts.

        Raises:
            AriesAPIError: it was refused.
        """
        return self._api.get(
            "/v2/users/me/accounts",
            scopes.ACCOUNT,
            lambda body: [Account.parse(entry) for entry in items(body, "accounts")],
        )
