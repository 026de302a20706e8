"""SecretsService: client secrets go in and never come out."""

from __future__ import annotations

from aries.broker.admin.v1 import secrets_pb2
from broker.flows.add_secret import AddFirstSecret
from broker.rpc.call import Call
from broker.rpc.convert import secret_of


class SecretsServicer:
    """The service for client secrets."""

    def __init__(self, add_first_secret: AddFirstSecret) -> None:
        self._add_first_secret = add_first_secret

    async def add_first_client_secret(
        self, request: secrets_pb2.AddFirstClientSecretRequest, call: Call
    ) -> secrets_pb2.AddFirstClientSecretResponse:
        """Answer AddFirstClientSecret."""
        secret = secret_of(request.secret, "secret")
        version = await self._add_first_secret(request.client, secret, call.trail, replace=request.replace)
        return secrets_pb2.AddFirstClientSecretResponse(version=version)
