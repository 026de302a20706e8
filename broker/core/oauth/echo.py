"""Whether a token repeats a secret of ours: as it is, encoded, or inside a JWT.

What a token can be decoded to is looked through, rather than a secret's every encoding looked for: base64 of both
alphabets, padded or not, whatever stands around it; hex of both cases; what is spelt with percent signs or with the
escapes of JSON; and those inside of each other, as a Basic header's value is in a claim of a JWT. A peer that wants to
hide our secret in a token can always encrypt it; this sees what careless ones do.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from broker.core.secret import Secret

LEAST_TELLING: Final = 12
"""Characters from which on a secret does not stand in a token by chance; shorter ones are compared whole."""

DEPTH: Final = 2
"""Encodings inside of each other: a JWT's parts are one, and a claim in them may be another."""

_DIGITS: Final = frozenset(b"0123456789ABCDEFabcdef")
_LETTERS: Final = _DIGITS | frozenset(b"GHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz+/-_")
_HEX: Final = bytes(byte if byte in _DIGITS else 0x20 for byte in range(256))
_BASE64: Final = bytes(byte if byte in _LETTERS else 0x20 for byte in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
_MARKS: Final = bytes(ord("x") if byte in _LETTERS else 0x20 for byte in range(256))
_TELLING: Final = b"x" * 16
"""As many letters of base64 as hold LEAST_TELLING bytes."""
_ESCAPES: Final = re.compile(rb"\\(?:u([0-9A-Fa-f]{4}(?:\\u[0-9A-Fa-f]{4})*)|(.))", re.DOTALL)
_CONTROLS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def repeats(token: str, secrets: Iterable[str]) -> bool:
    """Tell whether one of the secrets stands in the token; linear in the token's length."""
    whole: set[bytes] = set()
    inside: set[bytes] = set()
    for secret in secrets:
        # In a form a blank is a plus sign.
        forms = {secret.encode(), secret.replace(" ", "+").encode()}
        (inside if len(secret) >= LEAST_TELLING else whole).update(forms)
    return any(view in whole or any(one in view for one in inside) for view in views(token.encode()))


def repeats_any(text: str | None, secrets: Iterable[Secret | None]) -> bool:
    """Tell the same of secrets still wrapped; where there is no text, or no secret, nothing is repeated."""
    return text is not None and repeats(text, [secret.reveal() for secret in secrets if secret is not None])


def views(token: bytes) -> Iterator[bytes]:
    """Return the token and everything it can be decoded to, DEPTH deep; together bounded by a multiple of it."""
    layer = {token: None}
    for _ in range(DEPTH + 1):
        layer = dict.fromkeys(spelt for view in layer for spelt in _spellings(view))
        yield from layer
        layer = dict.fromkeys(inner for view in layer for inner in _decoded(view))


def _spellings(view: bytes) -> Iterator[bytes]:
    yield view
    if b"%" in view:
        yield unquote_to_bytes(view)
    if b"\\" in view:
        yield _ESCAPES.sub(_unescaped, view)


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return bytes.fromhex(found[1].replace(b"\\u", b"").decode()).decode("utf-16-be", "replace").encode()
    return _CONTROLS.get(found[2], found[2])


def _decoded(view: bytes) -> Iterator[bytes]:
    for run in _runs(view):
        for start in range(4):  # where the encoded text begins in the run, nobody knows
            yield _from_base64(run[start:])
        for digits in run.translate(_HEX).split():
            if len(digits) >= 2 * LEAST_TELLING or digits == view:
                yield _from_hex(digits)
                yield _from_hex(digits[1:])


def _runs(view: bytes) -> list[bytes]:
    """Return what may be base64 or hex, and be a whole encoded text or hold a telling part of one."""
    text = view.rstrip(b"=")
    marks = text.translate(_MARKS)
    if _TELLING in marks:  # so asked first, since most of what is decoded is nothing
        return [run for run in text.translate(_BASE64).split() if len(run) >= len(_TELLING)]
    return [text.translate(_BASE64)] if b" " not in marks else []


def _from_base64(run: bytes) -> bytes:
    """Decode as much as is whole: of a last character alone nothing can be told."""
    whole = run[:-1] if len(run) % 4 == 1 else run
    return a2b_base64(whole + b"=" * (-len(whole) % 4))


def _from_hex(digits: bytes) -> bytes:
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
