"""The provider's adapter with the Aries preset against the sandbox, well-behaved and not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from broker.adapters.http_exchange import HttpExchange
from broker.adapters.presets import resolve
from broker.adapters.provider_http import ProviderHttp
from broker.core.models import Origin
from broker.core.oauth.reply import Outcome, Reading, read_reply
from broker.core.oauth.rfc6749 import (
    ClientCredentials,
    ClientProof,
    HttpReply,
    RefreshToken,
    SendFailure,
    build_token_request,
)
from broker.core.provider_config import ProviderConfig
from broker.core.secret import Secret
from broker.ports import NotSentError, ReplyLostError
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.waiting import ENOUGH

SECRET = "desk-app-secret"
READ = frozenset({"account:information", "order:information", "position:information", "user:information"})
TRADE = frozenset({"order:execution"})


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxDriver]:
    """Return a sandbox of the test's own."""
    async with running_sandbox() as running:
        yield running


async def ask(
    sandbox: SandboxDriver,
    grant: ClientCredentials | RefreshToken,
    *,
    secret: str = SECRET,
    deadline: float = 5,
    refuse_sandbox: bool = False,
) -> Reading:
    """Send one token request of `desk-app` and read what came of it."""
    config = ProviderConfig("aries", "aries", base_url=sandbox.url, insecure_loopback=True)
    provider = resolve(config, None, provider_id="p1", origin=Origin.FILE)
    proof = ClientProof(provider.token_endpoint_auth, "desk-app", Secret(secret), None)
    request = build_token_request(provider, grant, proof)
    now = time.time()

    async def before_write() -> None:
        """Let it be written."""

    result: HttpReply | SendFailure
    try:
        result = await ProviderHttp(HttpExchange()).send(
            provider, request, before_write=before_write, reply_deadline=deadline
        )
    except NotSentError as error:
        result = SendFailure(sent=False, cause=error.cause)
    except ReplyLostError as error:
        result = SendFailure(sent=True, cause=error.cause, partial=error.partial)
    return read_reply(
        result, grant_type=grant.type, provider=provider, sent_at=now, now=now, refuse_sandbox=refuse_sandbox
    )


async def refresh(sandbox: SandboxDriver, **options: float) -> Reading:
    """Redeem a new refresh token for everything it covers."""
    token = Secret(await sandbox.refresh_token())
    return await ask(sandbox, RefreshToken(token), **options)  # type: ignore[arg-type]  # the deadline


async def test_client_credentials(sandbox: SandboxDriver) -> None:
    """The JSON token endpoint gives a token for exactly the scopes of `read`, for an hour."""
    reading = await ask(sandbox, ClientCredentials(READ))
    assert reading.tokens is not None
    assert (READ, READ, False) == (
        reading.tokens.reply_scopes,
        reading.tokens.unverified_claim_scopes,
        reading.tokens.lifetime_assumed,
    )
    assert 3590 < reading.tokens.expires_in <= 3600


async def test_a_refresh_rotates(sandbox: SandboxDriver) -> None:
    """A refresh brings a new refresh token; the old one sent again is refused for good."""
    first = Secret(await sandbox.refresh_token())
    reading = await ask(sandbox, RefreshToken(first, TRADE))
    assert reading.tokens is not None
    assert (Outcome.LANDED, TRADE, True) == (reading.outcome, reading.tokens.granted, reading.refresh_token != first)
    assert Outcome.REFUSED is (await ask(sandbox, RefreshToken(first))).outcome


async def test_a_wrong_secret_is_no_verdict(sandbox: SandboxDriver) -> None:
    """With a wrong client secret the refresh token is not spent."""
    token = RefreshToken(Secret(await sandbox.refresh_token()))
    wrong = await ask(sandbox, token, secret="wrong")
    assert (Outcome.NOT_CONSUMED, "invalid_client") == (wrong.outcome, wrong.cause)
    assert Outcome.LANDED is (await ask(sandbox, token)).outcome


async def test_where_sandboxes_are_refused(sandbox: SandboxDriver) -> None:
    """A sandbox's tokens are not used where they are refused; a refresh token is saved all the same."""
    own = await ask(sandbox, ClientCredentials(READ), refuse_sandbox=True)
    assert (None, "sandbox") == (own.tokens, own.cause)
    token = RefreshToken(Secret(await sandbox.refresh_token()))
    reading = await ask(sandbox, token, refuse_sandbox=True)
    assert (None, "sandbox", True) == (reading.tokens, reading.cause, reading.refresh_token is not None)


@pytest.mark.parametrize(
    ("failure", "outcome", "cause"),
    [
        ({"body": "flat", "status": 500}, "unknown", "status_5xx"),
        ({"body": "nested", "status": 503}, "unknown", "status_5xx"),
        ({"body": "rfc", "status": 400, "error": "invalid_grant"}, "refused", "invalid_grant"),
        ({"body": "flat", "status": 400, "error": "invalid_scope"}, "not_consumed", "invalid_scope"),
        ({"body": "nested", "status": 401, "error": "invalid_client"}, "not_consumed", "invalid_client"),
        ({"body": "empty", "status": 401}, "not_consumed", "unauthenticated"),
        ({"body": "empty", "status": 429, "headers": {"Retry-After": "3"}}, "not_consumed", "throttled"),
        ({"body": "html", "status": 502}, "unknown", "status_5xx"),
        ({"body": "html", "status": 200}, "unknown", "malformed"),
        ({"body": "huge", "status": 200}, "unknown", "too_large"),
        ({"body": "echo", "status": 400}, "unknown", "status_4xx"),
        ({"body": "echo", "status": 200}, "unknown", "error_in_success"),
        ({"body": "cut", "when": "after"}, "unknown", "reset"),
        ({"body": "drop", "when": "after"}, "unknown", "reset"),
        ({"body": "drop"}, "unknown", "reset"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
async def test_each_failure_of_a_refresh(
    sandbox: SandboxDriver, failure: dict[str, object], outcome: str, cause: str
) -> None:
    """Whatever Aries may answer, it has one outcome and a cause of ours."""
    await sandbox.fail(**failure)  # type: ignore[arg-type]  # fields of the failure
    reading = await refresh(sandbox)
    assert (outcome, cause) == (reading.outcome, reading.cause)


@pytest.mark.parametrize("body", ["hang", "drip"])
async def test_silence_ends_at_the_deadline(sandbox: SandboxDriver, body: str) -> None:
    """A reply that hangs or drips ends with the reply deadline."""
    await sandbox.fail(body=body, when="after", drip_seconds=0.01)
    reading = await asyncio.wait_for(refresh(sandbox, deadline=0.1), ENOUGH)
    assert ("unknown", "timeout") == (reading.outcome, reading.cause)
    await sandbox.clear_failures()


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        ({"access_token": "not a token"}, "access_token"),
        ({"token_type": "mac"}, "token_type"),
        ({"expires_in": -1}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"scope": 'a"b'}, "scope"),
    ],
)
async def test_a_wrong_reply_still_lands(sandbox: SandboxDriver, overrides: dict[str, object], cause: str) -> None:
    """However wrong the rest of a reply is, the rotated refresh token in it is saved and good."""
    await sandbox.behave(reply_overrides=overrides)
    reading = await refresh(sandbox)
    assert (Outcome.LANDED, cause, None) == (reading.outcome, reading.cause, reading.tokens)
    assert reading.refresh_token is not None
    await sandbox.behave(reply_overrides={})
    assert None is (await ask(sandbox, RefreshToken(reading.refresh_token))).error
