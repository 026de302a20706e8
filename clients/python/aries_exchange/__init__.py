"""The documented Aries SDK, straight at the Aries API or with the tokens of the credential broker.

    from aries_exchange import AriesAPIError, AriesClient

    client = AriesClient()  # ARIES_BROKER and ARIES_GRANT, or ARIES_CLIENT_ID and ARIES_CLIENT_SECRET
    print(client.users.get_current_user().email)

`AriesClient(...)` says what else it can be built from, and `aries_exchange.errors` what can go wrong.
"""

from __future__ import annotations

from aries_exchange.client import AriesClient
from aries_exchange.errors import AriesAPIError, AriesConnectionError, ConsentRefusedError
from aries_exchange.timing import Timing

__all__ = ["AriesAPIError", "AriesClient", "AriesConnectionError", "ConsentRefusedError", "Timing"]
