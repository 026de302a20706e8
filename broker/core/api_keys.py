"""API keys as text: `abk_<id>_<43 characters>`; the id is public, the rest is 32 random bytes in base64url."""

from __future__ import annotations

import base64
import re
from typing import Final

from broker.core.secret import Secret

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
_FORM: Final = re.compile(r"abk_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


def build_api_key(id_bytes: bytes, secret_bytes: bytes) -> tuple[str, Secret]:
    """Return (id, whole key) from 8 and 32 random bytes.

    Raises:
        ValueError: when there are fewer or more bytes: a caller of ours passed nonsense.
    """
    if (len(id_bytes), len(secret_bytes)) != (ID_BYTES, SECRET_BYTES):
        msg = f"an API key is made from {ID_BYTES} and {SECRET_BYTES} random bytes"
        raise ValueError(msg)
    text = base64.urlsafe_b64encode(secret_bytes).rstrip(b"=").decode()
    return id_bytes.hex(), Secret(f"abk_{id_bytes.hex()}_{text}")


def parse_api_key_id(unverified_key: Secret) -> str | None:
    """Return the id a key claims, or None when it has not the form of one; the claim is proved by its MAC only."""
    match = _FORM.fullmatch(unverified_key.reveal())
    return match.group(1) if match else None


def maced_api_key(key: Secret, name: str, bootstrap_until: int | None) -> bytes:
    """Return the bytes an API key's MAC is over: the whole key and what its row says of it.

    The name and the end of a bootstrap key are in it, so that who writes to the database cannot give a key another
    caller's name or a longer life. No other use of the MAC keys begins with these bytes.
    """
    until = "" if bootstrap_until is None else str(bootstrap_until)
    parts = [part.encode("utf-8", "surrogatepass") for part in ("api_key", key.reveal(), name, until)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
