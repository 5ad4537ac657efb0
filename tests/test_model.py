"""The real dispatcher, in virtual time, against a sorted list: order, pace, statuses, position, forecast."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sluice.events import Accepted, Event, Finished, Started
from sluice.ingestion import Batch
from sluice.models import Priority
from sluice.upstream import SimulatedUpstream, UpstreamError
from tests.virtual import MILLISECOND, TICK, Bench, RecordingUpstream, VirtualLoop

PRIORITIES = st.sampled_from(Priority)
NEVER = float("inf")


class Waiting(NamedTuple):
    """One batch in the model's list; its natural order is the order of dispatch."""

    priority: Priority
    created_time: float
    seq: int
    batch_index: int
    ingestion_id: str


class SortedListJournal:
    """The model. It stands where the journal does, so it sees every event at the instant of its decision."""

    def __init__(self, loop: VirtualLoop, interval: float) -> None:
        self.loop = loop
        self.interval = interval
        self.waiting: list[Waiting] = []
        self.statuses: dict[str, list[str]] = {}
        self.running: Started | None = None
        self.last_start = -NEVER
        self.last_end = -NEVER
        self.waiting_since = -NEVER

    @property
    def due(self) -> float:
        """When the next batch must start: one interval after the last, after it ended, once something waits."""
        return max(self.last_start + self.interval, self.last_end, self.waiting_since)

    async def append(self, events: Sequence[Event]) -> None:
        now = self.loop.time()
        for event in events:
            match event:
                case Accepted():
                    if not self.waiting:
                        self.waiting_since = now
                    total = -(-len(event.ids) // event.batch_size)
                    self.statuses[event.ingestion_id] = ["yet_to_start"] * total
                    self.waiting += [
                        Waiting(event.priority, event.created_time, event.seq, index, event.ingestion_id)
                        for index in range(total)
                    ]
                case Started():
                    assert self.running is None, "two batches at a time"
                    first = min(self.waiting)
                    assert (event.ingestion_id, event.batch_index) == (first.ingestion_id, first.batch_index)
                    assert event.at == pytest.approx(now, abs=TICK)
                    assert event.at - self.last_start >= self.interval - TICK, "early"
                    assert event.at == pytest.approx(self.due, abs=2 * TICK), "late"
                    self.waiting.remove(first)
                    self.statuses[event.ingestion_id][event.batch_index] = "triggered"
                    self.running = event
                    self.last_start = event.at
                case Finished():
                    assert self.running is not None
                    assert (event.ingestion_id, event.batch_index) == self.running[:2]
                    outcome = "completed" if event.error is None else "failed"
                    self.statuses[event.ingestion_id][event.batch_index] = outcome
                    self.running = None
                    self.last_end = event.at


class DispatchMachine(RuleBasedStateMachine):
    """Random submissions, clock steps, wall-clock jumps, upstream durations and failures."""

    @initialize(interval=st.integers(1, 20_000), batch_size=st.integers(1, 5), seconds_per_id=st.integers(0, 3))
    def build(self, interval: int, batch_size: int, seconds_per_id: int) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.plans: list[tuple[float, str]] = []
        self.model = SortedListJournal(self.loop, interval * MILLISECOND)
        self.upstream = RecordingUpstream(self.behave)
        self.bench = Bench(
            self.loop,
            self.upstream,
            interval=interval * MILLISECOND,
            batch_size=batch_size,
            timeout=30.0,
            seconds_per_id=float(seconds_per_id),
            journal=self.model,
        ).start()

    async def behave(self, batch: Batch) -> None:
        duration, outcome = self.plans.pop(0) if self.plans else (1.0, "done")
        await asyncio.sleep(duration)
        match outcome:
            case "refuse":
                raise UpstreamError("refused")
            case "crash":
                raise ValueError
            case "cancel":
                raise asyncio.CancelledError
            case "hang":
                await asyncio.Event().wait()
            case "tidy":
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.5)

    @rule(count=st.integers(1, 20), priority=PRIORITIES)
    def submit(self, count: int, priority: Priority) -> None:
        self.bench.submit(range(1, count + 1), priority)

    @rule(
        milliseconds=st.integers(0, 20_000),
        outcome=st.sampled_from(["done", "refuse", "crash", "cancel", "hang", "tidy"]),
    )
    def plan_a_batch(self, milliseconds: int, outcome: str) -> None:
        self.plans.append((milliseconds * MILLISECOND, outcome))

    @rule(milliseconds=st.one_of(st.integers(0, 100), st.integers(0, 60_000), st.integers(0, 3_600_000)))
    def pass_time(self, milliseconds: int) -> None:
        self.loop.advance(milliseconds * MILLISECOND)

    @rule(seconds=st.integers(-86_400, 86_400))
    def set_the_wall_clock(self, seconds: int) -> None:
        self.bench.clock.wall_offset += seconds

    @invariant()
    def every_status_is_the_models(self) -> None:
        for ingestion_id, statuses in self.model.statuses.items():
            assert self.bench.statuses(ingestion_id) == statuses

    @invariant()
    def the_upstream_never_has_two_batches(self) -> None:
        assert self.upstream.most_in_flight <= 1

    @invariant()
    def nothing_is_overdue(self) -> None:
        if self.model.waiting and self.model.running is None:
            assert self.loop.time() <= self.model.due + 2 * TICK

    @invariant()
    def position_and_forecast_are_the_models(self) -> None:
        lane, now = self.bench.lane, self.bench.clock.now()
        order = sorted(self.model.waiting)
        slot = max(now, self.model.last_start + self.model.interval)
        if running := self.model.running:
            length = lane.ingestions[running.ingestion_id].batch_length(running.batch_index)
            slot = max(slot, running.at + lane.pace.expected_duration(length))
        spacing = max(self.model.interval, lane.pace.expected_duration(lane.batch_size))
        for ingestion_id, statuses in self.model.statuses.items():
            ingestion = lane.ingestions[ingestion_id]
            forecast = lane.forecast(ingestion, now)
            mine = [place for place, batch in enumerate(order) if batch.ingestion_id == ingestion_id]
            if not mine:
                assert (forecast is None) == ("triggered" not in statuses)
                continue
            assert forecast is not None
            assert forecast.position == mine[0]
            assert forecast.start == pytest.approx(slot + mine[0] * spacing, abs=MILLISECOND)
            duration = lane.pace.expected_duration(ingestion.batch_length(ingestion.total - 1))
            assert forecast.completion == pytest.approx(slot + mine[-1] * spacing + duration, abs=MILLISECOND)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.finish()
            asyncio.set_event_loop(None)


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


