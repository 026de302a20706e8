"""A service in a process of its own: asks for tokens over mTLS until its standard input ends, then says how it went.

Every other call is made on a new connection, so that handshakes meet whatever certificate is served just then.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import grpc

from aries.broker.v1 import token_pb2, token_pb2_grpc

REQUEST = token_pb2.GetTokenRequest(scopes=["read"])


async def ask(channel: grpc.aio.Channel) -> str:
    """Ask once; return OK or what went wrong."""
    try:
        response = await token_pb2_grpc.TokenServiceStub(channel).GetToken(REQUEST, timeout=20)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "OK" if response.access_token else "no token"


async def main(address: str, ca: str, certificate: str, key: str) -> None:
    """Call until standard input ends; print the outcomes and how often each came, as one line of JSON."""
    texts = [open(path, "rb").read() for path in (ca, key, certificate)]  # noqa: ASYNC230, PTH123, SIM115 - a script
    credentials = grpc.ssl_channel_credentials(*texts)
    options = [("grpc.use_local_subchannel_pool", 1)]
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    outcomes: Counter[str] = Counter()
    async with grpc.aio.secure_channel(address, credentials, options=options) as kept:
        outcomes[await ask(kept)] += 1
        print("asking", flush=True)  # noqa: T201 - what the test waits for
        while not ended.done():
            outcomes[await ask(kept)] += 1
            async with grpc.aio.secure_channel(address, credentials, options=options) as fresh:
                outcomes[await ask(fresh)] += 1
    print(json.dumps(outcomes), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
