"""The vendor's published SDK, unmodified, against the sandbox: the measure of its faithfulness."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import httpx
import pytest
from finance_dev import FinanceDev, errors, models

from broker.sandbox import ClientSeed
from broker.sandbox.config import READ_SCOPES
from tests.support.sandbox import NO_AUTHORITIES, SandboxDriver, running_sandbox

Result = TypeVar("Result")
ACCOUNT = "TA-1001"
ORDER = {"symbol": "AAPL", "side": "BUY", "type": "LIMIT", "qty": "3", "price": "200.00", "time_in_force": "DAY"}


class Vendor:
    """The SDK with its own retries left off; calls run in a thread, the sandbox in this one."""

    def __init__(self, sandbox: SandboxDriver, client: ClientSeed) -> None:
        security = models.Security(
            client_id=client.client_id,
            client_secret=client.client_secret,
            token_url=sandbox.token_url,
        )
        self._http = httpx.Client(verify=NO_AUTHORITIES, trust_env=False)
        self.sdk = FinanceDev(security=security, server_url=sandbox.url, client=self._http, retry_config=None)

    async def call(self, method: Callable[..., Result], **arguments: object) -> Result:
        """Call a method of the SDK."""
        return await asyncio.to_thread(lambda: method(**arguments))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


@pytest.fixture
def client() -> ClientSeed:
    """A client of its own for each test: the SDK keeps tokens by client for the life of the process."""
    return ClientSeed("sdk-app", uuid.uuid4().hex)


@pytest.fixture
async def sandbox(client: ClientSeed) -> AsyncIterator[SandboxDriver]:
    """A sandbox that knows this client, and a reader with the same secret."""
    reader = ClientSeed("sdk-reader", client.client_secret, scopes=READ_SCOPES)
    async with running_sandbox(clients=(client, reader)) as driver:
        yield driver


@pytest.fixture
async def vendor(sandbox: SandboxDriver, client: ClientSeed) -> AsyncIterator[Vendor]:
    """The SDK as that client."""
    vendor = Vendor(sandbox, client)
    yield vendor
    vendor.close()


async def order_states(vendor: Vendor) -> dict[str | None, str | None]:
    """Return the active orders' ids and states."""
    answer = await vendor.call(vendor.sdk.orders.list_active_orders, id=ACCOUNT)
    assert answer is not None
    assert answer.get_orders_v2_response is not None
    return {order.cl_ord_id: order.ord_status for order in answer.get_orders_v2_response.orders or []}


async def test_accounts_balance_and_positions(vendor: Vendor) -> None:
    """The SDK lists accounts, and reads balance and positions of one."""
    accounts = (await vendor.call(vendor.sdk.accounts.get_user_accounts)).get_accounts_response
    assert accounts is not None
    assert ["TA-1001", "TA-1002"] == [account.trading_account_id for account in accounts.accounts]
    assert [models.AccountItemStatus.OPEN] * 2 == [account.status for account in accounts.accounts]
    balance = (await vendor.call(vendor.sdk.accounts.get_account_balance, id=ACCOUNT)).account_balance_v2
    assert balance is not None
    assert "25000.00" == balance.cash_balance
    held = (await vendor.call(vendor.sdk.accounts.get_account_positions, id=ACCOUNT)).get_positions_response
    assert held is not None
    assert [("AAPL", Decimal(40)), ("MSFT", Decimal(15))] == [
        (position.symbol, Decimal(position.quantity or 0)) for position in held.positions or []
    ]


@pytest.mark.parametrize("name", ["account_id", "trading_account_id"])
async def test_place_replace_cancel_and_list(vendor: Vendor, name: str) -> None:
    """The SDK places, replaces, cancels and lists orders, in both generations of the request."""
    orders = vendor.sdk.orders
    account = {name: ACCOUNT}
    placed = (await vendor.call(orders.place_order, request={**ORDER, **account})).ord_response
    assert placed is not None
    assert (True, models.OrdResponseStatus.NEW, "AAPL") == (placed.success, placed.status, placed.symbol)

    change = {"orig_cl_ord_id": placed.cl_ord_id, "symbol": "AAPL", "price": "201.00", **account}
    replaced = (await vendor.call(orders.replace_order, request=change)).replace_ord_response
    assert replaced is not None
    assert (True, "201.00", placed.cl_ord_id) == (replaced.success, replaced.price, replaced.orig_cl_ord_id)
    assert {placed.cl_ord_id: "REPLACED", replaced.cl_ord_id: "NEW"} == await order_states(vendor)

    target = {"orig_cl_ord_id": replaced.cl_ord_id, "symbol": "AAPL", "side": "BUY", **account}
    cancelled = (await vendor.call(orders.cancel_order, request=target)).cancel_ord_response
    assert cancelled is not None
    assert (True, "CANCELED") == (cancelled.success, cancelled.status)
    assert {placed.cl_ord_id: "REPLACED", replaced.cl_ord_id: "CANCELED"} == await order_states(vendor)

    since = datetime.now(UTC) - timedelta(days=1)
    history = await vendor.call(orders.list_order_history, id=ACCOUNT, from_=since, to=datetime.now(UTC))
    assert history is not None
    assert history.get_orders_v2_response is not None
    assert 2 == len(history.get_orders_v2_response.orders or [])