class TimedJournal:
    """Notes when each ingestion first started after `watch`, and when it last ended."""

    def __init__(self) -> None:
        self.starts: dict[str, list[float]] = {}
        self.ends: dict[str, float] = {}

    async def append(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Started():
                    self.starts.setdefault(event.ingestion_id, []).append(event.at)
                case Finished():
                    self.ends[event.ingestion_id] = event.at


@given(
    jobs=st.lists(st.tuples(st.integers(1, 30), PRIORITIES, st.integers(0, 30_000)), min_size=1, max_size=12),
    interval=st.integers(3_000, 20_000),
    batch_size=st.integers(1, 3),
)
@settings(deadline=None, max_examples=200)
def test_forecasts_come_true_to_the_millisecond_when_nothing_more_arrives(
    jobs: list[tuple[int, Priority, int]], interval: int, batch_size: int
) -> None:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    journal = TimedJournal()
    bench = Bench(loop, SimulatedUpstream(1.0), interval=interval * MILLISECOND, batch_size=batch_size, journal=journal)
    bench.start()
    for count, priority, milliseconds in jobs:
        bench.submit([1] * count, priority)
        loop.advance(milliseconds * MILLISECOND)

    forecasts = {
        ingestion: (forecast, ingestion.waiting)
        for ingestion in bench.lane.ingestions.values()
        if (forecast := bench.lane.forecast(ingestion, bench.clock.now()))
    }
    loop.advance(sum(count for count, *_ in jobs) * interval * MILLISECOND)

    for ingestion, (forecast, waiting) in forecasts.items():
        start = journal.starts[ingestion.ingestion_id][-waiting or -1]
        assert forecast.start == pytest.approx(start, abs=MILLISECOND)
        assert forecast.completion == pytest.approx(journal.ends[ingestion.ingestion_id], abs=MILLISECOND)
    loop.finish()
    asyncio.set_event_loop(None)


def test_forecast_of_overrunning_full_batches_comes_true(loop: VirtualLoop) -> None:
    journal = TimedJournal()
    bench = Bench(loop, SimulatedUpstream(1.0), interval=2.0, journal=journal).start()
    bench.submit([1] * 9, Priority.HIGH)
    job = bench.submit([1] * 6, Priority.LOW)

    forecast = bench.lane.forecast(job, bench.clock.now())
    loop.advance(60)

    assert forecast is not None
    assert forecast.position == 2
    assert forecast.start == pytest.approx(journal.starts[job.ingestion_id][0], abs=MILLISECOND)
    assert forecast.completion == pytest.approx(journal.ends[job.ingestion_id], abs=MILLISECOND)
