"""Key-encryption keys: what wraps a data key, named by a URI of the settings (`BROKER_KEK`), never by an RPC."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from broker.adapters.keys import keysets
from broker.adapters.keys.errors import KeyringError
from broker.adapters.keys.files import make_kek_file, read_private_file
from broker.core.sealing import Binding
from broker.ports import DataKeyStore, KeyPurpose


class UnwrapError(Exception):
    """A wrapped data key does not open under this KEK: another KEK's, another row's, or damaged."""


class Kek(Protocol):
    """One key-encryption key; coroutines, since most live in another machine."""

    @property
    def uri(self) -> str:
        """The name its wraps are stored under."""

    async def wrap(self, keyset: bytes, associated_data: bytes) -> bytes:
        """Return the keyset wrapped, bound to the associated data.

        Raises:
            KeyringError: the KEK cannot be reached.
        """

    async def unwrap(self, wrapped: bytes, associated_data: bytes) -> bytes:
        """Return the keyset in the clear.

        Raises:
            UnwrapError: it does not open under this KEK and this associated data.
            KeyringError: the KEK cannot be reached.
        """


class FileKek:
    """A Tink keyset in a private file of this machine (`file:PATH`); read once."""

    def __init__(self, uri: str, path: Path) -> None:
        """Read the file.

        Raises:
            KeyringError: the file is missing, readable by others, a link, or no cleartext Tink AEAD keyset.
        """
        self.uri = uri
        try:
            self._aead = keysets.kek_of_json(read_private_file(path))
        except keysets.BrokenError:
            msg = f"the file {path} is not a cleartext Tink AEAD keyset in JSON"
            raise KeyringError(msg) from None

    async def wrap(self, keyset: bytes, associated_data: bytes) -> bytes:
        """Wrap; needs nothing outside this process."""
        return self._aead.encrypt(keyset, associated_data)

    async def unwrap(self, wrapped: bytes, associated_data: bytes) -> bytes:
        """Unwrap, or raise UnwrapError."""
        try:
            return self._aead.decrypt(wrapped, associated_data)
        except keysets.BrokenError:
            raise UnwrapError from None


def _open_file(uri: str) -> Kek:
    return FileKek(uri, _path_of(uri))


SCHEMES: Final[Mapping[str, Callable[[str], Kek]]] = MappingProxyType({"file": _open_file})
"""Scheme of a KEK's URI → how such a KEK is opened."""


def open_kek(uri: str) -> Kek:
    """Open the KEK that `uri` names.

    Raises:
        KeyringError: the scheme is not supported, or the KEK cannot be opened.
    """
    opener = SCHEMES.get(uri.partition(":")[0])
    if opener is None:
        supported = ", ".join(f"{scheme}:…" for scheme in SCHEMES)
        msg = f"the key-encryption key {uri!r} is of no supported kind; supported: {supported}"
        raise KeyringError(msg)
    return opener(uri)


async def open_or_make_local_kek(uri: str, store: DataKeyStore) -> Kek:
    """Open a `file:` KEK, made now if it is missing and nothing was ever sealed: only for SQLite on loopback.

    Raises:
        KeyringError: the file is missing although data keys exist (a new one could never open them), or as `open_kek`.
    """
    path = _path_of(uri)
    if not os.path.lexists(path):  # noqa: ASYNC240 - once, at start; a dangling link counts
        if await store.load_data_keys():
            msg = f"the database holds data keys, but the key-encryption key {path} is missing: restore that file"
            raise KeyringError(msg)
        make_kek_file(path)
    return open_kek(uri)


def wrap_binding(key_id: str, purpose: KeyPurpose) -> bytes:
    """Return what a wrapped data key is bound to, so that rows and purposes cannot be swapped."""
    return Binding("data_keys", (key_id, purpose.value), "").associated_data()


def _path_of(uri: str) -> Path:
    scheme, _, path = uri.partition(":")
    if scheme != "file" or not path:
        msg = f"the key-encryption key {uri!r} is not of the form file:PATH"
        raise KeyringError(msg)
    return Path(path)
