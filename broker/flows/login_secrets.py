"""What a login keeps sealed for its own steps."""

from __future__ import annotations

from broker.core.authorization import Authorization
from broker.core.models import Provider
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.ports import Cipher, SealBrokenError


async def open_verifier(cipher: Cipher, login: Authorization, provider: Provider) -> Secret | None:
    """Return a login's code verifier (RFC 7636 §4.1).

    None when the provider's token endpoint is another one than it was sealed for, or somebody wrote to the row.
    """
    try:
        return await cipher.open(login.verifier, login.facts.binding("verifier", origin_of(provider.token_url)))
    except SealBrokenError:
        return None
