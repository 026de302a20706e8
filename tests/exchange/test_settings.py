"""Arguments, environment and `.env`: which one counts, and what does not go together."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from aries_exchange import AriesClient
from aries_exchange.settings import VARIABLES, Given, Settings
from aries_exchange.token_endpoint import ClientCredentials
from aries_exchange.urls import BASE_URL, authorize_url, check_base_url, origin

APP = ClientCredentials("app", "app-secret")
SECRETS = {"ARIES_CLIENT_ID": "app", "ARIES_CLIENT_SECRET": "app-secret", "ARIES_REFRESH_TOKEN": "their-token"}
BROKER = {"ARIES_BROKER": "broker:50051", "ARIES_GRANT": "desk"}

CASES: list[tuple[str, dict[str, Any], dict[str, str], Settings]] = [
    (
        "arguments alone",
        {"client_id": "app", "client_secret": "app-secret", "refresh_token": "r"},
        {},
        Settings(base_url=BASE_URL, app=APP, refresh_token="r"),
    ),
    ("the environment alone", {}, SECRETS, Settings(base_url=BASE_URL, app=APP, refresh_token="their-token")),
    (
        "a secret hides the environment's refresh token",
        {"client_id": "app", "client_secret": "app-secret"},
        SECRETS,
        Settings(base_url=BASE_URL, app=APP),
    ),
    (
        "arguments beat the environment",
        {"client_id": "other", "client_secret": "other-secret", "base_url": "https://one.example"},
        {**SECRETS, "ARIES_BASE_URL": "https://two.example"},
        Settings(base_url="https://one.example", app=ClientCredentials("other", "other-secret")),
    ),
    (
        "a refresh token is completed by the environment's app",
        {"refresh_token": "r"},
        SECRETS,
        Settings(base_url=BASE_URL, app=APP, refresh_token="r"),
    ),
    ("a bearer token alone", {"bearer_token": "b"}, {}, Settings(base_url=BASE_URL, bearer_token="b")),
    (
        "a public app",
        {"client_id": "app"},
        {},
        Settings(base_url=BASE_URL, app=ClientCredentials("app")),
    ),
    ("the broker by argument", {"broker": "b:1", "grant": "g"}, {}, Settings(broker="b:1", grant="g")),
    (
        "the broker's argument beats secrets of the environment",
        {"broker": "b:1"},
        SECRETS,
        Settings(broker="b:1"),
    ),
    ("the broker by environment", {}, BROKER, Settings(broker="broker:50051", grant="desk")),
    (
        "an app that reads secrets which are no longer set",
        {"client_id": None, "client_secret": None},
        BROKER,
        Settings(broker="broker:50051", grant="desk"),
    ),
    (
        "the environment's broker before the environment's secrets",
        {},
        {**BROKER, **SECRETS},
        Settings(broker="broker:50051", grant="desk"),
    ),
    (
        "the broker with a base URL",
        {},
        {**BROKER, "ARIES_BASE_URL": "https://api.example/"},
        Settings(broker="broker:50051", grant="desk", base_url="https://api.example"),
    ),
    (
        "empty variables are none",
        {"client_id": "app", "client_secret": "app-secret"},
        {"ARIES_BROKER": "", "ARIES_BASE_URL": ""},
        Settings(base_url=BASE_URL, app=APP),
    ),
]


@pytest.mark.parametrize(("arguments", "environ", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_what_a_client_is_built_from(arguments: dict[str, Any], environ: dict[str, str], expected: Settings) -> None:
    """Arguments first, then the environment, and no two identities mixed."""
    assert expected == Settings.resolve(Given(**arguments), environ)


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ({}, {}, "nothing to go by"),
        ({"client_id": "", "client_secret": ""}, {}, "nothing to go by"),
        ({"broker": "b:1", "client_secret": "s"}, {}, "broker and a secret are given"),
        ({"broker": "b:1", "refresh_token": "r"}, {}, "broker and a secret are given"),
        ({"broker": "b:1", "bearer_token": "b"}, {}, "broker and a secret are given"),
        ({"client_id": "a", "client_secret": "s", "grant": "g"}, {}, "grant is given without a broker"),
        ({"refresh_token": "r", "bearer_token": "b"}, {}, "a refresh token is good together with"),
        ({"bearer_token": "b", "base_url": "http://api.example"}, {}, "the base URL must be https: "),
        ({"bearer_token": "b", "base_url": "ftp://api.example"}, {}, "the base URL must be https://host"),
        ({"bearer_token": "b"}, {"ARIES_BASE_URL": "https://a:b@api.example"}, "the base URL must be https://host"),
        ({"bearer_token": "b"}, {"ARIES_BASE_URL": "https://api.example/?q"}, "the base URL must be https://host"),
        ({"bearer_token": "b"}, {"ARIES_BASE_URL": "api.example"}, "the base URL must be https://host"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(arguments: dict[str, Any], environ: dict[str, str], expected: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=expected):
        Settings.resolve(Given(**arguments), environ)


def test_a_bare_broker_does_not_reroute_a_client_with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes straight to Aries, and is warned about at the line that builds it."""
    monkeypatch.setenv("ARIES_BROKER", "broker:50051")
    with (
        pytest.warns(RuntimeWarning, match="ARIES_BROKER names broker:50051") as caught,
        AriesClient("app", "app-secret") as client,
    ):
        url = client.oauth2.get_authorization_url("https://yourapp.com/callback")

    assert url.startswith("https://app.aries.com/oauth2/authorize?")
    assert [__file__] == [warning.filename for warning in caught]


