"""Canaries: secrets of a recognisable form, and the search for them in everything a broker leaves behind."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MARK: Final = "c4naryQvW8"
"""In every client secret and refresh token; letters and digits alone, which JSON and URLs leave as they are."""

REFRESH_TOKEN_PREFIX: Final = f'{MARK}-rt+/%"'

ACCESS_TOKEN_MARK: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"at+jwt"}').rstrip(b"=").decode()
"""What every access token of the sandbox begins with."""

MFA_CODE: Final = "731946"
"""What people's phones show."""

API_KEY: Final = re.compile(rb"abk_[0-9a-f]{4,}_[A-Za-z0-9_-]{43}")

# Reads in a process of its own: closing a database file that SQLite has open in this one would drop SQLite's locks.
_READER: Final = """
import json, os, re, sys
needles = [bytes.fromhex(text) for text in json.loads(sys.argv[2])]
pattern, code = (re.compile(text.encode()) for text in sys.argv[3:])
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        try:
            data = open(path, "rb").read()
        except OSError:  # gone meanwhile, or a socket
            continue
        hits = [needle.hex() for needle in needles if needle in data]
        key = "" if pattern.search(data) is None else "key"
        hits += [] if code.search(data) is None else ["code"]
        print(json.dumps([os.path.relpath(path, sys.argv[1]), hits, key]))
"""


def new_secret(kind: str) -> str:
    """Return a client secret that escaping would change, and that the search finds all the same."""
    return f'{MARK}-{kind}+/%"{secrets.token_hex(8)}'


def forms_of(mark: str) -> frozenset[bytes]:
    """Return a mark as it is (also in JSON and URLs), in hex, and in base64 wherever it begins in the text encoded."""
    raw = mark.encode()
    forms = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for before, lost in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(raw)) // 3 * 3 - before
        encoded = base64.b64encode(b"\0" * before + raw[:whole])[lost:]
        forms |= {encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")}
    return frozenset(forms)


CODE_ALONE: Final = re.compile(f"{MFA_CODE}(?<![0-9a-fA-F]{MFA_CODE})(?![0-9a-fA-F])".encode())
"""Not among other digits, where it stands by chance: in ids, times and fingerprints, once in 16 million places.

Its own digits come first, since files are searched for them quickly. Elsewhere chance brings it once in 64 to the power
of six places at the most. Whoever stores it right beside a digit is not noticed.
"""

FORMS: Final = forms_of(MARK) | forms_of(ACCESS_TOKEN_MARK) | (forms_of(MFA_CODE) - {MFA_CODE.encode()})


@dataclass
class Seen:
    """Everything seen of a broker, by place."""

    places: list[tuple[str, bytes]] = field(default_factory=list)
    _leaks: list[str] = field(default_factory=list)

    def add(self, place: str, data: bytes | str) -> None:
        """Remember what stood somewhere."""
        self.places.append((place, data.encode() if isinstance(data, str) else data))

    def leaks(self) -> list[str]:
        """Return the places that held a canary in any form; what was searched once is not kept."""
        self._leaks += [place for place, data in self.places if _shows_one(data)]
        self.places.clear()
        return list(self._leaks)


@dataclass(frozen=True)
class Files:
    """What a search of files found.

    Attributes:
        searched: how many were read.
        leaks: those with a canary.
        keys: those with a whole API key.
        expected: those with the text that may be there.
    """

    searched: int
    leaks: list[str]
    keys: list[str]
    expected: list[str]


def search_files(folder: Path, expected: str) -> Files:
    """Search the raw bytes of every file below a folder, in another process; `expected` is a text that may be there."""
    patterns = (API_KEY.pattern.decode(), CODE_ALONE.pattern.decode())
    found = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-ISc", _READER, str(folder), _needles([*FORMS, expected.encode()]), *patterns],
        capture_output=True,
        check=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    wanted = expected.encode().hex()
    return Files(
        len(lines),
        [path for path, hits, _ in lines if set(hits) - {wanted}],
        [path for path, _, key in lines if key],
        [path for path, hits, _ in lines if wanted in hits],
    )


def _shows_one(data: bytes) -> bool:
    return CODE_ALONE.search(data) is not None or any(form in data for form in FORMS)


def _needles(needles: Iterable[bytes]) -> str:
    return json.dumps([needle.hex() for needle in needles])
