"""Probes and metrics, for the machines that run the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def build_app(*, not_ready: Callable[[], str], metrics: Callable[[], Awaitable[bytes]], metrics_type: str) -> Starlette:
    """Return the application.

    Args:
        not_ready: returns why calls should go elsewhere (`starting`, `keys`, `draining`), or "" when they may come.
            The database is no reason: its blip would take every replica out at once.
        metrics: renders the metrics page.
        metrics_type: the page's content type.
    """

    async def livez(_request: Request) -> Response:
        """Say that the event loop turns; nothing else may make an orchestrator kill the process."""
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        reason = not_ready()
        return PlainTextResponse(f"{reason or 'ok'}\n", status_code=503 if reason else 200)

    rendering: asyncio.Future[bytes] | None = None

    async def show_metrics(_request: Request) -> Response:
        """Show the page that is being rendered to all who ask meanwhile: many who ask cost what one does."""
        nonlocal rendering
        if rendering is None or rendering.done():
            rendering = asyncio.ensure_future(metrics())
        return Response(await asyncio.shield(rendering), media_type=metrics_type)

    return Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", show_metrics)],
    )
