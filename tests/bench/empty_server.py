"""The measure: a `grpc.aio` server on uvloop whose GetToken does nothing but answer, with a reply of a given size."""

from __future__ import annotations

import sys

import grpc
import uvloop

METHOD = "/aries.broker.v1.TokenService/GetToken"


class EmptyMethod(grpc.GenericRpcHandler):
    """Answers every call with the same bytes."""

    def __init__(self, reply: bytes) -> None:
        async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return reply

        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return self._handler


async def serve(size: int) -> None:
    """Serve on a free port, say which, until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((EmptyMethod(b"\x00" * size),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