def test_the_warning_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends up in logs."""
    monkeypatch.setenv("ARIES_BROKER", "broker:50051")
    with pytest.warns(RuntimeWarning) as caught, AriesClient("app", "app-secret"):
        pass

    assert "app-secret" not in str(caught[0].message)


def test_without_a_broker_there_is_nothing_to_warn_of() -> None:
    """The usual case is quiet."""
    with warnings.catch_warnings(record=True) as caught, AriesClient("app", "app-secret"):
        pass

    assert [] == caught


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    """A file as the documentation shows it, with a secret that shells and templates would change."""
    file = tmp_path / ".env"
    file.write_text(
        "# credentials\nARIES_CLIENT_ID=app\nexport ARIES_CLIENT_SECRET='a ${HOME} # secret'\nARIES_REFRESH_TOKEN=r\n"
    )
    return file


def test_a_dotenv_that_is_named_is_read(dotenv: Path) -> None:
    """A value is what stands there."""
    expected = Settings(base_url=BASE_URL, app=ClientCredentials("app", "a ${HOME} # secret"), refresh_token="r")

    assert expected == Settings.resolve(Given(dotenv=dotenv), {})


def test_the_environment_beats_the_dotenv(dotenv: Path) -> None:
    """As it does where the app loads the file itself."""
    settings = Settings.resolve(Given(dotenv=dotenv), {"ARIES_CLIENT_ID": "other"})

    assert settings.app is not None
    assert "other" == settings.app.client_id


def test_a_dotenv_is_read_only_when_it_is_named(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that happens to lie there says nothing."""
    monkeypatch.chdir(dotenv.parent)
    with pytest.raises(ValueError, match="nothing to go by"):
        AriesClient()


def test_a_dotenv_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It was asked for."""
    with pytest.raises(FileNotFoundError):
        AriesClient(dotenv=tmp_path / ".env")


def test_a_dotenv_changes_nothing_outside(dotenv: Path) -> None:
    """Secrets of the file are not in the environment of child processes afterwards."""
    with AriesClient(dotenv=dotenv):
        assert [] == [name for name in VARIABLES if name in os.environ]


def test_secrets_are_not_shown() -> None:
    """By nothing that holds them."""
    given = Given("app", "app-secret", "their-token", "their-bearer")
    settings = Settings.resolve(given, {})

    assert [] == [
        secret for secret in ("app-secret", "their-token", "their-bearer") if secret in f"{given!r} {settings!r}"
    ]


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut", ""])
def test_a_bearer_token_that_cannot_be_one_is_refused(token: str) -> None:
    """It would become another header, or none."""
    client = AriesClient("app", "app-secret")
    with client, pytest.raises(ValueError, match=r"^bearer_token must be an access token"):
        client.bearer_token = token


def test_a_client_with_a_bearer_token_alone_has_no_oauth2() -> None:
    """It has no name at the token endpoint."""
    with AriesClient(bearer_token="b") as client, pytest.raises(ValueError, match=r"^oauth2 needs a client_id"):
        _ = client.oauth2


def test_a_public_app_cannot_call_the_api_by_itself() -> None:
    """It has no rights of its own."""
    with AriesClient("app") as client, pytest.raises(ValueError, match=r"^there is no access token"):
        client.users.get_current_user()


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://api.aries.com", "https://app.aries.com/oauth2/authorize"),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090/oauth2/authorize"),
    ],
)
def test_the_page_where_people_log_in(url: str, page: str) -> None:
    """Aries has it at another host; whoever stands in for Aries, at his own."""
    assert page == authorize_url(check_base_url(url))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://API.example:443/path", "https://api.example"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8090/x", "http://[::1]:8090"),
    ],
)
def test_an_origin_is_written_in_one_way(url: str, expected: str) -> None:
    """So that two can be compared."""
    assert expected == origin(url)
