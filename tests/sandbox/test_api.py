"""Users, accounts, access: tokens, scopes, allowance."""

from __future__ import annotations

from decimal import Decimal

import pytest

from broker.sandbox import AccountSeed, ClientSeed, UserSeed
from broker.sandbox.config import DEFAULT_ACCOUNTS, READ_SCOPES
from tests.sandbox.requests import bearer
from tests.support.sandbox import FakeClock, SandboxDriver, running_sandbox

READS = [
    ("/v1/users/me", "user:information"),
    ("/v1/users/me/accounts", "account:information"),
    ("/v2/users/me/accounts", "account:information"),
    ("/v1/accounts/501/balances", "account:information"),
    ("/v2/accounts/TA-1001/balance", "account:information"),
    ("/v1/accounts/TA-1001/positions", "position:information"),
    ("/v1/accounts/TA-1001/orders", "order:information"),
    ("/v2/accounts/TA-1001/orders", "order:information"),
    ("/v2/accounts/TA-1001/orders/history?from=2027-01-01T00:00:00Z", "order:information"),
]
WRITES = ["/v1/orders", "/v1/orders/cancel", "/v1/orders/replace", "/v1/orders/preview"]


@pytest.mark.parametrize(("path", "scope"), READS)
async def test_a_read_needs_its_scope_alone(sandbox: SandboxDriver, path: str, scope: str) -> None:
    """Each read works with its one scope, and is a 403 with every other."""
    others = " ".join(sorted(READ_SCOPES - {scope}))
    allowed = await sandbox.http.get(path, headers=await bearer(sandbox, scope))
    refused = await sandbox.http.get(path, headers=await bearer(sandbox, others))
    assert (200, 403) == (allowed.status_code, refused.status_code)


@pytest.mark.parametrize("path", WRITES)
async def test_a_write_needs_order_execution(sandbox: SandboxDriver, path: str) -> None:
    """A token that may only read is a 403 at every order call; with order:execution it is heard."""
    refused = await sandbox.http.post(path, json={}, headers=await bearer(sandbox, " ".join(READ_SCOPES)))
    heard = await sandbox.http.post(path, json={}, headers=await bearer(sandbox, "order:execution"))
    assert (403, "AUTHORIZATION", 400) == (
        refused.status_code,
        refused.json()["error"]["type"],
        heard.status_code,
    )


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}])
async def test_no_token_is_a_401_in_the_shape_of_the_route(sandbox: SandboxDriver, header: dict[str, str]) -> None:
    """Without a good token users answer a flat 401, orders a nested one."""
    users = await sandbox.http.get("/v1/users/me", headers=header)
    orders = await sandbox.http.post("/v1/orders", json={}, headers=header)
    assert (401, 401) == (users.status_code, orders.status_code)
    assert (str, dict) == (type(users.json()["error"]), type(orders.json()["error"]))


async def test_revoked_access_tokens_are_401(sandbox: SandboxDriver) -> None:
    """An access token that was revoked is unknown."""
    header = await bearer(sandbox)
    await sandbox.revoke_access_tokens()
    assert 401 == (await sandbox.http.get("/v1/users/me", headers=header)).status_code


async def test_the_current_user(sandbox: SandboxDriver) -> None:
    """`/v1/users/me` has id, email and country, and no names."""
    user = (await sandbox.http.get("/v1/users/me", headers=await bearer(sandbox))).json()
    assert (1001, "ada@example.com", "USA") == (user["id"], user["email"], user["country"])
    assert set() == {"first_name", "last_name"} & set(user)


async def test_the_two_generations_of_accounts(sandbox: SandboxDriver) -> None:
    """The first generation has a numeric id, the second only the trading account id."""
    header = await bearer(sandbox)
    first = (await sandbox.http.get("/v1/users/me/accounts", headers=header)).json()["accounts"]
    second = (await sandbox.http.get("/v2/users/me/accounts", headers=header)).json()["accounts"]
    assert [501, 502] == [account["id"] for account in first]
    assert [("TA-1001", None), ("TA-1002", None)] == [
        (account["trading_account_id"], account.get("id")) for account in second
    ]


async def test_amounts_are_decimal_strings(sandbox: SandboxDriver) -> None:
    """Balances and positions are strings with cents, and add up."""
    header = await bearer(sandbox)
    balance = (await sandbox.http.get("/v1/accounts/501/balances", headers=header)).json()
    positions = (await sandbox.http.get("/v1/accounts/501/positions", headers=header)).json()["positions"]
    value = sum(Decimal(position["marketValue"]) for position in positions)
    assert ("25000.00", "25000.00") == (balance["cashBalance"], balance["netBuyingPower"])
    assert Decimal(balance["balance"]) == Decimal(balance["cashBalance"]) + value


async def test_accounts_of_others_are_not_there(clock: FakeClock) -> None:
    """An account that is unknown or another user's is a nested 404."""
    async with running_sandbox(
        now=clock,
        clients=(ClientSeed("desk-app", "desk-app-secret"),),
        users=(UserSeed(1001, "ada@example.com"), UserSeed(1002, "bob@example.com")),
        accounts=(*DEFAULT_ACCOUNTS, AccountSeed("TA-9", 9, 1002, "5AR00009")),
    ) as sandbox:
        header = await bearer(sandbox)
        answers = [await sandbox.http.get(f"/v2/accounts/{name}/balance", headers=header) for name in ("TA-9", "x")]
    assert [(404, "NOT_FOUND")] * 2 == [(answer.status_code, answer.json()["error"]["type"]) for answer in answers]


async def test_the_allowance_is_per_client_and_slides(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """Past `api_requests` in the window calls are 429 with Retry-After, until the window has moved on."""
    await sandbox.behave(api_requests=2, api_window_seconds=10)
    header = await bearer(sandbox)
    first = [await sandbox.http.get("/v1/users/me", headers=header) for _ in range(3)]
    clock.advance(float(first[2].headers["Retry-After"]))
    then = await sandbox.http.get("/v1/users/me", headers=header)
    assert [200, 200, 429, 200] == [response.status_code for response in (*first, then)]
    assert "10" == first[2].headers["Retry-After"]


async def test_the_last_scopes_seen_are_told(sandbox: SandboxDriver) -> None:
    """The counters tell what the API saw: calls by route and status, and the scopes of the last token."""
    await sandbox.http.get("/v1/users/me", headers=await bearer(sandbox, "user:information"))
    counters = await sandbox.counters()
    assert ({"GET /v1/users/me 200": 1}, ["user:information"]) == (
        counters["api_calls"],
        counters["last_api_scopes"],
    )
