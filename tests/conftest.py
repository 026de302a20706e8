"""What holds for every test: no sockets in the core's and the flows' tests, and an honest word on what did not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import HealthCheck, settings

from tests.support.pgbouncer import PgBouncer, running_pgbouncer
from tests.support.postgres import PostgresServer, running_postgres

TESTS = Path(__file__).parent
WITHOUT_SOCKETS = (TESTS / "core", TESTS / "flows")

# A slow machine is no fault of the code's.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Switch sockets off where everything is values and fakes."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in WITHOUT_SOCKETS):
            item.add_marker(pytest.mark.disable_socket)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Name every test that was not run, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.write_sep("=", f"NOT RUN: {len(skipped)}", yellow=True, bold=True)
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"NOT RUN {report.nodeid}: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for this process's tests; each makes databases of its own there."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """One PgBouncer in transaction mode before that server."""
    with running_pgbouncer(postgres) as bouncer:
        yield bouncer