async def test_option_orders_and_previews(vendor: Vendor) -> None:
    """The SDK previews, places and lists a two-leg option order."""
    leg = {"position_effect": "OPEN", "ratio_qty": "1", "security_type": "OPT", "maturity": "2027-06-18"}
    legs = [
        {**leg, "side": "BUY", "put_call": "CALL", "strike_price": "230"},
        {**leg, "side": "SELL", "put_call": "CALL", "strike_price": "240"},
    ]
    request = {**ORDER, "trading_account_id": ACCOUNT, "legs": legs}
    preview = (await vendor.call(vendor.sdk.orders.preview_order, request=request)).preview_order_response
    assert preview is not None
    assert ("600.00", []) == (preview.estimated_cost, preview.errors)
    await vendor.call(vendor.sdk.orders.place_order, request=request)
    listed = await vendor.call(vendor.sdk.orders.list_active_orders, id=ACCOUNT)
    assert listed is not None
    assert listed.get_orders_v2_response is not None
    (order,) = listed.get_orders_v2_response.orders or []
    assert ("MULTI_LEG", ["BUY", "SELL"]) == (order.category, [leg.side for leg in order.legs or []])


async def test_it_asks_for_one_scope_at_a_time(vendor: Vendor, sandbox: SandboxDriver) -> None:
    """The SDK sends a form with the scope of the call, and works with a token that has just that."""
    await vendor.call(vendor.sdk.accounts.get_user_accounts)
    counters = await sandbox.counters()
    assert ("form", "account:information") == (
        counters["last_token_call"]["body"],
        counters["last_token_call"]["scope"],
    )
    assert ["account:information"] == counters["last_api_scopes"]


async def test_a_revoked_token_is_its_unauthorized(vendor: Vendor, sandbox: SandboxDriver) -> None:
    """A 401 is the SDK's Unauthorized, and the call after it gets a new token."""
    await vendor.call(vendor.sdk.accounts.get_user_accounts)
    await sandbox.revoke_access_tokens()
    with pytest.raises(errors.Unauthorized) as caught:
        await vendor.call(vendor.sdk.accounts.get_user_accounts)
    assert (401, errors.ErrorResponseData) == (caught.value.status_code, type(caught.value.data))
    await vendor.call(vendor.sdk.accounts.get_user_accounts)


async def test_a_missing_scope_is_its_forbidden(sandbox: SandboxDriver) -> None:
    """A 403 is the SDK's Forbidden: here the order of a client that may only read."""
    await sandbox.behave(unregistered_scope="drop")
    reader = Vendor(sandbox, sandbox.running.state.clients["sdk-reader"])
    with pytest.raises(errors.Forbidden) as caught:
        await reader.call(reader.sdk.orders.place_order, request={**ORDER, "account_id": ACCOUNT})
    reader.close()
    assert (403, errors.AuthenticationErrorEnvelopeData) == (caught.value.status_code, type(caught.value.data))


async def test_an_unknown_account_is_its_not_found(vendor: Vendor) -> None:
    """A 404 is the SDK's NotFound, with the nested body."""
    with pytest.raises(errors.NotFound) as caught:
        await vendor.call(vendor.sdk.accounts.get_account_balance, id="TA-9999")
    assert (404, "NOT_FOUND") == (caught.value.status_code, caught.value.raw_response.json()["error"]["type"])


async def test_a_wrong_order_is_its_bad_request(vendor: Vendor) -> None:
    """A 400 is the SDK's BadRequest."""
    with pytest.raises(errors.BadRequest) as caught:
        await vendor.call(vendor.sdk.orders.place_order, request={**ORDER, "account_id": ACCOUNT, "qty": "-3"})
    assert 400 == caught.value.status_code


@pytest.mark.parametrize("how", ["scripted", "allowance"])
async def test_429_is_its_api_error(vendor: Vendor, sandbox: SandboxDriver, how: str) -> None:
    """A 429 is the SDK's APIError with status 429 and Retry-After, where its own retries are off."""
    if how == "scripted":
        await sandbox.fail(target="api", status=429, body="nested", error="rate_limited", headers={"Retry-After": "3"})
    else:
        await sandbox.behave(api_requests=0, api_window_seconds=3)
    with pytest.raises(errors.APIError) as caught:
        await vendor.call(vendor.sdk.accounts.get_user_accounts)
    assert (429, "3") == (caught.value.status_code, caught.value.headers["Retry-After"])
