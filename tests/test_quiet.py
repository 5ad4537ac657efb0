"""Quiet: while a start is near nothing else begins; not for long, and not all the time."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sluice.app import create_app
from sluice.clock import SystemClock
from sluice.connection import Connection
from sluice.control import cancel
from sluice.events import Event, Paused
from sluice.ingestion import Batch
from sluice.journal.memory import MemoryJournal
from sluice.lane_factory import LaneFactory
from sluice.models import Priority
from sluice.quiet import LEAD, LONGEST, RECOVERY, Quiet
from sluice.sequencer import Sequencer
from sluice.settings import Settings
from sluice.turnstile import AT_ONCE, Turnstile
from tests.api import ManualClock
from tests.api_steps import EndlessUpstream
from tests.http_server import LocalServer
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualClock, VirtualLoop


class RecordingGate:
    """Notes from when to when it was held, in seconds on the loop."""

    def __init__(self) -> None:
        self.held: list[tuple[float, float]] = []
        self._since: float | None = None

    def hold(self) -> None:
        assert self._since is None
        self._since = asyncio.get_running_loop().time()

    def go_on(self) -> None:
        assert self._since is not None
        self.held.append((self._since, asyncio.get_running_loop().time()))
        self._since = None


def approximately(*held: tuple[float, float]) -> list[object]:
    return [pytest.approx(each, abs=TICK) for each in held]


# Around the starts of a lane


def quiet_around(loop: VirtualLoop, interval: float = 5.0) -> tuple[Bench, RecordingGate]:
    """Return a bench whose upstream tells when it is called, and takes a second per ID, and a gate."""

    async def tell(batch: Batch) -> None:
        bench.lane.quiet.end("default")
        await asyncio.sleep(len(batch.ids))

    bench, gate = Bench(loop, RecordingUpstream(tell), interval=interval), RecordingGate()
    bench.lane.quiet.add(gate)
    return bench, gate


def test_nothing_else_begins_shortly_before_a_start_until_its_call(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop)
    bench.submit([*range(1, 10)], Priority.LOW)

    bench.start()
    loop.advance(20)

    assert gate.held == approximately((0, 0), (5 - LEAD, 5), (10 - LEAD, 10))


def test_what_begins_is_held_up_while_an_end_is_recorded_that_the_next_start_waits_for(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop, interval=3 + LEAD / 2)
    bench.submit([1, 2, 3, 4], Priority.LOW)

    bench.start()
    loop.advance(10)

    assert gate.held == approximately((0, 0), (3, 3 + LEAD / 2))


def test_end_with_nothing_to_start_after_it_holds_nothing_up(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop, interval=3 + LEAD / 2)
    bench.submit([1, 2, 3], Priority.LOW)

    bench.start()
    loop.advance(10)

    assert gate.held == approximately((0, 0))


def test_start_that_comes_to_nothing_holds_nothing_up_for_long(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop)
    job = bench.submit([1, 2, 3, 4], Priority.LOW)
    bench.start()
    loop.advance(5 - LEAD / 2)

    # Not a decision: it would be held itself.
    loop.run_until_complete(bench.journal.append([Paused(0.0, "")]))
    loop.advance(20)

    assert gate.held == approximately((0, 0), (5 - LEAD, 5 - LEAD + LONGEST))
    assert bench.statuses(job.ingestion_id) == ["completed", "yet_to_start"]


def test_lanes_share_the_quiet_before_their_starts(loop: VirtualLoop, tmp_path: Path) -> None:
    path = tmp_path / "lanes.toml"
    path.write_text('[[lanes]]\nname = "other"\n')
    factory = LaneFactory(Settings(lanes=path), VirtualClock(loop), {})

    one, other = (factory.lane(name, MemoryJournal(), Sequencer()) for name in factory.by_lane)

    assert one.quiet is other.quiet


# Until the call is sent, where the upstream tells


def test_simulated_upstream_ends_the_quiet_as_it_is_called(loop: VirtualLoop) -> None:
    factory, gate = LaneFactory(Settings(), VirtualClock(loop), {}), RecordingGate()

    async def scenario() -> None:
        lane = factory.lane("default", MemoryJournal(), Sequencer())
        lane.quiet.add(gate)
        await lane.record(lane.accept([1, 2, 3, 4], Priority.LOW, 0.0))
        async with AsyncExitStack() as stack:
            dispatcher = await factory.dispatcher(lane, stack)
            await stack.enter_async_context(dispatcher.running(grace=0))
            await asyncio.sleep(10)

    loop.run_until_complete(scenario())

    assert gate.held == approximately((0, 0), (5 - LEAD, 5))


def test_first_call_of_a_batch_ends_the_quiet_once_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.quiet.LONGEST", 60.0)
    server, called = LocalServer(), list[int]()

    class Gate:
        def hold(self) -> None:
            called.append(len(server.paths))

        def go_on(self) -> None:
            called.append(len(server.paths))

    async def scenario() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/{{id}}"
        factory = LaneFactory(Settings(upstream_url=url, batch_interval=0.3), SystemClock(), {})
        lane = factory.lane("default", MemoryJournal(), Sequencer())
        lane.quiet.add(Gate())
        await lane.record(lane.accept([200, 201, 202, 203], Priority.LOW, 0.0))
        async with AsyncExitStack() as stack:
            dispatcher = await factory.dispatcher(lane, stack)
            await stack.enter_async_context(dispatcher.running(grace=0))
            while not lane.finished:  # noqa: ASYNC110 - it is told by asking
                await asyncio.sleep(0.01)
        listener.close()

    asyncio.run(scenario())

    assert called == [0, 0, 3, 3]


# How long


def test_quiet_lasts_until_no_lane_is_near_a_start(loop: VirtualLoop) -> None:
    quiet, gate = Quiet(), RecordingGate()
    quiet.add(gate)

    async def scenario() -> None:
        quiet.begin("one")
        await asyncio.sleep(LONGEST / 4)
        quiet.begin("other")
        quiet.end("one")
        quiet.end("one")
        quiet.end("a third")
        await asyncio.sleep(LONGEST / 4)
        quiet.end("other")

    loop.run_until_complete(scenario())

    assert gate.held == approximately((0, LONGEST / 2))


def test_quiet_is_a_share_of_the_time_at_most(loop: VirtualLoop) -> None:
    quiet, gate = Quiet(), RecordingGate()
    quiet.add(gate)

    async def scenario() -> None:
        for _ in range(100_000):
            quiet.begin("one")
            await asyncio.sleep(LONGEST / 100)

    loop.run_until_complete(scenario())

    first, *_ = gate.held
    assert first == pytest.approx((0, LONGEST), abs=TICK)
    assert max(until - since for since, until in gate.held) <= LONGEST + TICK
    assert sum(until - since for since, until in gate.held) / loop.time() == pytest.approx(
        RECOVERY / (1 + RECOVERY), rel=0.05
    )


def test_time_without_quiet_allows_for_no_more_than_the_longest(loop: VirtualLoop) -> None:
    quiet, gate = Quiet(), RecordingGate()
    quiet.add(gate)

    async def scenario() -> None:
        for _ in range(2):
            quiet.begin("one")
            await asyncio.sleep(1000)

    loop.run_until_complete(scenario())

    assert gate.held == approximately((0, LONGEST), (1000, 1000 + LONGEST))


def test_gate_that_is_added_twice_is_held_once(loop: VirtualLoop) -> None:
    quiet, gate = Quiet(), RecordingGate()
    quiet.add(gate)
    quiet.add(gate)

    async def scenario() -> None:
        quiet.begin("one")
        quiet.end("one")

    loop.run_until_complete(scenario())

    assert gate.held == [(0, 0)]


# What is held


def test_held_decisions_wait_but_for_the_urgent_ones(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream())
    asked: list[str] = []

    def propose(name: str) -> list[Event]:
        asked.append(name)
        return []

    async def scenario() -> None:
        bench.lane.quiet.begin("default")
        waiting = asyncio.create_task(bench.lane.decide(lambda: propose("a cancellation")))
        await bench.lane.decide(lambda: propose("a start"), is_urgent=True)
        await asyncio.sleep(0)
        asked.append("quiet is over")
        bench.lane.quiet.end("default")
        await waiting

    loop.run_until_complete(scenario())

    assert asked == ["a start", "quiet is over", "a cancellation"]


def test_held_decisions_are_taken_before_the_lane_is_left(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream())
    job = bench.submit([1, 2, 3], Priority.LOW)

    async def scenario() -> None:
        bench.lane.quiet.begin("default")
        cancelling = asyncio.create_task(bench.lane.decide(lambda: cancel(job, 0.0)))
        await asyncio.sleep(0)
        await bench.lane.settled()
        assert cancelling.done()

    loop.run_until_complete(scenario())

    assert job.is_cancelled


@pytest.mark.parametrize("came_before", [0, 1, AT_ONCE, 2 * AT_ONCE])
def test_nobody_begins_at_a_held_turnstile_and_nobody_is_passed_over_after_it(
    loop: VirtualLoop, came_before: int
) -> None:
    turnstile, quiet = Turnstile(), Quiet()
    quiet.add(turnstile)
    turns: list[list[int]] = [[]]

    def come(number: int) -> None:
        turnstile.begin(loop, lambda: turns[-1].append(number))

    async def turn() -> None:
        turns.append([])
        await asyncio.sleep(0)

    async def scenario() -> None:
        for number in range(came_before):
            come(number)
        quiet.begin("one")
        begun = len(turns[0])
        for number in range(came_before, 3 * AT_ONCE):
            come(number)
            await turn()
        assert sum(map(len, turns)) == begun
        quiet.end("one")
        for number in range(3 * AT_ONCE, 4 * AT_ONCE):
            come(number)
        for _ in range(8):
            await turn()

    loop.run_until_complete(scenario())

    assert [number for each in turns for number in each] == [*range(4 * AT_ONCE)]
    assert max(map(len, turns)) <= AT_ONCE


@pytest.mark.parametrize("turns", [0, 1])
def test_turnstile_that_is_held_for_an_instant_lets_no_more_in_by_that(loop: VirtualLoop, turns: int) -> None:
    turnstile, quiet = Turnstile(), Quiet()
    quiet.add(turnstile)
    begun: list[int] = []

    async def scenario() -> None:
        for number in range(4 * AT_ONCE):
            turnstile.begin(loop, lambda number=number: begun.append(number))  # type: ignore[misc]
        quiet.begin("one")
        for _ in range(turns):
            await asyncio.sleep(0)
        quiet.end("one")
        await asyncio.sleep(0)
        assert len(begun) == 2 * AT_ONCE

    loop.run_until_complete(scenario())


def test_what_a_served_app_answers_is_held_up_by_its_lanes() -> None:
    app = create_app(Settings(), EndlessUpstream(), ManualClock())
    with TestClient(app) as client:
        assert client.portal
        lane = client.app_state["lanes"]["default"]
        client.portal.call(lane.quiet.begin, "default")
        assert Connection.turnstile._is_held
        client.portal.call(lane.quiet.end, "default")
        assert not Connection.turnstile._is_held
