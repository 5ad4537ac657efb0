"""When there will be room: when as many as are too many will have started, at the price of a short walk."""

from collections.abc import Iterator

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sluice.ingestion import NEVER, Ingestion
from sluice.models import Priority
from sluice.outlook import MOST_WALKED
from tests.lane_states import STEPS, Scene, Shape, Step, scene, shapes
from tests.virtual import TICK

TEN_SECONDS = Shape(interval=10 * 64, batch_size=100, per_id=0, fills_slots=True)


def room_at(at: Scene, ingestions: int, ids: int) -> float:
    """Return in how many seconds there will be room."""
    return at.lane.room_at(ingestions, ids, at.now) - at.now


# What then happens


@given(shape=shapes(), steps=STEPS, ingestions=st.integers(0, 6), ids=st.integers(0, 20))
@settings(max_examples=200)
def test_there_is_room_when_it_was_told_to_the_tick(shape: Shape, steps: list[Step], ingestions: int, ids: int) -> None:
    with scene(shape, [*steps, ("resume",)]) as at:
        lane = at.lane
        lane.backlog.release(at.now)
        waiting = [*lane.backlog.in_order()]
        ingestions, ids = min(ingestions, len(waiting)), min(ids, lane.waiting_ids)
        if (not ingestions and not ids) or lane.backlog.delayed:
            return  # what is tried again later comes back to those that wait
        first = {each.ingestion_id: each.started * each.batch_size for each in waiting}
        left = {each.ingestion_id: each.waiting_ids + len(each.ready) for each in waiting}

        told = lane.room_at(ingestions, ids, at.now)

        event(f"shared: {shape.fills_slots}, ingestions: {bool(ingestions)}, ids: {bool(ids)}")
        for start in at.settle():
            left[start.ingestion_id] -= len(start.positions)
            ingestions -= not left[start.ingestion_id]
            ids -= sum(position >= first[start.ingestion_id] for position in start.positions)
            if ingestions <= 0 and ids <= 0:
                assert told == pytest.approx(start.at, abs=TICK)
                break
        else:
            raise AssertionError("there never was room")


def test_short_batches_that_share_a_slot_make_room_together() -> None:
    with scene(TEN_SECONDS) as at:
        for _ in range(301):
            at.bench.submit([1, 2], Priority.LOW)

        # The first is running; 50 go in each of the next slots.
        assert [room_at(at, each, 0) for each in (1, 50, 51, 300)] == pytest.approx([10, 10, 20, 60])
        assert [room_at(at, 0, each) for each in (1, 100, 101, 600)] == pytest.approx([10, 10, 20, 60])


def test_part_of_a_large_ingestion_makes_room_for_ids() -> None:
    with scene(Shape(interval=64, batch_size=3, per_id=0), [("submit", 1, Priority.HIGH)]) as at:
        at.bench.submit(range(1, 1_000_000), Priority.LOW)

        assert [room_at(at, 0, each) for each in (1, 3, 4, 3000)] == pytest.approx([1, 1, 2, 1000])


def test_ids_tried_again_much_later_keep_nobody_waiting_who_waits_for_others() -> None:
    with scene(Shape(interval=64, batch_size=3, per_id=0), [("fail", "hold", 3)]) as at:
        at.bench.submit(range(1, 31), Priority.LOW)
        at.loop.advance(0.5)

        assert at.lane.backlog.delayed
        assert room_at(at, 0, 3) < 64


def test_there_is_never_room_while_paused() -> None:
    with scene(TEN_SECONDS, [("submit", 3, Priority.LOW), ("submit", 3, Priority.LOW), ("pause",)]) as at:
        assert room_at(at, 1, 0) == NEVER


# Its price


def test_no_more_than_so_many_that_wait_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(Shape(interval=64, batch_size=3, per_id=0)) as at:
        for _ in range(3 * MOST_WALKED + 1):
            at.bench.submit([1], Priority.LOW)
        backlog, in_order = at.lane.backlog, at.lane.backlog.in_order
        walked = 0

        def counted() -> Iterator[Ingestion]:
            nonlocal walked
            for each in in_order():
                walked += 1
                yield each

        monkeypatch.setattr(backlog, "in_order", counted)

        # Those are gone by then: there may be room later only.
        assert room_at(at, 3 * MOST_WALKED, 0) == pytest.approx(MOST_WALKED)
        assert walked == MOST_WALKED
