"""TokenService: callers get a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aries.broker.v1 import token_pb2
from broker.flows.decide import TokenRequest
from broker.flows.get_token import IssuedToken
from broker.flows.trail import Trail
from broker.rpc.call import Call
from broker.rpc.convert import token_reply, token_request


class TokenServicer:
    """The service for callers."""

    def __init__(self, get_token: Callable[[TokenRequest, Trail], Awaitable[IssuedToken]]) -> None:
        self._get_token = get_token

    async def get_token(self, request: token_pb2.GetTokenRequest, call: Call) -> token_pb2.GetTokenResponse:
        """Answer GetToken."""
        call.trail.grant = request.grant
        call.trail.scopes = " ".join(request.scopes[:32])
        return token_reply(await self._get_token(token_request(request, call.caller), call.trail))
