from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from broker.flows import lookout
from tests.flows.world import Replica, World, new_world


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll the store without pauses worth the name."""
    monkeypatch.setattr(lookout, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(lookout, "LONGEST_PAUSE", 0.002)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A store with two grants and a provider; at the end no task's exception may have gone unheard."""
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    yield await new_world()
    gc.collect(1)
    assert [] == unheard


@pytest.fixture
async def replica(world: World) -> Replica:
    """The broker process most tests need."""
    return await world.replica()
