"""The collector looks through each ingestion once."""

import gc
from array import array
from collections.abc import Iterator

import pytest

from sluice.backlog import LEAST_STALE
from sluice.events import Expired
from sluice.garbage import GROWTH, INTERVAL, YOUNG, keep_out
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.lanes import Lanes
from sluice.models import Priority
from sluice.pace import Pace
from tests.virtual import VirtualLoop


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
    loop.create_task(keep_out(Lanes({"default": lane})))
    loop.advance(INTERVAL / 2)
    at_start = gc.get_freeze_count()
    assert at_start > 0
    assert gc.get_threshold()[0] == YOUNG

    fill(lane, GROWTH - 1)
    loop.advance(INTERVAL)
    assert gc.get_freeze_count() == at_start

    fill(lane, 1)
    loop.advance(INTERVAL)
    assert gc.get_freeze_count() >= at_start + GROWTH


def test_what_is_in_a_cycle_is_collected_before_anything_is_frozen(loop: VirtualLoop) -> None:
    class Cycle(list["Cycle"]):
        pass

    lane = Lane(MemoryJournal(), Pace(5.0), 3)
    loop.create_task(keep_out(Lanes({"default": lane})))
    loop.advance(INTERVAL / 2)
    cycle = Cycle()
    cycle.append(cycle)
    del cycle

    fill(lane, GROWTH)
    loop.advance(INTERVAL)

    gc.unfreeze()
    assert not any(isinstance(each, Cycle) for each in gc.get_objects())


def test_backlog_that_shrinks_leaves_nothing_behind(loop: VirtualLoop) -> None:
    lane = Lane(MemoryJournal(), Pace(5.0), 3)
    fill(lane, GROWTH)
    loop.create_task(keep_out(Lanes({"default": lane})))
    loop.advance(INTERVAL / 2)
    frozen = gc.get_freeze_count()

    for ingestion_id in [*lane.ingestions]:
        lane.apply(Expired(ingestion_id))

    assert gc.get_freeze_count() <= frozen - GROWTH + 2 * LEAST_STALE
