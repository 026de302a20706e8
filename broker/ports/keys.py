"""Sealing, fingerprints and MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from broker.core.sealing import Binding, Sealed
from broker.core.secret import Secret


class Cipher(Protocol):
    """Sealing under data keys that a key-encryption key wraps."""

    async def seal(self, secret: Secret, bound_to: Binding) -> Sealed:
        """Seal under the primary data key."""

    async def open(self, sealed: Sealed, bound_to: Binding) -> Secret:
        """Open; an unknown key id is loaded from its row and tried once more.

        Raises:
            StoreUnavailableError: the key cannot be had now (cause `key`).
            SealBrokenError: it does not open: another row, another endpoint, another key; never a grant state.
        """

    def fingerprint(self, secret: Secret) -> str:
        """Return the keyed fingerprint (hexadecimal) of a token: names it, reveals nothing, stable for ever."""


class KeyPurpose(StrEnum):
    """What a data key is for."""

    AEAD = "aead"
    MAC = "mac"
    FINGERPRINT = "fingerprint"


class KeyState(StrEnum):
    """Life of a data key: staged keys open but do not seal yet, the primary seals, disabled ones do nothing."""

    STAGED = "staged"
    PRIMARY = "primary"
    ENABLED = "enabled"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key's row: one one-key Tink keyset, wrapped once per key-encryption key.

    Attributes:
        id: also found in every ciphertext's prefix.
        wraps: KEK URI → wrapped keyset.
    """

    id: str
    purpose: KeyPurpose
    state: KeyState
    wraps: Mapping[str, bytes]


class DataKeyStore(Protocol):
    """Rows of data keys; holds nothing that opens without a KEK."""

    async def load_data_keys(self) -> Sequence[DataKey]:
        """Return all rows."""

    async def add_first_data_keys(self, keys: Sequence[DataKey]) -> bool:
        """Insert the first rows; False, and nothing written, when the table holds any row already."""


class SealBrokenError(Exception):
    """A ciphertext did not open under its binding."""


class UnknownMacKeyError(Exception):
    """A tag names a MAC key that is not loaded: `MacKeys.load` it, then verify once more."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id


class MacKeys(Protocol):
    """Keyed MACs over rows and API keys."""

    def mac(self, data: bytes) -> tuple[str, bytes]:
        """Return (key id, tag) under the primary MAC key."""

    def verify(self, key_id: str, data: bytes, tag: bytes) -> bool:
        """Tell in constant time whether the tag is right under the key of that id.

        Raises:
            UnknownMacKeyError: the key is not loaded, perhaps because another replica made it a moment ago.
        """

    async def load(self, key_id: str) -> None:
        """Load the key from its row.

        Raises:
            StoreUnavailableError: it cannot be had now, is disabled or is not there (cause `key`).
        """
