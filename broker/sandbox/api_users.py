"""`/v1/users/me` and the two generations of a user's accounts."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.config import AccountSeed
from broker.sandbox.errors import ApiError
from broker.sandbox.state import AccessToken, State

_CREATED = "2026-01-05T14:30:00Z"


async def current_user(_request: Request, state: State, access: AccessToken) -> Response:
    """Return the person the token acts for; Aries gives no first or last name here."""
    user = state.users.get(access.user_id)
    if user is None:
        raise ApiError(404, "USER_NOT_FOUND", "no such user")
    return JSONResponse(
        {
            "id": user.id,
            "email": user.email,
            "country": user.country,
            "plaid_status": "VERIFIED",
            "account_application": {"id": user.id, "status": "APPROVED", "can_submit": False, "missing_fields": []},
            "created_at": _CREATED,
            "updated_at": _CREATED,
        },
    )


async def accounts_v1(_request: Request, state: State, access: AccessToken) -> Response:
    """Return the user's accounts, first generation: with a numeric `id`."""
    return JSONResponse({"accounts": [_account_v1(account) for account in state.accounts_of(access.user_id)]})


async def accounts_v2(_request: Request, state: State, access: AccessToken) -> Response:
    """Return the user's accounts, second generation: without `id`."""
    return JSONResponse({"accounts": [_account_v2(account) for account in state.accounts_of(access.user_id)]})


def _account_v1(account: AccountSeed) -> dict[str, Any]:
    return {
        "id": account.id,
        "fdid": f"FD{account.id}",
        "apex_id": account.broker_account_id,
        "apex_account_id": account.broker_account_id,
        "sterling_account_id": account.trading_account_id,
        "status": account.status,
        "is_sim": account.is_sim,
        "account_type": account.account_type,
        "account_class": account.account_class,
        "primary_user_id": account.user_id,
        "joint_user_id": None,
        "created_at": _CREATED,
        "updated_at": _CREATED,
    }


def _account_v2(account: AccountSeed) -> dict[str, Any]:
    return {
        "trading_account_id": account.trading_account_id,
        "broker_account_id": account.broker_account_id,
        "account_type": account.account_type,
        "account_class": account.account_class,
        "is_sim": account.is_sim,
        "status": account.status,
    }
