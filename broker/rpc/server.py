"""The gRPC servers: the methods of the table on each listener, health beside them, reflection where asked for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from broker.rpc.edge import Edge
from broker.rpc.health import Health
from broker.rpc.listeners import OPTIONS, ListenerConfig, add_port
from broker.rpc.methods import METHODS, Method

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

HEALTH_SECONDS: Final = 0.25
"""How often the injected state is looked at."""

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class BrokerServer:
    """One grpc.aio server per listener, all with the same servicers."""

    def __init__(
        self,
        edge: Edge,
        servicers: Mapping[str, object],
        listeners: Sequence[ListenerConfig],
        *,
        is_serving: Callable[[str], bool],
        reflection: bool = False,
    ) -> None:
        """Wire the servers; nothing is bound before `start`.

        Args:
            edge: what surrounds every RPC.
            servicers: full service name → object with a coroutine method `rpc_name(request, call)` per RPC.
            listeners: where to listen.
            is_serving: tells of a full service name, or of "" for the whole, whether it can serve now.
            reflection: also serve grpc.reflection.

        Raises:
            ValueError: a servicer has not exactly the methods of its service: a caller of ours forgot one.
        """
        self._listeners = tuple(listeners)
        self._is_serving = is_serving
        self._reflection = reflection
        self._edge = edge
        self._handlers = _handlers(edge, servicers)
        self._services = tuple(servicers)
        self._health = Health()
        self._servers: list[grpc.aio.Server] = []
        self._following: asyncio.Task[None] | None = None
        self.ports: tuple[int, ...] = ()

    async def start(self) -> tuple[int, ...]:
        """Bind every listener, serve, and return the ports in the listeners' order.

        Raises:
            OSError: an address cannot be had; then nothing is served.
        """
        self._servers = [self._build(listener) for listener in self._listeners]
        self.ports = tuple(map(add_port, self._servers, self._listeners))
        await self._set_health()
        for server in self._servers:
            await server.start()
        self._following = asyncio.create_task(self._follow_health())
        return self.ports

    async def stop(self, grace: float) -> None:
        """Say not serving, take no new calls, let running ones end for `grace` seconds, then cancel them."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        self._health.end_watches()
        self._edge.end_streams()
        await asyncio.gather(*(server.stop(grace) for server in self._servers))  # once only: twice at a time crashes

    def _build(self, listener: ListenerConfig) -> grpc.aio.Server:
        server = grpc.aio.server(options=OPTIONS)
        served = [name for name in self._services if listener.admin or not _is_admin(name)]
        for name in served:
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, self._handlers[name]),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._reflection:
            from grpc_reflection.v1alpha import reflection  # noqa: PLC0415 - only where asked for

            reflection.enable_server_reflection([*served, reflection.SERVICE_NAME, health.SERVICE_NAME], server)
        return server

    async def _follow_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            await self._set_health()

    async def _set_health(self) -> None:
        for name in ("", *self._services):
            serving = self._is_serving(name)
            await self._health.set(name, SERVING if serving else NOT_SERVING)


def _handlers(edge: Edge, servicers: Mapping[str, object]) -> dict[str, dict[str, Handler]]:
    handlers: dict[str, dict[str, Handler]] = {}
    for service, servicer in servicers.items():
        methods = [method for method in METHODS.values() if method.service == service]
        if not methods:
            msg = f"{service} is not in the table of methods"
            raise ValueError(msg)
        handlers[service] = {
            method.name: (
                grpc.unary_stream_rpc_method_handler(edge.wrap_stream(method, _find(servicer, method)))
                if method.streams
                else grpc.unary_unary_rpc_method_handler(edge.wrap(method, _find(servicer, method)))
            )
            for method in methods
        }
    return handlers


def _find(servicer: object, method: Method) -> Any:  # noqa: ANN401 - what the servicer has under that name
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    serve = getattr(servicer, name, None)
    if serve is None:
        msg = f"{type(servicer).__qualname__} has no method {name} for {method.full_name}"
        raise ValueError(msg)
    return serve


def _is_admin(service: str) -> bool:
    return any(method.is_admin for method in METHODS.values() if method.service == service)
