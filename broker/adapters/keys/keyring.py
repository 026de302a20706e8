"""The keyring: seals, MACs and fingerprints under data keys; the ports `Cipher` and `MacKeys`.

A ciphertext is `version (1 byte) ‖ data key id (8 bytes) ‖ AES256-GCM output`. That header is part of the associated
data beside the row's binding and must agree with `Sealed.key_id`: the column is a foreign key, the header the truth.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from broker.adapters.keys import keysets
from broker.adapters.keys.errors import KeyringError
from broker.adapters.keys.kek import Kek, UnwrapError, wrap_binding
from broker.core.errors import StoreUnavailableError
from broker.core.sealing import Binding, Sealed
from broker.core.secret import Secret
from broker.ports import DataKey, DataKeyStore, KeyPurpose, KeyState, SealBrokenError, UnknownMacKeyError

VERSION: Final = b"\x01"
KEY_ID_BYTES: Final = 8
_HEADER: Final = len(VERSION) + KEY_ID_BYTES

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class _Ring:
    """The data keys that opened, as of one load; keys are never shown, not even by repr."""

    aeads: Mapping[str, keysets.Aead] = field(repr=False)
    macs: Mapping[str, keysets.Mac] = field(repr=False)
    fingerprint: keysets.Mac = field(repr=False)
    primary_aead: str
    primary_mac: str


class Keyring:
    """Data keys in use; made by `open_keyring`. Sealing and opening take microseconds and run on the loop."""

    def __init__(self, store: DataKeyStore, keks: Sequence[Kek], ring: _Ring) -> None:
        self._store = store
        self._keks = tuple(keks)
        self._ring = ring
        self._loading = asyncio.Lock()

    async def seal(self, secret: Secret, bound_to: Binding) -> Sealed:
        """Seal under the primary data key."""
        key_id = self._ring.primary_aead
        header = VERSION + bytes.fromhex(key_id)
        body = self._ring.aeads[key_id].encrypt(_bytes(secret), header + bound_to.associated_data())
        return Sealed(key_id, header + body)

    async def open(self, sealed: Sealed, bound_to: Binding) -> Secret:
        """Open; an unknown key id is loaded from its row and tried once more.

        Raises:
            StoreUnavailableError: the key cannot be had now, or is disabled (cause `key`).
            SealBrokenError: it does not open under this binding.
        """
        header, body = sealed.ciphertext[:_HEADER], sealed.ciphertext[_HEADER:]
        if len(header) != _HEADER or not header.startswith(VERSION) or header[1:].hex() != sealed.key_id:
            raise SealBrokenError
        cipher = await self._aead(sealed.key_id)
        try:
            plaintext = cipher.decrypt(body, header + bound_to.associated_data())
        except keysets.BrokenError:
            raise SealBrokenError from None
        return Secret(plaintext.decode("utf-8", "surrogatepass"))

    def fingerprint(self, secret: Secret) -> str:
        """Return 32 hexadecimal characters that name a token, reveal nothing and never change."""
        return self._ring.fingerprint.compute_mac(_bytes(secret)).hex()

    def mac(self, data: bytes) -> tuple[str, bytes]:
        """Return (key id, tag of 32 bytes) under the primary MAC key."""
        key_id = self._ring.primary_mac
        return key_id, self._ring.macs[key_id].compute_mac(data)

    def verify(self, key_id: str, data: bytes, tag: bytes) -> bool:
        """Tell in constant time whether the tag is right under the MAC key of that id.

        Raises:
            UnknownMacKeyError: no key of that id is loaded.
        """
        key = self._ring.macs.get(key_id)
        if key is None:
            raise UnknownMacKeyError(key_id)
        return hmac.compare_digest(key.compute_mac(data), tag)

    async def load(self, key_id: str) -> None:
        """Load the MAC key from its row; one that is loaded already costs nothing.

        Raises:
            StoreUnavailableError: it cannot be had now, is disabled or is not there (cause `key`).
        """
        await self._have(key_id, lambda: self._ring.macs)

    async def _aead(self, key_id: str) -> keysets.Aead:
        loaded = self._ring.aeads.get(key_id)
        return await self._have(key_id, lambda: self._ring.aeads) if loaded is None else loaded

    async def _have(self, key_id: str, keys: Callable[[], Mapping[str, K]]) -> K:
        """Return a key of the ring, which is read anew once if the key is not in it."""
        async with self._loading:
            if key_id not in keys():
                await self._load()
        try:
            return keys()[key_id]
        except KeyError:
            raise _key_unavailable() from None

    async def _load(self) -> None:
        try:
            self._ring = await _read_ring(await self._store.load_data_keys(), self._keks, all_must_open=False)
        except (StoreUnavailableError, KeyringError) as error:
            raise _key_unavailable() from error


async def open_keyring(store: DataKeyStore, keks: Sequence[Kek]) -> Keyring:
    """Return the keyring of a store; an empty table gets its first keys, wrapped by the first KEK.

    Raises:
        KeyringError: no KEK is configured, a key in use opens under none of them, or rows are missing: do not start.
        StoreUnavailableError: the database is away.
    """
    if not keks:
        msg = "no key-encryption key is configured (BROKER_KEK)"
        raise KeyringError(msg)
    rows = await store.load_data_keys()
    if not rows:
        # Another replica may be first at the same moment; whoever wins, the rows are read back.
        await store.add_first_data_keys([await _new_data_key(purpose, keks[0]) for purpose in KeyPurpose])
        rows = await store.load_data_keys()
    return Keyring(store, keks, await _read_ring(rows, keks, all_must_open=True))


async def _new_data_key(purpose: KeyPurpose, kek: Kek) -> DataKey:
    key_id = secrets.token_hex(KEY_ID_BYTES)
    wrapped = await kek.wrap(keysets.new_keyset(purpose), wrap_binding(key_id, purpose))
    return DataKey(key_id, purpose, KeyState.PRIMARY, {kek.uri: wrapped})


async def _read_ring(rows: Sequence[DataKey], keks: Sequence[Kek], *, all_must_open: bool) -> _Ring:
    """Open every row that is not disabled; those that do not open are an error, or left out."""
    aeads: dict[str, keysets.Aead] = {}
    macs: dict[str, keysets.Mac] = {}
    fingerprints: dict[str, keysets.Mac] = {}
    for row in rows:
        if row.state is KeyState.DISABLED:
            continue
        try:
            keyset = await _unwrap(row, keks)
            if row.purpose is KeyPurpose.AEAD:
                aeads[row.id] = keysets.aead_of(keyset)
            else:
                (macs if row.purpose is KeyPurpose.MAC else fingerprints)[row.id] = keysets.mac_of(keyset)
        except (UnwrapError, keysets.BrokenError):
            if all_must_open:
                uris = ", ".join(kek.uri for kek in keks)
                msg = (
                    f"the database holds data key {row.id} ({row.purpose}), which opens under no configured"
                    f" key-encryption key ({uris}): restore the one that wrapped it ({', '.join(sorted(row.wraps))})"
                )
                raise KeyringError(msg) from None
    return _Ring(
        aeads=aeads,
        macs=macs,
        fingerprint=fingerprints[_primary(rows, KeyPurpose.FINGERPRINT, fingerprints)],
        primary_aead=_primary(rows, KeyPurpose.AEAD, aeads),
        primary_mac=_primary(rows, KeyPurpose.MAC, macs),
    )


async def _unwrap(row: DataKey, keks: Sequence[Kek]) -> bytes:
    """Try each KEK on its own wrap, then on the others': a KEK file that moved still opens what it wrapped."""
    bound_to = wrap_binding(row.id, row.purpose)
    tries = [(kek, row.wraps[kek.uri]) for kek in keks if kek.uri in row.wraps]
    tries += [(kek, wrap) for kek in keks for uri, wrap in sorted(row.wraps.items()) if uri != kek.uri]
    for kek, wrap in tries:
        try:
            return await kek.unwrap(wrap, bound_to)
        except UnwrapError:
            continue
    raise UnwrapError


def _primary(rows: Sequence[DataKey], purpose: KeyPurpose, opened: Mapping[str, object]) -> str:
    primaries = [row.id for row in rows if row.purpose is purpose and row.state is KeyState.PRIMARY]
    if len(primaries) != 1 or primaries[0] not in opened:
        msg = f"the database must hold exactly one primary data key for {purpose} that opens"
        raise KeyringError(msg)
    return primaries[0]


def _key_unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("a key of the store cannot be had now", cause="key")


def _bytes(secret: Secret) -> bytes:
    """A provider's JSON may hold lone surrogates; what it sent is kept whatever it is."""
    return secret.reveal().encode("utf-8", "surrogatepass")
