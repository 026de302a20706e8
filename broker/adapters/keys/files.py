"""Private files: made once, 0600, never through a link, and refused when others could read them."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from broker.adapters.keys import keysets
from broker.adapters.keys.errors import KeyringError
from broker.core.api_keys import ID_BYTES, SECRET_BYTES, build_api_key
from broker.core.secret import Secret

MAX_FILE: Final = 16 * 1024
"""Longest private file read, in bytes."""


def make_kek_file(path: Path) -> None:
    """Make a key-encryption key: a cleartext Tink keyset (AES256-GCM) in a new file.

    Raises:
        KeyringError: the file exists, is a link, or cannot be written.
    """
    _make(path, keysets.new_kek_json())


def make_bootstrap_key_file(path: Path) -> None:
    """Make a new API key, on one line of a new file, for the first admin.

    Raises:
        KeyringError: the file exists, is a link, or cannot be written.
    """
    _, key = build_api_key(secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    _make(path, key.reveal() + "\n")


def read_bootstrap_key_file(path: Path) -> Secret:
    """Return the API key text in the file, unparsed.

    Raises:
        KeyringError: as `read_private_file`, or the file is empty.
    """
    text = read_private_file(path).strip()
    if not text:
        msg = f"the file {path} is empty"
        raise KeyringError(msg)
    return Secret(text)


def read_private_file(path: Path) -> str:
    """Return the text of a file only its owner can read.

    Raises:
        KeyringError: it is missing, a link, not a plain file, too long, no text, or group or others may use it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        msg = f"the file {path} does not exist"
        raise KeyringError(msg) from None
    except OSError as error:
        msg = f"the file {path} cannot be opened, or is a symbolic link: {error.strerror}"
        raise KeyringError(msg) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            msg = f"{path} is not a plain file"
            raise KeyringError(msg)
        if found.st_mode & 0o077:
            msg = f"the file {path} must be readable by its owner only: chmod 600 it"
            raise KeyringError(msg)
        data = os.read(descriptor, MAX_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE:
        msg = f"the file {path} is longer than {MAX_FILE} bytes, which no key is: name the key's own file"
        raise KeyringError(msg)
    try:
        return data.decode()
    except UnicodeDecodeError:
        msg = f"the file {path} does not hold text"
        raise KeyringError(msg) from None


def _make(path: Path, text: str) -> None:
    """Write a new file so that it is there whole after a crash, or not trusted: data and folder are synced."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        msg = f"the file {path} exists already; it is not overwritten"
        raise KeyringError(msg) from None
    except OSError as error:
        msg = f"the file {path} cannot be written: {error.strerror}"
        raise KeyringError(msg) from None
