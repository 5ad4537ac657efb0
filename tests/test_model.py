"""The real dispatcher, in virtual time, against a plain list: order, pace, statuses, position, forecast."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluice import control
from sluice.events import Event, Finished, Started
from sluice.ingestion import NEVER, Batch, Ingestion
from sluice.journal.memory import MemoryJournal
from sluice.models import Priority
from sluice.retry import RetryPolicy
from sluice.upstream import SimulatedUpstream, UpstreamError, UpstreamUnavailable
from tests.model import ATTEMPTS, ModelJournal
from tests.virtual import MILLISECOND, TICK, Bench, RecordingUpstream, VirtualLoop

PRIORITIES = st.sampled_from(Priority)
OUTCOMES = ["done", "refuse", "unavailable", "hold", "crash", "cancel", "hang", "tidy"]


class DispatchMachine(RuleBasedStateMachine):
    """Random submissions, control, clock steps, wall-clock jumps, restarts, upstream durations and failures."""

    @initialize(
        interval=st.integers(1, 20_000),
        batch_size=st.integers(1, 5),
        seconds_per_id=st.integers(0, 3),
        aging=st.none() | st.integers(0, 60_000),
        fills_slots=st.booleans(),
    )
    def build(self, interval: int, batch_size: int, seconds_per_id: int, aging: int | None, fills_slots: bool) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.plans: list[tuple[float, str, int]] = []
        self.jitter = 0.5
        self.model = ModelJournal(self.loop, interval * MILLISECOND)
        # Everything else is a whole number of milliseconds: no two reach a class at the same time.
        self.model.aging = None if aging is None else (aging + 0.3) * MILLISECOND
        self.model.room = batch_size if fills_slots else 0
        self.batch_size = batch_size
        self.seconds_per_id = float(seconds_per_id)
        self.boot()

    def boot(self) -> None:
        self.upstream = RecordingUpstream(self.behave)
        retry = RetryPolicy(ATTEMPTS, base=3.1, longest=40.0, longest_hold=100.0, draw=lambda: self.jitter)
        self.bench = Bench(
            self.loop,
            self.upstream,
            interval=self.model.interval,
            batch_size=self.batch_size,
            timeout=30.0,
            seconds_per_id=self.seconds_per_id,
            journal=self.model,
            retry=retry,
            aging=self.model.aging,
            fills_slots=self.model.room > 0,
        )
        self.model.wall = self.bench.clock.time
        self.bench.start()

    async def behave(self, batch: Batch) -> object:
        duration, outcome, count = self.plans.pop(0) if self.plans else (1.0, "done", 0)
        await asyncio.sleep(duration)
        failure: UpstreamError
        match outcome:
            case "refuse":
                failure = UpstreamError("refused")
            case "unavailable":
                failure = UpstreamUnavailable("answered 503")
            case "hold":
                failure = UpstreamUnavailable("answered 429", retry_after=20.5)
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
        if outcome == "done":
            return None
        return [failure if place < count else item for place, item in enumerate(batch.ids)]

    @rule(count=st.integers(1, 20), priority=PRIORITIES)
    def submit(self, count: int, priority: Priority) -> None:
        self.bench.submit(range(1, count + 1), priority)

    @rule(milliseconds=st.integers(0, 20_000), outcome=st.sampled_from(OUTCOMES), count=st.integers(1, 5))
    def plan_a_batch(self, milliseconds: int, outcome: str, count: int) -> None:
        self.plans.append((milliseconds * MILLISECOND, outcome, count))

    @rule(percent=st.integers(0, 100))
    def draw_a_jitter(self, percent: int) -> None:
        self.jitter = percent / 100

    @rule(milliseconds=st.one_of(st.integers(0, 100), st.integers(0, 60_000), st.integers(0, 3_600_000)))
    def pass_time(self, milliseconds: int) -> None:
        self.loop.advance(milliseconds * MILLISECOND)

    @rule(seconds=st.integers(-86_400, 86_400))
    def set_the_wall_clock(self, seconds: int) -> None:
        self.bench.clock.wall_offset += seconds

    def decide(self, propose: Callable[[Ingestion], Sequence[Event]], data: st.DataObject) -> None:
        ingestion = data.draw(st.sampled_from(list(self.bench.lane.ingestions.values())))
        try:
            self.bench.decide(lambda: propose(ingestion))
        except control.ConflictError:
            model = self.model.jobs[ingestion.ingestion_id]
            assert model.is_done or not any(item.state == "failed" for item in model.items)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.decide(lambda ingestion: control.cancel(ingestion, 0.0), data)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), priority=PRIORITIES)
    def reprioritise(self, data: st.DataObject, priority: Priority) -> None:
        self.decide(lambda ingestion: control.reprioritise(ingestion, priority), data)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def revive(self, data: st.DataObject) -> None:
        self.decide(control.revive, data)

    @rule()
    def pause(self) -> None:
        self.bench.decide(lambda: control.pause(self.bench.lane, 0.0, ""))

    @rule()
    def resume(self) -> None:
        self.bench.decide(lambda: control.resume(self.bench.lane))

    @rule()
    def die_and_restart(self) -> None:
        self.bench.kill()
        self.model.restart()
        self.boot()

    @rule()
    def take_up_the_record(self) -> None:
        """Do what a process does that missed what others appended."""
        self.loop.advance(TICK)  # a call that is due has its own say on the pace
        self.bench.lane.restore(self.model.replay())
        self.model.resume_from_record()
        self.loop.advance(0)

    @invariant()
    def every_status_is_the_models(self) -> None:
        for name, job in self.model.jobs.items():
            ingestion = self.bench.lane.ingestions[name]
            statuses = [job.status_of(batch) for batch in job.batches()]
            assert self.bench.statuses(name) == statuses
            assert ingestion.is_done == job.is_done
            assert ingestion.batch_counts() == {
                status: statuses.count(status.value) for status in ingestion.batch_counts()
            }

    @invariant()
    def the_upstream_never_has_two_batches(self) -> None:
        assert self.upstream.most_in_flight <= 1

    @invariant()
    def nothing_is_overdue(self) -> None:
        if self.model.running is None and self.model.paused is None:
            now = self.loop.time()
            assert now <= self.model.earliest(now) + 3 * TICK

    @invariant()
    def position_and_forecast_are_the_models(self) -> None:
        lane, now = self.bench.lane, self.bench.clock.now()
        held_until = self.model.held.until if self.model.held else now
        start = max(now, self.model.last_start + self.model.interval, held_until)
        running_until = now
        if running := self.model.running:
            length = sum(len(part.positions) for part in running.parts)
            running_until = self.model.last_start + lane.pace.expected_duration(length)
            start = max(start, running_until)
        spacing = max(self.model.interval, lane.pace.expected_duration(lane.batch_size))
        if self.model.room and lane.backlog.delayed:
            return  # then it is an estimate
        slots = self.model.play(start, spacing)
        for name, job in self.model.jobs.items():
            forecast = lane.forecast(lane.ingestions[name], now)
            assert (forecast is None) == job.is_done
            if forecast is None or name not in slots:
                continue
            position, first, last, last_length = slots[name]
            assert forecast.position == position
            if self.model.paused:
                assert (forecast.start, forecast.completion) == (NEVER, NEVER)
                continue
            completion = max(last + lane.pace.expected_duration(last_length), now)
            if running and name in {part.ingestion_id for part in running.parts}:
                completion = max(completion, running_until)
            assert forecast.start == pytest.approx(first, abs=MILLISECOND)
            assert forecast.completion == pytest.approx(completion, abs=MILLISECOND)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.finish()
            asyncio.set_event_loop(None)


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(
    max_examples=300,
    stateful_step_count=40,
)


class TimedJournal(MemoryJournal):
    """Notes when each batch of each ingestion started, and when it last ended."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: dict[str, list[float]] = {}
        self.ends: dict[str, float] = {}

    async def append(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Started():
                    self.starts.setdefault(event.ingestion_id, []).append(event.at)
                case Finished():
                    self.ends[event.ingestion_id] = event.at
        await super().append(events)


@given(
    jobs=st.lists(
        st.tuples(st.integers(1, 30), PRIORITIES, st.integers(0, 30_000), st.sampled_from(["", "", "fail", "cancel"])),
        min_size=1,
        max_size=12,
    ),
    interval=st.integers(3_000, 20_000),
    batch_size=st.integers(1, 3),
)
@settings(max_examples=200)
def test_forecasts_come_true_to_the_millisecond_when_nothing_more_arrives_or_fails(
    jobs: list[tuple[int, Priority, int, str]], interval: int, batch_size: int
) -> None:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    journal = TimedJournal()
    failing = True
    simulated = SimulatedUpstream(1.0)

    async def behave(batch: Batch) -> object:
        answers = await simulated.process(batch)
        return [
            UpstreamUnavailable("answered 503") if item == 2 and failing else answer
            for item, answer in zip(batch.ids, answers, strict=True)
        ]

    retry = RetryPolicy(10, base=7.77, longest=90.9, longest_hold=100.0)
    upstream = RecordingUpstream(behave)
    bench = Bench(loop, upstream, interval=interval * MILLISECOND, batch_size=batch_size, journal=journal, retry=retry)
    bench.start()
    for count, priority, milliseconds, fate in jobs:
        job = bench.submit([2 if fate == "fail" and place % 4 == 0 else 1 for place in range(count)], priority)
        loop.advance(milliseconds * MILLISECOND)
        if fate == "cancel":
            bench.decide(lambda job=job: control.cancel(job, 0.0))  # type: ignore[misc]
    while bench.lane.running:  # it may still fail, which no forecast knows
        loop.advance(0.5)

    failing = False
    known = {job.ingestion_id: len(journal.starts.get(job.ingestion_id, [])) for job in bench.lane.ingestions.values()}
    forecasts = {
        job: forecast
        for job in bench.lane.ingestions.values()
        if (forecast := bench.lane.forecast(job, bench.clock.now()))
    }
    loop.advance(100 + sum(count for count, *_ in jobs) * interval * MILLISECOND * 2)

    for job, forecast in forecasts.items():
        start = journal.starts[job.ingestion_id][known[job.ingestion_id]]
        assert forecast.start == pytest.approx(start, abs=MILLISECOND)
        assert forecast.completion == pytest.approx(journal.ends[job.ingestion_id], abs=MILLISECOND)
    loop.finish()
    asyncio.set_event_loop(None)


def test_forecast_of_overrunning_full_batches_comes_true(loop: VirtualLoop) -> None:
    journal = TimedJournal()
    bench = Bench(loop, SimulatedUpstream(1.0), interval=2.0, journal=journal).start()
    bench.submit([1] * 9, Priority.HIGH)
    job = bench.submit([1] * 6, Priority.LOW)
    loop.advance(0)

    forecast = bench.lane.forecast(job, bench.clock.now())
    loop.advance(60)

    assert forecast is not None
    assert forecast.position == 2
    assert forecast.start == pytest.approx(journal.starts[job.ingestion_id][0], abs=MILLISECOND)
    assert forecast.completion == pytest.approx(journal.ends[job.ingestion_id], abs=MILLISECOND)
