"""What is held while it is quiet: decisions that can wait, and whoever comes to the turnstile."""

import asyncio

import pytest
from fastapi.testclient import TestClient

from sluice.app import create_app
from sluice.connection import Connection
from sluice.control import cancel
from sluice.events import Event
from sluice.models import Priority
from sluice.quiet import Quiet
from sluice.settings import Settings
from sluice.turnstile import AT_ONCE, Turnstile
from tests.api import ManualClock
from tests.api_steps import EndlessUpstream
from tests.virtual import Bench, RecordingUpstream, VirtualLoop


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


def test_other_loop_of_the_process_holds_up_nobody_and_lets_nobody_in(loop: VirtualLoop) -> None:
    turnstile, begun = Turnstile(), list[int]()
    other = VirtualLoop()

    async def hold() -> None:
        turnstile.hold()
        turnstile.go_on()

    async def scenario() -> None:
        for number in range(2 * AT_ONCE):
            turnstile.begin(loop, lambda number=number: begun.append(number))  # type: ignore[misc]

    loop.run_until_complete(scenario())
    other.run_until_complete(hold())
    loop.advance(1)

    assert begun == [*range(2 * AT_ONCE)]
    other.close()


def test_what_a_served_app_answers_is_held_up_by_its_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.quiet.LONGEST", 60.0)
    monkeypatch.setattr(Connection, "turnstile", Turnstile())
    app = create_app(Settings(), EndlessUpstream(), ManualClock())
    with TestClient(app) as client:
        assert client.portal
        lane = client.app_state["lanes"]["default"]
        client.portal.call(lane.quiet.begin, "default")
        assert Connection.turnstile._is_held
        client.portal.call(lane.quiet.end, "default")
        assert not Connection.turnstile._is_held
