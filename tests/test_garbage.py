"""The collector looks through each ingestion once."""

import gc
from array import array
from collections.abc import Iterator

import pytest

from sluice.backlog import LEAST_STALE
from sluice.events import Expired
from sluice.garbage import GROWTH, INTERVAL, MIDDLE, THOROUGH, YOUNG, keep_out
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.lanes import Lanes
from sluice.models import Priority
from sluice.pace import Pace
from sluice.quiet import STEP, STEPS
from sluice.upstream import SimulatedUpstream
from tests.virtual import Bench, VirtualClock, VirtualLoop

LATEST = INTERVAL + STEP * STEPS  # seconds: nobody takes what is filled in


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def fill(lane: Lane, count: int) -> None:
    for _ in range(count):
        lane.apply(lane.accept(array("I", [1]), Priority.LOW, 0.0))


def test_what_is_there_is_frozen_at_the_start_and_when_the_backlog_has_grown(loop: VirtualLoop) -> None:
    lane = Lane(MemoryJournal(), Pace(5.0), 3)
    loop.create_task(keep_out(Lanes({"default": lane}), VirtualClock(loop)))
    loop.advance(INTERVAL / 2)
    at_start = gc.get_freeze_count()
    assert at_start > 0
    assert gc.get_threshold()[0] == YOUNG

    fill(lane, GROWTH - 1)
    loop.advance(INTERVAL)
    assert gc.get_freeze_count() <= at_start  # what ends is frozen no longer, and other tests leave some that does

    fill(lane, 1)
    loop.advance(LATEST)
    assert gc.get_freeze_count() >= at_start + GROWTH


def test_what_is_in_a_cycle_is_collected_before_anything_is_frozen(loop: VirtualLoop) -> None:
    class Cycle(list["Cycle"]):
        pass

    lane = Lane(MemoryJournal(), Pace(5.0), 3)
    loop.create_task(keep_out(Lanes({"default": lane}), VirtualClock(loop)))
    loop.advance(INTERVAL / 2)
    cycle = Cycle()
    cycle.append(cycle)
    del cycle

    fill(lane, GROWTH)
    loop.advance(LATEST)

    gc.unfreeze()
    assert not any(isinstance(each, Cycle) for each in gc.get_objects())


def test_backlog_that_shrinks_leaves_nothing_behind(loop: VirtualLoop) -> None:
    lane = Lane(MemoryJournal(), Pace(5.0), 3)
    fill(lane, GROWTH)
    loop.create_task(keep_out(Lanes({"default": lane}), VirtualClock(loop)))
    loop.advance(INTERVAL / 2)
    frozen = gc.get_freeze_count()

    for ingestion_id in [*lane.ingestions]:
        lane.apply(Expired(ingestion_id))

    assert gc.get_freeze_count() <= frozen - GROWTH + 2 * LEAST_STALE


def look_through_what_is_left(times: int) -> None:
    for _ in range(times):
        gc.collect(1)


@pytest.fixture
def thorough(loop: VirtualLoop) -> Iterator[list[float]]:
    """When everything was looked through."""
    times: list[float] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            times.append(loop.time())

    gc.callbacks.append(note)
    yield times
    gc.callbacks.remove(note)


def test_everything_is_looked_through_now_and_then_and_frozen_only_with_a_backlog_that_has_grown(
    loop: VirtualLoop, thorough: list[float]
) -> None:
    loop.create_task(keep_out(Lanes({"default": Lane(MemoryJournal(), Pace(5.0), 3)}), VirtualClock(loop)))
    loop.advance(INTERVAL / 2)
    frozen = gc.get_freeze_count()

    look_through_what_is_left(MIDDLE)
    loop.advance(INTERVAL)
    assert thorough == []
    look_through_what_is_left(1)
    loop.advance(INTERVAL)

    assert len(thorough) == 1
    assert gc.get_freeze_count() <= frozen


def test_everything_is_looked_through_between_two_starts(loop: VirtualLoop, thorough: list[float]) -> None:
    starts: list[float] = []
    bench = Bench(loop, SimulatedUpstream(0.0, on_sent=lambda: starts.append(loop.time())), interval=0.11)
    loop.create_task(keep_out(Lanes({"default": bench.lane}), bench.clock))
    bench.submit([*range(1, 1000)], Priority.LOW)
    bench.start()
    for _ in range(20):
        look_through_what_is_left(MIDDLE + 1)
        loop.advance(1.0)

    assert len(thorough) == 20
    for at in thorough:
        assert min(start for start in starts if start > at) > at + THOROUGH


def test_python_itself_never_looks_through_everything(loop: VirtualLoop, thorough: list[float]) -> None:
    loop.create_task(keep_out(Lanes({"default": Lane(MemoryJournal(), Pace(5.0), 3)}), VirtualClock(loop)))
    loop.advance(INTERVAL / 2)

    kept: list[list[int]] = [[] for _ in range(40 * YOUNG * MIDDLE)]

    assert kept
    assert gc.get_count()[2] > MIDDLE
    assert thorough == []


def test_thresholds_are_pythons_again_when_it_is_stopped(loop: VirtualLoop) -> None:
    before = gc.get_threshold()
    keeping = loop.create_task(keep_out(Lanes({"default": Lane(MemoryJournal(), Pace(5.0), 3)}), VirtualClock(loop)))
    loop.advance(INTERVAL / 2)
    assert gc.get_threshold() != before

    keeping.cancel()
    loop.advance(INTERVAL / 2)

    assert gc.get_threshold() == before
