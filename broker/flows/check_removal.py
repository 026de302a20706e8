"""No grant is forgotten while a provider still honours its refresh token: nobody could revoke that any more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.core.config import Problem
from broker.core.config_values import Configured
from broker.core.grant_state import holds_live_token
from broker.core.models import Grant, GrantType
from broker.ports import GrantStore

LIVES: Final = (
    "the grant {name!r} holds a refresh token that its provider may still honour: revoke it first, with "
    "`aries-broker admin grants revoke {name}`"
)


async def removal_problems(grants: GrantStore, removed: Iterable[Configured]) -> list[Problem]:
    """Return why objects cannot be removed; the store looks once more when it writes (`LiveGrantError`).

    Raises:
        StoreUnavailableError: the store is away.
    """
    found = []
    for value in removed:
        if isinstance(value, Grant) and value.type is GrantType.REFRESH_TOKEN:
            whole = await grants.get_grant(value.id)
            if whole is not None and holds_live_token(whole.state):
                found.append(Problem("grants", LIVES.format(name=value.name)))
    return found
