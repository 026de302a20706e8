"""What must never happen, whatever happens: the whole of GetToken over a real database, a provider and their faults."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from broker.core import lease
from broker.core.errors import BrokerError
from broker.flows import lookout, until_stored
from broker.flows.get_token import IssuedToken
from tests.contract.backends import open_sql
from tests.contract.never import Site, end_process, going_back, make_template, new_site
from tests.contract.test_cut_off import lent

SETS: Final = (("read",), ("trade",))
UNREAD: Final = ("not sent", "unread", "request lost", "broken before")
FATES: Final = (*UNREAD, *UNREAD, "reply lost", "broken after")
"""After one of the last two nobody can get the grant back, and little is left to be seen."""
OPERATIONS: Final = (*["tend", "freeze or let go"] * 4, "revoke")
"""A grant that is revoked shows little more."""
LATER: Final = st.sampled_from((3700, 3700, 700, 130, 0))
"""Seconds after which somebody asks: mostly so many that what is in memory has ended."""
STEPS: Final = ("Take", "Sent", "keep_and_land", "finish", "record_attempt")

ASKED = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(SETS)), min_size=1, max_size=3)

BUDGET: Final = settings(max_examples=4, stateful_step_count=10, phases=[Phase.generate])
"""What `make test` has time for; nobody waits for a smaller failing case."""


class Never(RuleBasedStateMachine):
    """Callers, provider faults, outages, crashes, operators and time, in any order."""

    runner: asyncio.Runner
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.site: Site = self.run(new_site(self.template, Path(self.folder.name) / "data"))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what the work returns
        """Run something to its end."""
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.run(self.comes_back())
        finally:
            self.run(self.site.close())
            self.folder.cleanup()

    async def ask(self, asked: list[tuple[int, tuple[str, ...]]]) -> list[IssuedToken | BrokerError]:
        """Ask for some tokens at once, to the end."""
        tasks = [asyncio.create_task(self.site.get(*each)) for each in asked]
        await self.site.until_done(*tasks)
        return [task.result() for task in tasks]

    async def comes_back(self) -> None:
        """With everything well again the grant serves, unless nobody could have kept it."""
        site = self.site
        site.endpoint.fates.clear()
        site.world.store.away.clear()
        await site.settle()
        if site.revoked:
            await site.tend()
            assert "live" not in await self.left()
            return
        if site.frozen:
            await site.operate(lease.Unfreeze())
            site.frozen = False
        for _ in range(2):
            await site.pass_time(10)
            await site.pass_time(4000)
        if not site.endpoint.excused:
            issued = await self.ask([(0, SETS[0]), (1, SETS[1])])
            assert [] == [error for error in issued if isinstance(error, BrokerError)]
        assert [] == site.endpoint.wrong

    async def left(self) -> list[str]:
        """Return what is left to be told of a revoked grant."""
        rows = await self.site.backend.execute("SELECT hold FROM grants WHERE id = 'id-person' AND hold <> 'revoked'")
        return ["live"] * len(rows)

    @rule(asked=ASKED, fates=st.lists(st.sampled_from(FATES), max_size=2), later=LATER)
    def callers_ask(self, asked: list[tuple[int, tuple[str, ...]]], fates: list[str], later: int) -> None:
        """Some callers, and what becomes of the requests their wishes lead to."""
        self.run(self.site.pass_time(later))
        self.site.endpoint.fates[:] = fates
        self.run(self.ask(asked))
        self.site.endpoint.fates.clear()

    @rule(asked=ASKED, step=st.sampled_from(STEPS), before=st.booleans(), later=LATER)
    def the_process_ends(self, asked: list[tuple[int, tuple[str, ...]]], step: str, before: bool, later: int) -> None:
        """Before or after any step of the redeem; without such a step, after it all."""
        self.run(self.site.pass_time(later))
        self.run(self.end_at(asked, step, before=before))

    async def end_at(self, asked: list[tuple[int, tuple[str, ...]]], step: str, *, before: bool) -> None:
        """Ask, and end the process at the first such step."""
        site, reached = self.site, asyncio.Event()

        async def stop_here() -> None:
            reached.set()
            if step == "keep_and_land" and before:
                site.endpoint.excused = True  # what only this process had is gone with it
            await asyncio.Event().wait()

        hooks = site.world.store.before if before else site.world.store.after
        hooks[step] = stop_here
        tasks = [asyncio.create_task(site.get(*each)) for each in asked]
        await site.until_done(*tasks, stop=reached)
        await site.crash()

    @rule(asked=ASKED, ends=st.booleans(), later=LATER)
    def the_store_goes_away(self, asked: list[tuple[int, tuple[str, ...]]], ends: bool, later: int) -> None:
        """When a token was received; it is back later, for this process or for the next on its volume."""
        self.run(self.site.pass_time(later))
        self.run(self.outage(asked, ends=ends))

    async def outage(self, asked: list[tuple[int, tuple[str, ...]]], *, ends: bool) -> None:
        """Let received tokens not be stored for a while."""
        site = self.site
        site.world.store.away.add("keep_and_land")
        await self.ask(asked)
        if ends:
            await site.crash()
        site.world.store.away.clear()
        await site.settle()

    @rule(what=st.sampled_from(OPERATIONS))
    def operators_act(self, what: str) -> None:
        """They freeze, let go, revoke; or the background looks after what is left in doubt or being revoked."""
        if what == "tend":
            self.run(self.site.tend())
        elif not self.site.revoked:
            self.run(self.hold(what))

    async def hold(self, what: str) -> None:
        """Hold the grant, let it go, or end it."""
        site = self.site
        if what == "revoke":
            await site.operate(lease.Revoke())
            site.revoked, site.frozen = True, False
        else:
            await site.operate(lease.Unfreeze() if site.frozen else lease.Freeze())
            site.frozen = not site.frozen

    @invariant()
    def nothing_went_wrong(self) -> None:
        """No token was sent twice but for a probe; nothing was served that must not be."""
        assert [] == self.site.endpoint.wrong


def test_nothing_of_it_ever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token sent twice outside the rules, no revoked grant back, no token too old or of another set, none lost."""
    monkeypatch.setattr(lookout, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(lookout, "LONGEST_PAUSE", 0.002)
    monkeypatch.setattr(until_stored, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(until_stored, "LONGEST_PAUSE", 0.002)
    with asyncio.Runner() as runner:
        runner.run(make_template(tmp_path / "template"))
        machine = type("Machine", (Never,), {"runner": runner, "template": tmp_path / "template"})
        run_state_machine_as_test(machine, settings=BUDGET)


def test_a_process_that_ends_has_no_connection_left(tmp_path: Path) -> None:
    """Also where it ends in the moment that one is given back."""

    async def end_while_one_goes_back() -> int:
        backend = await open_sql(None, tmp_path)
        reading = asyncio.create_task(backend.sql.read_version())
        while not going_back():  # noqa: ASYNC110 - it lasts for a few turns of the loop
            await asyncio.sleep(0)
        await end_process()
        assert reading.cancelled()
        left = lent(backend.database._lanes._engine)
        await backend.aclose()
        return left

    assert 0 == asyncio.run(end_while_one_goes_back())
