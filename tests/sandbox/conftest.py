"""A sandbox for each test, on a clock moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.sandbox import FakeClock, SandboxDriver, running_sandbox


@pytest.fixture
def clock() -> FakeClock:
    """The sandbox's clock."""
    return FakeClock()


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[SandboxDriver]:
    """A sandbox with the default seed."""
    async with running_sandbox(now=clock) as driver:
        yield driver
