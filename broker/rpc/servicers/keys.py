"""KeysService: API keys."""

from __future__ import annotations

from aries.broker.admin.v1 import keys_pb2
from broker.flows.api_keys import ApiKeys
from broker.rpc.call import Call
from broker.rpc.convert_admin import api_key_message


class KeysServicer:
    """The service for API keys."""

    def __init__(self, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys

    async def create_api_key(self, request: keys_pb2.CreateApiKeyRequest, call: Call) -> keys_pb2.CreateApiKeyResponse:
        """Answer CreateApiKey; the one reply that carries a key."""
        made = await self._api_keys.create(request.name, call.trail)
        return keys_pb2.CreateApiKeyResponse(api_key=made.secret.reveal(), key=api_key_message(made.key))

    async def list_api_keys(self, request: keys_pb2.ListApiKeysRequest, call: Call) -> keys_pb2.ListApiKeysResponse:
        """Answer ListApiKeys."""
        del request
        return keys_pb2.ListApiKeysResponse(keys=map(api_key_message, await self._api_keys.list_keys(call.trail)))

    async def disable_api_key(
        self, request: keys_pb2.DisableApiKeyRequest, call: Call
    ) -> keys_pb2.DisableApiKeyResponse:
        """Answer DisableApiKey."""
        await self._api_keys.disable(request.name, call.trail)
        return keys_pb2.DisableApiKeyResponse()
