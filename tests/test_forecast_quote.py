"""What a submission is told beforehand: what it would be told after, and what then happens."""

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from sluice.ingestion import NEVER
from sluice.models import Priority
from tests.lane_states import PRIORITIES, STEPS, Shape, Step, numbered, scene, shapes, state_of
from tests.virtual import TICK

COUNTS = st.integers(1, 30)
SLOW_AND_SHORT = Shape(interval=64, batch_size=3, per_id=64)


@given(shape=shapes(may_overrun=True), steps=STEPS, count=COUNTS, priority=PRIORITIES)
@settings(max_examples=120)
def test_quote_is_the_forecast_after_accepting_as_much_at_that_instant(
    shape: Shape, steps: list[Step], count: int, priority: Priority
) -> None:
    with scene(shape, steps) as at:
        lane = at.lane

        quote = lane.quote(count, priority, at.now, at.bench.clock.time())
        accepted = at.accept(count, priority)

        event(f"delayed: {bool(lane.backlog.delayed)}, paused: {bool(lane.paused)}, running: {bool(lane.running)}")
        assert quote == lane.forecast(accepted, at.now)
        assert (quote.start == NEVER) == (lane.paused is not None)


@given(shape=shapes(may_overrun=True), steps=STEPS, count=COUNTS)
@settings(max_examples=60)
def test_quoting_changes_nothing(shape: Shape, steps: list[Step], count: int) -> None:
    with scene(shape, steps) as at:
        lane = at.lane
        lane.backlog.release(at.now)
        before = state_of(lane)

        quotes = [lane.quote(count, priority, at.now, at.bench.clock.time()) for priority in Priority]

        assert state_of(lane) == before
        assert quotes == [lane.quote(count, priority, at.now, at.bench.clock.time()) for priority in Priority]


@given(shape=shapes(), steps=STEPS, count=COUNTS, priority=PRIORITIES)
@example(Shape(64, 1, 0), [("submit", 2, Priority.HIGH)], 2, Priority.LOW)
@settings(max_examples=120)
def test_quote_comes_true_to_the_tick_when_nothing_else_arrives_or_fails(
    shape: Shape, steps: list[Step], count: int, priority: Priority
) -> None:
    with scene(shape, [*steps, ("resume",)]) as at:
        quote = at.lane.quote(count, priority, at.now, at.bench.clock.time())
        accepted = at.accept(count, priority)
        estimated = bool(at.lane.backlog.delayed)

        starts = at.settle()

        own = [place for place, start in enumerate(starts) if start.ingestion_id == accepted.ingestion_id]
        event(f"position: {min(quote.position, 9)}")
        if shape.fills_slots and estimated:
            return
        assert numbered([start.at for start in starts], shape)[own[0]] == quote.position
        assert len(own) == accepted.total
        assert starts[own[0]].at == pytest.approx(quote.start, abs=TICK)
        assert starts[own[-1]].ended == pytest.approx(quote.completion, abs=TICK)


def test_quote_is_behind_what_other_processes_gave_higher_numbers() -> None:
    with scene(SLOW_AND_SHORT) as at:
        accepted = at.lane.accept([1] * 9, Priority.MEDIUM, at.bench.clock.time())
        at.lane.apply(accepted._replace(seq=10_000))

        assert at.lane.quote(1, Priority.MEDIUM, at.now, at.bench.clock.time()).position == 3
        assert at.lane.quote(1, Priority.LOW, at.now, at.bench.clock.time()).position == 3
        assert at.lane.quote(1, Priority.HIGH, at.now, at.bench.clock.time()).position == 0


def test_quote_counts_ids_that_will_be_tried_again_ahead_of_it_and_not_those_behind() -> None:
    steps: list[Step] = [("jitter", 1), ("fail", "unavailable", 3), ("submit", 3, Priority.MEDIUM), ("pass", 4 * 64)]
    with scene(Shape(interval=5 * 64, batch_size=3, per_id=64), steps) as at:
        # Failed at 3.0, to be tried again at 5.0, when the next slot opens.
        (delayed,) = at.lane.backlog.delayed.values()
        assert delayed[0] == 5.0

        quotes = [at.lane.quote(4, priority, at.now, at.bench.clock.time()) for priority in Priority]

        assert quotes == [(0, 5.0, 11.0), (1, 10.0, 16.0), (1, 10.0, 16.0)]


def test_quote_has_the_slots_in_which_ids_ahead_of_it_still_wait_for_their_time() -> None:
    steps: list[Step] = [("jitter", 2), ("fail", "unavailable", 3), ("submit", 3, Priority.HIGH), ("pass", 4 * 64)]
    with scene(Shape(interval=5 * 64, batch_size=3, per_id=64), steps) as at:
        # Failed at 3.0, to be tried again at 7.0: between the first slot of what is quoted and its second.
        assert at.lane.quote(4, Priority.LOW, at.now, at.bench.clock.time()) == (0, 5.0, 16.0)
