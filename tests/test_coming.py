"""The slots that come next: those that then really start, at the price of those looked at."""

from array import array
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sluice.backlog import Backlog, Entry, SweptQueue
from sluice.coming import coming
from sluice.events import Accepted, Held
from sluice.ingestion import NEVER, Ingestion
from sluice.models import Priority
from tests.jobs import ingestion
from tests.lane_states import STEPS, Scene, Shape, Step, numbered, scene, shapes, state_of
from tests.virtual import TICK

EVERYTHING = 10_000  # more slots than any state here has work for
FIVE_SECONDS = Shape(interval=5 * 64, batch_size=3, per_id=64)
MANY = 200_000


def told(at: Scene, count: int = EVERYTHING) -> list[tuple[list[int], float]]:
    """Return the IDs and times of the slots to come."""
    return [
        ([slot.ingestion.ids[position] for position in slot.positions], slot.start)
        for slot in at.lane.coming(count, at.now)
    ]


def submit(at: Scene, ids: range, priority: Priority) -> Ingestion:
    return at.bench.submit(ids, priority)


# What then happens


@given(shape=shapes(), steps=STEPS, count=st.sampled_from([1, 2, 5, 20, EVERYTHING]))
@settings(max_examples=120)
def test_coming_slots_are_those_that_then_start_to_the_tick(shape: Shape, steps: list[Step], count: int) -> None:
    with scene(shape, [*steps, ("resume",)]) as at:
        slots = at.lane.coming(count, at.now)

        starts = at.settle()

        event(f"a gap: {any(later.at - sooner.at > shape.interval / 64 for sooner, later in pairwise(starts))}")
        event(f"slots: {min(len(slots), 20)}")
        assert [(slot.ingestion.ingestion_id, slot.positions) for slot in slots] == [
            (start.ingestion_id, start.positions) for start in starts[:count]
        ]
        assert [slot.start for slot in slots] == pytest.approx([start.at for start in starts[:count]], abs=TICK)


@given(shape=shapes(may_overrun=True), steps=STEPS)
@settings(max_examples=120)
def test_coming_slots_and_forecasts_tell_the_same(shape: Shape, steps: list[Step]) -> None:
    with scene(shape, steps) as at:
        lane = at.lane
        slots = lane.coming(EVERYTHING, at.now)
        assert {slot.ingestion.ingestion_id for slot in slots} <= lane.ingestions.keys()

        for job in lane.ingestions.values():
            if shape.fills_slots and (lane.backlog.delayed or lane.paused):
                continue  # then it is an estimate, or there are no times to tell one slot from the next
            forecast = lane.forecast(job, at.now)
            own = [place for place, slot in enumerate(slots) if slot.ingestion is job]
            if forecast is None or not own:
                assert not own
                assert job.is_done or job.in_flight
                continue
            first, last = slots[own[0]], slots[own[-1]]
            assert numbered([slot.start for slot in slots], shape)[own[0]] == forecast.position
            assert first.start == pytest.approx(forecast.start, abs=TICK)
            shared = [slot for slot in slots if slot.start == last.start] if shape.fills_slots else [last]
            end = last.start + lane.pace.expected_duration(sum(len(slot.positions) for slot in shared))
            if job.in_flight:
                assert lane.running
                length = sum(len(part.positions) for part in lane.running.parts)
                running = lane.pace.last_start + lane.pace.expected_duration(length)
                end = max(end, running)
            assert forecast.completion == pytest.approx(max(at.now, end), abs=TICK)


@given(shape=shapes(may_overrun=True), steps=STEPS, count=st.integers(0, 30))
@settings(max_examples=120)
def test_fewer_coming_slots_are_the_first_of_more_and_looking_changes_nothing(
    shape: Shape, steps: list[Step], count: int
) -> None:
    with scene(shape, steps) as at:
        at.lane.backlog.release(at.now)
        before = state_of(at.lane)

        few, all_ = at.lane.coming(count, at.now), at.lane.coming(EVERYTHING, at.now)

        assert state_of(at.lane) == before
        assert few == all_[:count]


@given(shape=shapes(), steps=STEPS)
@settings(max_examples=50)
def test_slots_of_a_paused_lane_come_never_and_in_the_order_that_a_resumption_would_bring(
    shape: Shape, steps: list[Step]
) -> None:
    with scene(shape, [*steps, ("pause",)]) as at:
        paused = at.lane.coming(EVERYTHING, at.now)

        starts = at.settle()

        assert all(slot.start == NEVER for slot in paused)
        assert [slot.positions for slot in paused] == [start.positions for start in starts]


# Cases


def test_no_work_or_no_count_is_no_slot() -> None:
    with scene(FIVE_SECONDS) as at:
        assert at.lane.coming(20, at.now) == []
        submit(at, range(1, 10), Priority.LOW)
        assert at.lane.coming(0, at.now) == []


