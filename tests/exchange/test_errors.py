"""One error for everything the API can answer, and nothing secret in it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from aries_exchange import AriesAPIError, AriesClient, AriesConnectionError
from aries_exchange.errors import MAX_MESSAGE, parse_error
from tests.exchange.conftest import CLIENT_ID, CLIENT_SECRET, Build, Sandbox

SHAPES = [
    (b'{"error": "user not found"}', "user not found"),
    (
        b'{"error": "Invalid password", "codes": [{"code": "INVALID_PASSWORD", "description": "wrong", "field": "p"}]}',
        "Invalid password: wrong",
    ),
    (b'{"error": "same", "codes": [{"code": "A", "description": "same"}], "metadata": {}}', "same"),
    (b'{"error": "odd", "codes": "none"}', "odd"),
    (
        b'{"error": {"type": "RATE_LIMIT", "code": "X", "message": "slow down", "details": {}, "request_id": "1"}}',
        "slow down",
    ),
    (b'{"error": {"type": "RATE_LIMIT", "code": "TOO_MANY"}}', "TOO_MANY"),
    (b'{"error": {"type": "INTERNAL"}, "meta": 1}', "INTERNAL"),
    (b'{"success": false, "error": {"type": "CONFLICT", "message": "closed"}}', "closed"),
    (b'{"error": "unauthorized", "message": "no such user"}', "unauthorized: no such user"),
    (b'{"error": "invalid_grant", "error_description": "spent"}', "invalid_grant: spent"),
    (b'{"message": "alone"}', "alone"),
    (b"", "Bad Request"),
    (b"<html><h1>Bad gateway</h1></html>", "Bad Request"),
    (b'{"error": 7}', "Bad Request"),
    (b'{"error": {"message": 7}}', "Bad Request"),
    (b"[1, 2]", "Bad Request"),
    (b'"text"', "Bad Request"),
    (b"\xff\xfe", "Bad Request"),
    (b"[" * 100_000, "Bad Request"),
    (b'{"error": "two\\nlines\\u001b[31m\\u202e"}', "two lines [31m"),
]


@pytest.mark.parametrize(("body", "message"), SHAPES, ids=[str(body[:40]) for body, _ in SHAPES])
def test_every_documented_shape_is_read(body: bytes, message: str) -> None:
    """The message is the documented one, on one line; a body that has none is not shown."""
    error = parse_error(400, body, {}, ())

    assert (400, message) == (error.status_code, error.message)


def test_an_unknown_status_is_named() -> None:
    """There is a message whatever came."""
    assert "HTTP status 599" == parse_error(599, b"", {}, ()).message


def test_a_long_message_is_cut() -> None:
    """It ends up in logs."""
    assert MAX_MESSAGE == len(parse_error(400, b'{"error": "%s"}' % (b"x" * 5000), {}, ()).message)


@pytest.mark.parametrize("secret", ["s3cret", 'quo"te', "sl\\ash", "ü"])
def test_a_message_that_quotes_a_secret_is_not_passed_on(secret: str) -> None:
    """As it is, or as JSON writes it."""
    quoting = [json.dumps({"error": f"no {secret}"}), json.dumps({"error": f"no {json.dumps(secret)}"})]
    messages = [parse_error(400, body.encode(), {}, ("", secret)).message for body in quoting]

    assert ["Bad Request"] * 2 == messages


def test_headers_are_found_in_any_case() -> None:
    """As HTTP has them; what opens sessions is left out."""
    error = AriesAPIError(429, "slow", {"retry-after": "3", "Set-Cookie": "session=1"})

    assert ("3", "3", None) == (
        error.headers.get("Retry-After"),
        error.headers.get("RETRY-AFTER"),
        error.headers.get("set-cookie"),
    )


def _pickled(error: AriesConnectionError) -> AriesConnectionError:
    """Return what comes out of a pickle."""
    copied: AriesConnectionError = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    return copied


def test_headers_may_be_left_out() -> None:
    """An app that makes the error in its own tests need not bring any."""
    assert "fallback" == AriesAPIError(500, "down").headers.get("Retry-After", "fallback")


@pytest.mark.parametrize("again", [copy.copy, _pickled], ids=["copy", "pickle"])
def test_an_error_survives_the_way_to_another_process(
    again: Callable[[AriesConnectionError], AriesConnectionError],
) -> None:
    """Pools of processes pickle it."""
    error = again(AriesConnectionError(0, "gone", {"A": "b"}, sent=False))

    assert (AriesConnectionError, False, 0, "gone", "b") == (
        type(error),
        error.sent,
        error.status_code,
        error.message,
        error.headers.get("a"),
    )


def test_an_error_is_shown_as_status_and_message() -> None:
    """For people."""
    error = AriesAPIError(403, "no", {"A": "b"})

    assert ("403: no", "AriesAPIError(403, 'no')", "gone") == (
        str(error),
        repr(error),
        str(AriesConnectionError(0, "gone")),
    )


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [("token", 401, "invalid_client: unknown client or wrong secret"), ("scope", 403, "the access token lacks")],
)
def test_what_the_documentation_tells_apart(
    sandbox: Sandbox, build: Build, path: str, status: int, message: str
) -> None:
    """A wrong secret is a 401, a missing scope a 403."""
    client = build(CLIENT_ID, "not-the-secret")
    if path == "scope":
        client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=sandbox.refresh_token(scopes=["order:information"]))
    with pytest.raises(AriesAPIError, match=message) as caught:
        client.users.get_current_user()

    assert status == caught.value.status_code


@pytest.mark.parametrize("body", ["huge", "truncated", "html", "empty", "echo"])
def test_no_reply_can_do_harm(sandbox: Sandbox, client: AriesClient, body: str) -> None:
    """Too long, cut off, another language, nothing, or our own request: there is an error with a short message."""
    client.users.get_current_user()
    sandbox.fail(count=9, target="api", status=400, body=body, when="after" if body == "truncated" else "before")
    with pytest.raises(AriesAPIError) as caught:
        client.users.get_current_user()

    assert len(caught.value.message) <= MAX_MESSAGE
    assert "x" * 20 not in caught.value.message


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 200, "body": "flat"},
        {"status": 200, "body": "html"},
        {"status": 302, "body": "empty", "headers": {"Location": "http://127.0.0.1:1/"}},
    ],
    ids=["another object", "no JSON", "a redirect"],
)
def test_an_answer_that_is_not_what_is_documented_is_an_error(
    sandbox: Sandbox, client: AriesClient, reply: dict[str, Any]
) -> None:
    """It is neither an exception of the language nor half of an object; a redirect is not followed."""
    client.users.get_current_user()
    sandbox.fail(target="api", **reply)
    with pytest.raises(AriesAPIError) as caught:
        client.users.get_current_user()

    assert reply["status"] == caught.value.status_code


def test_nothing_secret_is_shown_anywhere(
    sandbox: Sandbox, build: Build, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in what is printed of objects, nor in errors of a server that echoes, nor in logs at their loudest."""
    caplog.set_level(logging.DEBUG)
    refresh_token = sandbox.refresh_token()
    client = build(CLIENT_ID, CLIENT_SECRET, refresh_token=refresh_token)
    tokens = client.oauth2.refresh_token(refresh_token)
    sandbox.fail(status=400, body="echo")
    with pytest.raises(AriesAPIError) as token_error:
        client.users.get_current_user()
    client.users.get_current_user()
    sandbox.fail(target="api", status=400, body="echo")
    with pytest.raises(AriesAPIError) as api_error:
        client.users.get_current_user()
    shown = " ".join(
        [
            repr(client),
            repr(vars(client)),
            repr(tokens),
            *(f"{each.value!r} {each.value} {each.value.headers}" for each in (token_error, api_error)),
            caplog.text,
            *capfd.readouterr(),
        ]
    )
    secrets = [CLIENT_SECRET, refresh_token, tokens.access_token, tokens.refresh_token or "", "eyJ"]

    assert [] == [secret for secret in secrets if secret in shown]
