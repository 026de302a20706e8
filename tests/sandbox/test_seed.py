"""Seed files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from broker.sandbox import SandboxConfig, load_seed, with_flags
from broker.sandbox.config import AuthMethod

SEED = """
clients:
  - client_id: research
    client_secret: canary-secret
    name: Research
    redirect_uris: ["https://app.example.com/callback", "com.example.app:/callback"]
    scopes: [user:information, withdraw]
    auth_method: client_secret_json
    owner: 7
users:
  - {id: 7, email: eve@example.com, password: canary-password, mfa: true, mfa_code: "012345"}
accounts:
  - trading_account_id: TA-7
    id: 7
    user_id: 7
    broker_account_id: 5AR00007
    cash: 10.50
    positions:
      - {symbol: AAPL, quantity: 2, average_price: "1.5", price: 3}
behaviour:
  narrowing: sticky
  access_token_seconds: 2
"""


def written(tmp_path: Path, text: str) -> Path:
    """Return a file with this text."""
    path = tmp_path / "seed.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_seed_names_clients_users_accounts_and_behaviour(tmp_path: Path) -> None:
    """Everything a seed file says is in the configuration."""
    config = load_seed(written(tmp_path, SEED))
    (client,), (user,), (account,) = config.clients, config.users, config.accounts
    assert ("research", "canary-secret", 7) == (client.client_id, client.client_secret, client.owner)
    assert frozenset({"user:information", "withdraw"}) == client.scopes
    assert AuthMethod.JSON == client.auth_method
    assert ("Research", ("https://app.example.com/callback", "com.example.app:/callback")) == (
        client.shown_name,
        client.redirect_uris,
    )
    assert ("canary-password", True, "012345") == (user.password, user.mfa, user.mfa_code)
    assert (user.email, account.cash) == ("eve@example.com", Decimal("10.5"))
    assert (account.positions[0].symbol, account.positions[0].average_price) == ("AAPL", Decimal("1.5"))
    assert ("sticky", 2) == (config.behaviour.narrowing, config.behaviour.access_token_seconds)


@pytest.mark.parametrize("text", ["", "clients: []"])
def test_what_is_left_out_is_the_default(tmp_path: Path, text: str) -> None:
    """Sections that are missing or empty keep the default seed."""
    config, default = load_seed(written(tmp_path, text)), SandboxConfig()
    assert (default.clients, default.users, default.accounts) == (config.clients, config.users, config.accounts)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "cliemts: []",
        "clients: {}",
        "clients: [desk-app]",
        "clients: [{client_id: a, secret: b}]",
        "clients: [{client_secret: b}]",
        "clients: [{client_id: a, auth_method: handshake}]",
        "clients: [{client_id: a, redirect_uris: 'https://a.example/'}]",
        "clients: [{client_id: a, redirect_uris: [1]}]",
        "clients: [{client_id: a, redirect_uris: [/callback]}]",
        "clients: [{client_id: a, redirect_uris: ['https://a.example/#b']}]",
        "clients: [{client_id: a, redirect_uris: ['https://a.example/ b']}]",
        "users: [{id: 1}]",
        "users: [{id: 1, email: a, password: 1}]",
        "users: [{id: 1, email: a, mfa: 1}]",
        "users: [{id: 1, email: a, mfa_code: 123456}]",
        "users: [{id: 1, email: a, mfa_code: '12345'}]",
        "behaviour: {narrowing: sideways}",
    ],
)
def test_a_wrong_seed_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is no such YAML is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        load_seed(written(tmp_path, text))


def test_flags_are_entries_of_a_seed() -> None:
    """A flag names a client, user or account as a seed file does, or changes one switch."""
    config = with_flags(
        SandboxConfig(),
        clients=["{client_id: a, client_secret: b}", "{client_id: c}"],
        behaviour=["rotation=none", "access_token_seconds=5", "wider_scopes=[withdraw]"],
    )
    assert [("a", "b"), ("c", None)] == [(client.client_id, client.client_secret) for client in config.clients]
    assert SandboxConfig().accounts == config.accounts
    assert ("none", 5, ("withdraw",)) == (
        config.behaviour.rotation,
        config.behaviour.access_token_seconds,
        config.behaviour.wider_scopes,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("revocation", "on"), ("revocation", "off"), ("revocation", "unsupported"), ("metadata", "off"), ("iss", "on")],
)
def test_on_and_off_are_words(name: str, value: str) -> None:
    """A switch with the choices `on` and `off` takes them as they are typed, which YAML reads as truth values."""
    config = with_flags(SandboxConfig(), behaviour=[f"{name}={value}"])
    assert value == config.behaviour.as_json()[name]


@pytest.mark.parametrize("flags", [{"clients": ["a:b"]}, {"users": ["{"]}, {"behaviour": ["rotation"]}])
def test_wrong_flags_are_refused(flags: dict[str, list[str]]) -> None:
    """A flag that is no such entry is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        with_flags(SandboxConfig(), **flags)


def test_secrets_are_not_shown() -> None:
    """A configuration can be printed without its secrets."""
    shown = repr(SandboxConfig(admin_token="known-admin-token"))
    secrets = ("desk-app-secret", "known-admin-token", "correct horse", "battery staple", "123456")
    assert [] == [secret for secret in secrets if secret in shown]
