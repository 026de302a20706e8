"""Google Tink in one place: one-key keysets, as bytes that a KEK wraps and as the primitives they are used by.

Output prefixes of Tink are off (RAW): a ciphertext names its data key by our own header (`keyring.py`), because Tink's
four-byte ids are too short to be row ids.
"""

from __future__ import annotations

from typing import Protocol

from tink import (  # type: ignore[import-untyped]
    TinkError,
    aead,
    json_proto_keyset_format,
    mac,
    new_keyset_handle,
    proto_keyset_format,
)
from tink import secret_key_access as access
from tink.proto import tink_pb2  # type: ignore[import-untyped]

from broker.ports import KeyPurpose

aead.register()
mac.register()


class BrokenError(Exception):
    """A keyset does not parse, or a ciphertext does not open."""


class Aead(Protocol):
    """Authenticated encryption with associated data."""

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Return the ciphertext."""

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext, or raise BrokenError."""


class Mac(Protocol):
    """A keyed MAC."""

    def compute_mac(self, data: bytes) -> bytes:
        """Return the tag."""


class TinkAead:
    """Tink's AEAD, raising our error."""

    def __init__(self, primitive: aead.Aead) -> None:
        self._primitive = primitive

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Return the ciphertext."""
        sealed: bytes = self._primitive.encrypt(plaintext, associated_data)
        return sealed

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext, or raise BrokenError."""
        try:
            opened: bytes = self._primitive.decrypt(ciphertext, associated_data)
        except TinkError:
            raise BrokenError from None
        return opened


def new_keyset(purpose: KeyPurpose) -> bytes:
    """Return a new one-key keyset in the clear: to be wrapped at once, and nothing else."""
    handle = new_keyset_handle(_template(purpose))
    keyset: bytes = proto_keyset_format.serialize(handle, access.TOKEN)
    return keyset


def aead_of(keyset: bytes) -> Aead:
    """Return the AEAD of an unwrapped keyset; BrokenError when it is none."""
    try:
        return TinkAead(proto_keyset_format.parse(keyset, access.TOKEN).primitive(aead.Aead))
    except TinkError:
        raise BrokenError from None


def mac_of(keyset: bytes) -> Mac:
    """Return the MAC of an unwrapped keyset; BrokenError when it is none."""
    try:
        primitive: Mac = proto_keyset_format.parse(keyset, access.TOKEN).primitive(mac.Mac)
    except TinkError:
        raise BrokenError from None
    return primitive


def new_kek_json() -> str:
    """Return a new AES256-GCM keyset in the clear, as Tink's JSON: the content of a KEK file."""
    text: str = json_proto_keyset_format.serialize(new_keyset_handle(aead.aead_key_templates.AES256_GCM), access.TOKEN)
    return text


def kek_of_json(text: str) -> Aead:
    """Return the AEAD of a KEK file's content; BrokenError when it is no cleartext AEAD keyset."""
    try:
        return TinkAead(json_proto_keyset_format.parse(text, access.TOKEN).primitive(aead.Aead))
    except TinkError:
        raise BrokenError from None


def _template(purpose: KeyPurpose) -> tink_pb2.KeyTemplate:
    """AES256-GCM to seal, HMAC-SHA256 to MAC; a fingerprint has a tag of 16 bytes, 32 characters in hexadecimal."""
    if purpose is KeyPurpose.AEAD:
        return aead.aead_key_templates.AES256_GCM_RAW
    tagged = {
        KeyPurpose.MAC: mac.mac_key_templates.HMAC_SHA256_256BITTAG,
        KeyPurpose.FINGERPRINT: mac.mac_key_templates.HMAC_SHA256_128BITTAG,
    }[purpose]
    raw = tink_pb2.KeyTemplate()
    raw.CopyFrom(tagged)
    raw.output_prefix_type = tink_pb2.RAW
    return raw
