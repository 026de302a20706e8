"""Looking for a secret where it must not be, in the forms it could hide in."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote


def forms_of(secret: str, client_id: str) -> frozenset[bytes]:
    """Return the secret as it is, in hex, URL-encoded, in base64 and as HTTP Basic would send it."""
    raw = secret.encode()
    return frozenset(
        {
            raw,
            raw.hex().encode(),
            quote(secret, safe="").encode(),
            base64.b64encode(raw).rstrip(b"="),
            base64.urlsafe_b64encode(raw).rstrip(b"="),
            base64.b64encode(f"{client_id}:{secret}".encode()).rstrip(b"="),
        }
    )


def read_all(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by its path there."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def search(places: Mapping[str, bytes], needles: Iterable[bytes]) -> list[str]:
    """Return the names of the places that hold any of the needles."""
    wanted = tuple(needles)
    return [name for name, content in places.items() if any(needle in content for needle in wanted)]