def test_every_slot_is_an_interval_after_the_one_before_and_goes_to_who_is_next_then() -> None:
    with scene(FIVE_SECONDS) as at:
        submit(at, range(1, 5), Priority.LOW)
        at.loop.advance(1)
        submit(at, range(11, 16), Priority.MEDIUM)
        submit(at, range(21, 23), Priority.HIGH)

        assert told(at) == [([21, 22], 5), ([11, 12, 13], 10), ([14, 15], 15), ([4], 20)]


def test_ids_to_be_tried_again_come_when_they_are_due_after_a_gap_in_which_nothing_is_ready() -> None:
    steps: list[Step] = [("jitter", 8), ("fail", "unavailable", 2), ("submit", 3, Priority.LOW), ("pass", 4 * 64)]
    with scene(FIVE_SECONDS, steps) as at:
        assert told(at) == [([1, 2], 19)]
        submit(at, range(11, 15), Priority.LOW)
        assert told(at) == [([11, 12, 13], 5), ([14], 10), ([1, 2], 19)]
        submit(at, range(21, 30), Priority.LOW)
        assert told(at) == [
            ([11, 12, 13], 5),
            ([14], 10),
            ([21, 22, 23], 15),
            ([1, 2], 20),
            ([24, 25, 26], 25),
            ([27, 28, 29], 30),
        ]


def test_ids_that_failed_in_different_slots_and_are_due_by_then_share_one() -> None:
    steps: list[Step] = [
        ("jitter", 8),
        *[("fail", "unavailable", 1)] * 2,
        ("submit", 6, Priority.LOW),
        ("pass", 8 * 64),
        ("submit", 12, Priority.HIGH),
    ]
    with scene(FIVE_SECONDS, steps) as at:
        assert [ids for ids, _ in told(at)] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [1, 4]]


def test_no_slot_comes_before_a_hold_ends() -> None:
    with scene(FIVE_SECONDS, [("submit", 6, Priority.LOW), ("pass", 64)]) as at:
        at.lane.apply(Held(33.5, "answered 503"))

        assert told(at) == [([4, 5, 6], 33.5)]


def test_cancelled_and_moved_ingestions_come_where_they_are_now_and_nowhere_else() -> None:
    with scene(FIVE_SECONDS) as at:
        submit(at, range(1, 4), Priority.HIGH)
        for first in range(11, 71, 10):
            submit(at, range(first, first + 3), Priority.MEDIUM)
        at.do([("cancel", 1), ("reprioritise", 2, Priority.LOW), ("reprioritise", 4, Priority.HIGH), ("cancel", 3)])
        at.do([("reprioritise", 5, Priority.LOW), ("reprioritise", 5, Priority.MEDIUM)])

        assert at.lane.backlog._queue.qsize() > 4
        assert [ids[0] for ids, _ in told(at)] == [41, 51, 61, 21]


# What it costs


class Looks:
    """Counts the entries of a queue that are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        in_order = SweptQueue.in_order

        def counted(queue: SweptQueue) -> Iterator[Entry]:
            for entry in in_order(queue):
                self.count += 1
                yield entry

        monkeypatch.setattr(SweptQueue, "in_order", counted)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.fixture(scope="module")
def many() -> list[Ingestion]:
    """Very many ingestions of a slot each."""
    shared = array("I", [1, 2, 3])
    return [
        Ingestion(Accepted(f"00000000-0000-4000-8000-{seq:012}", Priority.LOW, float(seq), seq, 3, shared))
        for seq in range(1, MANY + 1)
    ]


def backlog_of(jobs: list[Ingestion]) -> Backlog:
    backlog = Backlog()
    backlog.fill(jobs)
    return backlog


def test_a_hundred_of_very_many_waiting_ingestions_are_told_by_looking_at_a_hundred(
    many: list[Ingestion], looks: Looks
) -> None:
    slots = coming(backlog_of(many), 0.0, 5.0, 100)

    assert [slot.ingestion for slot in slots] == many[:100]
    assert looks.count <= 101


def test_slots_of_one_ingestion_are_told_by_looking_at_it_alone(many: list[Ingestion], looks: Looks) -> None:
    backlog = backlog_of(many)
    large = ingestion(3000)
    backlog.update(large)

    slots = coming(backlog, 0.0, 5.0, 100)

    assert {slot.ingestion.ingestion_id for slot in slots} == {large.ingestion_id}
    assert looks.count <= 2


def test_entries_that_nobody_took_out_since_their_cancellation_are_not_looked_at_each_time(
    many: list[Ingestion], looks: Looks
) -> None:
    backlog = backlog_of(many)
    for job in many[: MANY // 2]:
        backlog.remove(job)
    assert backlog._queue.qsize() == MANY

    slots = coming(backlog, 0.0, 5.0, 20)

    assert [slot.ingestion for slot in slots] == many[MANY // 2 : MANY // 2 + 20]
    assert looks.count <= 21
