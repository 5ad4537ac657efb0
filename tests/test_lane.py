import asyncio
from collections.abc import Callable, Sequence

import pytest

from sluice.control import ConflictError, cancel, pause, reprioritise, revive
from sluice.decisions import AT_ONCE
from sluice.events import Event, Paused
from sluice.ingestion import Batch
from sluice.journal.memory import MemoryJournal
from sluice.models import Priority
from sluice.retry import RetryPolicy
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop


@pytest.fixture
def bench(loop: VirtualLoop) -> Bench:
    return Bench(loop, RecordingUpstream()).start()


def test_created_time_never_goes_back_when_the_wall_clock_does(bench: Bench) -> None:
    first = bench.submit([1], Priority.LOW)
    bench.clock.wall_offset = -3600.0

    second = bench.submit([2], Priority.LOW)

    assert second.created_time == first.created_time
    assert second.seq > first.seq


def test_forecast_of_a_fresh_ingestion_counts_the_slots_ahead(bench: Bench) -> None:
    bench.submit([1, 2, 3], Priority.MEDIUM)
    bench.loop.advance(0)
    job = bench.submit([4, 5, 6, 7], Priority.MEDIUM)
    bench.submit([8, 9, 10], Priority.HIGH)

    forecast = bench.lane.forecast(job, bench.clock.now())

    assert forecast is not None
    assert forecast.position == 1
    assert forecast.start == pytest.approx(10.0)
    assert forecast.completion == pytest.approx(16.0)


def test_forecast_of_the_last_running_batch_is_its_start_and_end(bench: Bench) -> None:
    job = bench.submit([1, 2], Priority.LOW)
    bench.loop.advance(1)

    forecast = bench.lane.forecast(job, bench.clock.now())

    assert forecast is not None
    assert forecast.position == 0
    assert forecast.start == pytest.approx(0.0)
    assert forecast.completion == pytest.approx(2.0)


def test_forecast_of_a_done_ingestion_is_none(bench: Bench) -> None:
    job = bench.submit([1], Priority.LOW)
    bench.loop.advance(2)

    assert job.is_done
    assert bench.lane.forecast(job, bench.clock.now()) is None


def test_forecast_of_an_overdue_running_batch_is_not_in_the_past(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream(), seconds_per_id=0.5).start()
    job = bench.submit([1, 2, 3], Priority.LOW)
    bench.loop.advance(2.5)

    forecast = bench.lane.forecast(job, bench.clock.now())

    assert forecast is not None
    assert forecast.completion == bench.clock.now()


class SlowJournal(MemoryJournal):
    """Takes a second to record anything."""

    async def append(self, events: Sequence[Event]) -> None:
        await asyncio.sleep(1)
        await super().append(events)


def test_start_does_not_wait_for_all_the_decisions_that_others_wait_for(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream, journal=SlowJournal())
    jobs = [bench.submit([1, 2, 3], Priority.LOW) for _ in range(10 * AT_ONCE)]
    now = loop.time()

    for job in jobs[1:]:
        loop.create_task(bench.lane.decide(lambda job=job: cancel(job, 0.0)))  # type: ignore[misc]
    bench.start()
    loop.advance(10)

    # Some cancellations, the start; and, for that took long, some more, and the start once more.
    assert upstream.times == [now + 4]


def test_decisions_on_different_ingestions_share_a_record(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream(), journal=SlowJournal())
    jobs = [bench.submit([1, 2, 3], Priority.LOW) for _ in range(AT_ONCE)]
    now = loop.time()
    decisions = [bench.lane.decide(lambda job=job: cancel(job, 0.0)) for job in jobs]  # type: ignore[misc]

    loop.run_until_complete(asyncio.gather(*decisions))

    assert all(job.is_cancelled for job in jobs)
    assert loop.time() - now == pytest.approx(1, abs=TICK)


def test_decision_sees_what_others_made_of_the_ingestion_or_of_the_lane(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream(), journal=SlowJournal())
    one, other = (bench.submit([1, 2, 3], Priority.LOW) for _ in range(2))
    now, lane = loop.time(), bench.lane
    took: list[tuple[str, float]] = []

    async def decide(name: str, propose: Callable[[], Sequence[Event]]) -> None:
        try:
            await lane.decide(propose)
        except ConflictError:
            name += " refused"
        took.append((name, round(loop.time() - now)))

    decisions = [
        decide("move", lambda: reprioritise(one, Priority.HIGH)),
        decide("retry", lambda: revive(other)),
        decide("cancel", lambda: cancel(other, 0.0)),
        decide("move back", lambda: reprioritise(one, Priority.LOW)),
        decide("pause", lambda: pause(lane, 0.0, "")),
        decide("pause again", lambda: pause(lane, 0.0, "")),
        decide("cancel again", lambda: cancel(one, 0.0)),
    ]
    loop.run_until_complete(asyncio.gather(*decisions))

    assert took == [
        ("move", 1),
        ("retry refused", 2),
        ("cancel", 2),
        ("move back", 2),
        ("pause", 3),
        ("pause again", 4),
        ("cancel again", 4),
    ]
    assert (one.priority, one.is_cancelled, other.is_cancelled) == (Priority.LOW, True, True)
    assert lane.paused == Paused(0.0, "")


def test_decision_whose_caller_is_cancelled_is_still_made_before_the_next(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream(), journal=SlowJournal())
    job = bench.submit([1, 2, 3], Priority.LOW)

    first = loop.create_task(bench.lane.decide(lambda: cancel(job, 0.0)))
    loop.advance(0.5)
    first.cancel()
    seen: list[bool] = []

    def look() -> Sequence[Event]:
        seen.append(job.is_cancelled)
        return []

    bench.decide(look)

    assert first.cancelled()
    assert seen == [True]


def test_more_ids_tried_again_share_slots_and_are_all_counted_as_waiting(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> object:
        raise ConnectionError

    retry = RetryPolicy(3, base=8.0, longest=20.0, longest_hold=100.0, draw=lambda: 1.0)
    bench = Bench(loop, RecordingUpstream(behave), batch_size=1, interval=1.0, retry=retry).start()
    bench.submit([1, 2], Priority.HIGH)
    loop.advance(1.5)

    bench.decide(lambda: pause(bench.lane, 0.0, ""))
    loop.advance(7)
    bench.lane.backlog.release(loop.time())

    assert bench.lane.waiting(Priority.HIGH) == 1
    assert len(bench.lane.backlog.delayed) == 1


def test_observer_that_fails_stops_nothing_and_is_logged(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def applied(self, event: Event) -> None:
            raise RuntimeError("blind")

        def restored(self) -> None:
            """See nothing."""

    bench = Bench(loop, RecordingUpstream()).start()
    bench.lane.observers.append(Broken())
    ingestion = bench.submit([1, 2, 3, 4], Priority.LOW)
    loop.advance(30)

    assert ingestion.is_done
    assert "an observer failed" in caplog.text
