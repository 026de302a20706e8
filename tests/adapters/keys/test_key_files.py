from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.adapters.keys.errors import KeyringError
from broker.adapters.keys.files import make_bootstrap_key_file, make_kek_file, read_bootstrap_key_file
from broker.adapters.keys.kek import open_kek
from broker.core.api_keys import parse_api_key_id

MAKERS = [make_kek_file, make_bootstrap_key_file]


@pytest.mark.parametrize("make", MAKERS)
def test_a_new_file_is_its_owners_alone(make: Callable[[Path], None], tmp_path: Path) -> None:
    """Key files have mode 0600."""
    make(tmp_path / "file")
    assert 0o600 == stat.S_IMODE((tmp_path / "file").stat().st_mode)


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_is_overwritten_or_written_through_a_link(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A file that exists, a link and a dangling link are refused; nothing is made behind them."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("old", "link", "dangling"):
        with pytest.raises(KeyringError, match="exists already"):
            make(tmp_path / name)
    assert ("old", False) == ((tmp_path / "old").read_text(), (tmp_path / "nowhere").exists())
    with pytest.raises(KeyringError, match="cannot be written"):
        make(tmp_path / "no such folder" / "file")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o602])
def test_a_kek_that_others_may_use_is_refused(mode: int, tmp_path: Path) -> None:
    """A KEK file that group or others may read or write is refused."""
    make_kek_file(tmp_path / "kek")
    (tmp_path / "kek").chmod(mode)
    with pytest.raises(KeyringError, match="chmod 600"):
        open_kek(f"file:{tmp_path / 'kek'}")


def test_a_linked_missing_or_wrong_kek_is_refused(tmp_path: Path) -> None:
    """A link, a folder, nothing, and a file that is no keyset are no KEK; each is told with the path."""
    make_kek_file(tmp_path / "kek")
    (tmp_path / "link").symlink_to(tmp_path / "kek")
    (tmp_path / "folder").mkdir()
    for name, content in (("text", b"hello"), ("bytes", b"\xff\xfe"), ("long", b"x" * 20_000), ("json", b'{"key":[]}')):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    for name in ("link", "folder", "missing", "text", "bytes", "long", "json"):
        with pytest.raises(KeyringError, match=str(tmp_path / name)):
            open_kek(f"file:{tmp_path / name}")


@pytest.mark.parametrize("uri", ["aws-kms://key", "", "kek.json", "FILE:x", "hcvault://v/k"])
def test_an_unknown_scheme_is_refused_with_what_is_supported(uri: str) -> None:
    """The message of an unsupported KEK names the supported ones."""
    with pytest.raises(KeyringError, match=r"supported: file:…"):
        open_kek(uri)


def test_a_file_uri_needs_a_path() -> None:
    """`file:` alone names no file."""
    with pytest.raises(KeyringError, match="file:PATH"):
        open_kek("file:")


def test_a_bootstrap_file_holds_one_api_key(tmp_path: Path) -> None:
    """The file's key has the form of an API key, and no two are alike."""
    make_bootstrap_key_file(tmp_path / "one")
    make_bootstrap_key_file(tmp_path / "two")
    one, two = read_bootstrap_key_file(tmp_path / "one"), read_bootstrap_key_file(tmp_path / "two")
    assert (True, False) == (parse_api_key_id(one) is not None, one == two)
    (tmp_path / "one").write_text("\n")
    with pytest.raises(KeyringError, match="is empty"):
        read_bootstrap_key_file(tmp_path / "one")
