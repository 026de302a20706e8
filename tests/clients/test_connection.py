"""What a connection is made of, and what is refused before anything is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aries_broker import ConfigurationError, Connection

KEY = "abk_1_canary"


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        pytest.param({}, {}, Connection("127.0.0.1:50051", tls=False), id="nothing: the broker's own default"),
        pytest.param({}, {"BROKER_ADDRESS": "b.example:1"}, Connection("b.example:1", tls=True), id="tls elsewhere"),
        pytest.param({"address": "[::1]:1"}, {}, Connection("[::1]:1", tls=False), id="loopback of IPv6"),
        pytest.param({"address": "localhost:1"}, {}, Connection("localhost:1", tls=False), id="localhost"),
        pytest.param({"address": "127.9.9.9:1"}, {}, Connection("127.9.9.9:1", tls=False), id="all of 127/8"),
        pytest.param(
            {"address": "127.0.0.1:1", "plaintext": False}, {}, Connection("127.0.0.1:1", tls=True), id="tls by word"
        ),
        pytest.param(
            {"address": "b.example:1", "plaintext": True}, {}, Connection("b.example:1", tls=False), id="in the clear"
        ),
        pytest.param(
            {}, {"BROKER_CA": "ca.pem"}, Connection("127.0.0.1:50051", tls=True, ca=Path("ca.pem")), id="a CA means tls"
        ),
        pytest.param(
            {}, {"BROKER_API_KEY": KEY}, Connection("127.0.0.1:50051", tls=False, api_key=KEY), id="key of environment"
        ),
        pytest.param(
            {"api_key": KEY},
            {"BROKER_TOKEN_FILE": "t", "BROKER_CERT": "c"},
            Connection("127.0.0.1:50051", tls=False, api_key=KEY),
            id="an argument hides the environment's credentials",
        ),
        pytest.param(
            {"token_file": "t"},
            {"BROKER_API_KEY": KEY},
            Connection("127.0.0.1:50051", tls=False, token_file=Path("t")),
            id="a token file hides a key",
        ),
    ],
)
def test_arguments_come_first(arguments: dict[str, Any], environ: dict[str, str], expected: Connection) -> None:
    """Arguments, then variables, then the broker's default; plaintext only where nobody listens."""
    assert expected == Connection.resolve(**arguments, environ=environ)


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        ({"api_key": KEY, "token_file": "t"}, {}, "one credential"),
        ({}, {"BROKER_API_KEY": KEY, "BROKER_TOKEN_FILE": "t"}, "one credential"),
        ({"cert": "c"}, {}, "belong together"),
        ({"cert": "c", "cert_key": "k", "api_key": KEY}, {}, "one credential"),
        ({"ca": "ca", "plaintext": True}, {}, "plaintext was asked for"),
        ({"address": "b.example:1", "api_key": KEY, "plaintext": True}, {}, "not loopback"),
        ({"address": "b.example:1", "token_file": "t", "plaintext": True}, {}, "not loopback"),
        ({"address": "127.0.0.1.b.example:1", "api_key": KEY, "plaintext": True}, {}, "not loopback"),
    ],
)
def test_contradictions_and_credentials_in_the_clear_are_refused(
    arguments: dict[str, Any], environ: dict[str, str], words: str
) -> None:
    """What cannot be meant or must not be done is said before a channel exists, without the credential."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        Connection.resolve(**arguments, environ=environ)

    assert KEY not in str(caught.value)


def test_printing_a_connection_does_not_reveal_the_key() -> None:
    """The repr of a connection holds no credential."""
    assert KEY not in repr(Connection.resolve(api_key=KEY, environ={}))


def test_a_missing_tls_file_is_named() -> None:
    """A file that cannot be read is a configuration error with its name."""
    connection = Connection.resolve("b.example:1", ca="/nonexistent/ca.pem", environ={})

    with pytest.raises(ConfigurationError, match=r"/nonexistent/ca\.pem"):
        connection.open_channel()


@pytest.mark.parametrize("text", ["junk\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["ca"], "ca.pem holds no certificate: name the PEM file of the broker's authorities"),
        (["cert", "cert_key"], "cert_key.pem are no certificate and its key: name the PEM files of both"),
    ],
)
def test_a_tls_file_that_holds_none_is_named(tmp_path: Path, text: str, files: list[str], words: str) -> None:
    """It is said before a call fails as if the broker were away, with the file and what belongs in it."""
    given: dict[str, Any] = {name: tmp_path / f"{name}.pem" for name in files}
    for path in given.values():
        path.write_text(text)

    with pytest.raises(ConfigurationError, match=re.escape(words)):
        Connection.resolve("b.example:1", **given, environ={}).open_channel()


def test_an_api_key_with_odd_characters_is_refused() -> None:
    """A line break in a credential never becomes metadata."""
    connection = Connection.resolve(api_key=f"{KEY}\nx: y", environ={})

    with pytest.raises(ConfigurationError) as caught:
        connection.build_metadata()

    assert KEY not in str(caught.value)


@pytest.mark.parametrize("credential", ["token_file", "ca"])
def test_a_file_without_an_end_is_not_read(tmp_path: Path, credential: str) -> None:
    """A device or a pipe is refused, and a file far longer than what it should hold; a link is followed."""
    (tmp_path / "long").write_bytes(b"a" * (4 * 1024 * 1024 + 1))
    (tmp_path / "link").symlink_to("/dev/zero")
    for file, words in (("/dev/zero", "plain file"), (tmp_path / "link", "plain file"), (tmp_path / "long", "longer")):
        given: dict[str, Any] = {credential: file}
        connection = Connection.resolve("127.0.0.1:1", **given, environ={})
        with pytest.raises(ConfigurationError, match=words):
            connection.build_metadata() if credential == "token_file" else connection.open_channel()
