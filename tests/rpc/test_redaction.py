"""Secret-bearing fields of the contract, and that no message can reach a log line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from google.protobuf.descriptor import Descriptor

from broker.rpc.methods import METHODS

BROKER = Path(__file__).parents[2] / "broker"
LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "msg", "bind", "log"}
MESSAGE_NAMES = {"request", "reply", "response", "message"}


def _all_messages() -> dict[str, Descriptor]:
    """Return every message a method takes or gives, and those inside them, by full name."""
    seen: dict[str, Descriptor] = {}
    waiting = [cast("Descriptor", side.DESCRIPTOR) for row in METHODS.values() for side in (row.request, row.reply)]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name not in seen:
            seen[descriptor.full_name] = descriptor
            waiting += [field.message_type for field in descriptor.fields if field.message_type is not None]
    return seen


def test_the_fields_that_carry_secrets_are_known() -> None:
    """A new secret-bearing field has to be added here, and to be turned into a Secret at the edge."""
    marked = {
        f"{name}.{field.name}"
        for name, descriptor in _all_messages().items()
        for field in descriptor.fields
        if field.GetOptions().debug_redact
    }
    assert {
        "aries.broker.v1.GetTokenResponse.access_token",
        "aries.broker.v1.StartAuthorizationResponse.flow_id",
        "aries.broker.v1.StartAuthorizationResponse.authorization_url",
        "aries.broker.v1.StartAuthorizationResponse.short_code",
        "aries.broker.v1.AppCode.code",
        "aries.broker.v1.AppCode.code_verifier",
        "aries.broker.v1.DirectCode.flow_id",
        "aries.broker.v1.DirectCode.code",
        "aries.broker.v1.GetAuthorizationRequest.flow_id",
        "aries.broker.v1.CancelAuthorizationRequest.flow_id",
        "aries.broker.admin.v1.ClientSecret.secret",
        "aries.broker.admin.v1.AddFirstClientSecretRequest.secret",
        "aries.broker.admin.v1.ImportRefreshTokenRequest.refresh_token",
        "aries.broker.admin.v1.CreateApiKeyResponse.api_key",
    } == marked


def test_fields_that_sound_secret_are_marked() -> None:
    """A string field with a telling name is marked, or it is one of those that name a secret without being one."""
    harmless = {
        "page_token",
        "next_page_token",
        "token_type",
        "token_url",
        "token_endpoint_auth",
        "token_file",  # where a token is, not the token
        "token_origin",
        "first_secrets",  # whose
    }
    unmarked = {
        f"{name}.{field.name}"
        for name, descriptor in _all_messages().items()
        for field in descriptor.fields
        if field.type == field.TYPE_STRING
        and any(word in field.name for word in ("secret", "token", "password", "api_key"))
        and field.name not in harmless
        and not field.GetOptions().debug_redact
    }
    assert set() == unmarked


def _logged_messages(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of log calls whose arguments mention a message."""
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.asname or alias.name).endswith("_pb2")
    }
    names = set(MESSAGE_NAMES)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None and _of(node.annotation, modules):
            names.add(node.arg)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _of(node.value.func, modules):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LOGGING
            and isinstance(node.func.value, ast.Name)
            and "log" in node.func.value.id.lower()
        ):
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            mentioned = {part.id for argument in arguments for part in ast.walk(argument) if isinstance(part, ast.Name)}
            if mentioned & (names | modules):
                yield node.lineno


def _of(node: ast.AST, modules: set[str]) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules


def test_no_message_reaches_a_logger() -> None:
    """`debug_redact` redacts nothing in Python, so a message is never an argument of a log call."""
    found = [
        f"{path.relative_to(BROKER)}:{line}"
        for path in sorted(BROKER.rglob("*.py"))
        for line in _logged_messages(ast.parse(path.read_text()))
    ]
    assert [] == found


def test_the_search_finds_what_it_looks_for() -> None:
    """The check sees a message under any of its names."""
    text = """
from aries.broker.v1 import token_pb2
def f(wish: token_pb2.GetTokenRequest, other):
    made = token_pb2.GetTokenResponse()
    log.info("a", wish=wish)
    log.info("b", made=str(made))
    logger.warning(other.request, reply)
    log.info("fine", other=other)
"""
    assert [5, 6, 7] == sorted(_logged_messages(ast.parse(text)))
