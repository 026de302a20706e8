"""TokenService: callers get a token, and hear of those that ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from aries.broker.v1 import token_pb2
from broker.core.identity import CallerId
from broker.flows.decide import TokenRequest
from broker.flows.get_token import IssuedToken
from broker.flows.trail import Trail
from broker.flows.watch_revocations import Revocations
from broker.rpc.call import Call
from broker.rpc.convert import token_reply, token_request


class TokenServicer:
    """The service for callers."""

    def __init__(
        self,
        get_token: Callable[[TokenRequest, Trail], Awaitable[IssuedToken]],
        watch_revocations: Callable[[CallerId, str], AsyncGenerator[Revocations | None, None]],
    ) -> None:
        self._get_token = get_token
        self._watch_revocations = watch_revocations

    async def get_token(self, request: token_pb2.GetTokenRequest, call: Call) -> token_pb2.GetTokenResponse:
        """Answer GetToken."""
        call.trail.grant = request.grant
        call.trail.scopes = " ".join(request.scopes[:32])
        return token_reply(await self._get_token(token_request(request, call.caller), call.trail))

    async def watch_revocations(
        self, request: token_pb2.WatchRevocationsRequest, call: Call
    ) -> AsyncGenerator[token_pb2.WatchRevocationsResponse | None, None]:
        """Answer WatchRevocations."""
        async for told in self._watch_revocations(call.caller, request.cursor):
            yield (
                None
                if told is None
                else token_pb2.WatchRevocationsResponse(
                    cursor=told.cursor, fingerprints=told.fingerprints, drop_all=told.drop_all
                )
            )
