"""First secrets: the operator's machine is read freely, the server below one folder and variables of one prefix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.adapters.config_schema import SecretReference
from broker.adapters.secret_sources import resolve_for_operator, sources_on_server
from broker.core.secret import MAX_SECRET, Secret
from broker.ports import SecretUnreadableError


def file(path: Path | str) -> SecretReference:
    """Return a reference to a file."""
    return SecretReference("clients[0].secret_file", file=str(path))


def variable(name: str) -> SecretReference:
    """Return a reference to a variable."""
    return SecretReference("clients[0].secret_env", variable=name)


def read(reference: SecretReference, folder: Path | None) -> Secret:
    """Read what a reference means on the server."""
    source = sources_on_server({"desk": reference}, folder)["desk"]
    assert not isinstance(source, Secret)
    return source.read()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder of secrets with one in it."""
    made = tmp_path / "secrets"
    made.mkdir()
    (made / "desk").write_text("hunter2\n")
    (tmp_path / "outside").write_text("not yours")
    return made


def test_the_operator_reads_any_file_and_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the operator's machine nothing is out of bounds; the line break behind a secret is not part of it."""
    monkeypatch.setenv("ANY_NAME", "from-variable")
    found = resolve_for_operator({"desk": file(folder / "desk"), "more": variable("ANY_NAME")})
    assert found == ({"desk": Secret("hunter2"), "more": Secret("from-variable")}, {})


def test_the_operator_is_told_every_secret_that_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that cannot be read is told at once, by its field."""
    monkeypatch.delenv("ANY_NAME", raising=False)
    (folder / "empty").write_text("\n")
    references = {
        "a": SecretReference("clients[0].secret_env", variable="ANY_NAME"),
        "b": SecretReference("clients[1].secret_file", file=str(folder / "nowhere")),
        "c": SecretReference("clients[2].secret_file", file=str(folder / "empty")),
        "d": SecretReference("clients[3].secret_file", file="~no-such-user/secret"),
        "e": SecretReference("clients[4].secret_file", file=str(folder / "desk")),
    }
    found, wrong = resolve_for_operator(references)
    assert {"e": Secret("hunter2")} == found
    assert wrong == {
        "clients[0].secret_env": "the variable ANY_NAME is not set",
        "clients[1].secret_file": "the file cannot be opened: No such file or directory",
        "clients[2].secret_file": "the secret is empty",
        "clients[3].secret_file": "the file's path cannot be followed",
    }


def test_the_server_reads_below_its_folder(folder: Path) -> None:
    """A file is named by its place below the folder, or in full."""
    assert read(file("desk"), folder) == Secret("hunter2")
    assert read(file(folder / "desk"), folder) == Secret("hunter2")


def test_links_that_stay_below_the_folder_are_followed(folder: Path) -> None:
    """A mounted Kubernetes secret is a link to a link within its folder."""
    (folder / "..2026").mkdir()
    (folder / "..2026" / "key").write_text("mounted")
    (folder / "..data").symlink_to("..2026")
    (folder / "key").symlink_to("..data/key")
    assert read(file("key"), folder) == Secret("mounted")


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "link", "linked/outside", ".", "/", "a\0b", "desk/x"])
def test_the_server_reads_nothing_elsewhere(folder: Path, path: str) -> None:
    """Neither a path nor a link leads out of the folder, and the folder itself is no secret."""
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "linked").symlink_to(folder.parent)
    with pytest.raises(SecretUnreadableError):
        read(file(path), folder)


def test_without_a_folder_the_server_reads_no_file(folder: Path) -> None:
    """Reading files on the server is off unless the folder is set."""
    with pytest.raises(SecretUnreadableError, match="BROKER_SECRETS_DIR, which is not set"):
        read(file(folder / "desk"), None)


def test_the_server_reads_variables_of_its_prefix_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes the file cannot have the broker's other variables read as a secret."""
    monkeypatch.setenv("BROKER_SECRET_DESK", "hunter2")
    monkeypatch.setenv("BROKER_DATABASE_URL", "postgresql://secret")
    assert read(variable("BROKER_SECRET_DESK"), None) == Secret("hunter2")
    with pytest.raises(SecretUnreadableError, match="begins with BROKER_SECRET_"):
        read(variable("BROKER_DATABASE_URL"), None)


def test_what_is_no_secret_is_refused(folder: Path) -> None:
    """Pipes, folders, long files and bytes that are no text are refused without waiting for anything."""
    os.mkfifo(folder / "pipe")
    (folder / "long").write_text("x" * (MAX_SECRET + 1))
    (folder / "bytes").write_bytes(b"\xff\xfe")
    (folder / "wide").write_bytes("hunter2".encode("utf-16-le"))
    (folder / "marked").write_bytes("hunter2".encode("utf-8-sig"))
    whys = {
        "pipe": "no plain file",
        "long": "longer than 16384 bytes: name",
        "bytes": "is not text in UTF-8",
    }
    whys |= {"wide": "control characters", "marked": "byte order mark"}
    for name, why in whys.items():
        with pytest.raises(SecretUnreadableError, match=why) as caught:
            read(file(name), folder)
        assert "hunter2" not in str(caught.value)


def test_a_variable_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not UTF-8 would be stored and then fail in every redeem."""
    monkeypatch.setitem(os.environb, b"BROKER_SECRET_DESK", b"hunter2\xff")
    with pytest.raises(SecretUnreadableError) as caught:
        read(variable("BROKER_SECRET_DESK"), None)
    _, wrong = resolve_for_operator({"desk": variable("BROKER_SECRET_DESK")})
    assert ["the secret is not text in UTF-8"] * 2 == [str(caught.value), wrong["clients[0].secret_env"]]


def test_a_private_key_is_a_secret(folder: Path) -> None:
    """Line breaks within a secret stay, as does what stands around it but the last ones."""
    (folder / "key").write_text(" -----BEGIN\n\tkey\r\n-----END \n\n")
    assert Secret(" -----BEGIN\n\tkey\r\n-----END ") == read(file("key"), folder)
