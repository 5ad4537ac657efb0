"""The real dispatcher in virtual time: a journal that fails or is slow."""

import asyncio
from collections.abc import Sequence

import pytest

from sluice.events import Event, Finished, Started
from sluice.ingestion import Batch
from sluice.journal import JournalError, LeaseLostError
from sluice.journal.memory import MemoryJournal
from sluice.models import Priority
from sluice.pace import START_BUDGET
from tests.dispatcher import gaps
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop


class FlakyJournal(MemoryJournal):
    """Refuses appends while `is_full`, and takes `delay` seconds for each that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = False
        self.delay = 0.0
        self.appended: list[Event] = []

    async def append(self, events: Sequence[Event]) -> None:
        await asyncio.sleep(self.delay)
        if self.is_full:
            raise JournalError("the journal cannot be written: database or disk is full")
        await super().append(events)
        self.appended += events


def test_nothing_starts_while_its_start_cannot_be_recorded(loop: VirtualLoop) -> None:
    upstream, journal = RecordingUpstream(), FlakyJournal()
    bench = Bench(loop, upstream, journal=journal).start()
    loop.advance(1)
    bench.submit([1, 2, 3, 4], Priority.LOW)
    journal.is_full = True
    loop.advance(9.5)
    before = len(upstream.calls)

    journal.is_full = False
    loop.advance(10)

    assert before <= 1
    assert upstream.ids == [[1, 2, 3], [4]]


def test_what_ended_is_recorded_as_soon_as_that_is_possible_and_not_run_again(loop: VirtualLoop) -> None:
    upstream, journal = RecordingUpstream(), FlakyJournal()
    bench = Bench(loop, upstream, journal=journal).start()
    job = bench.submit([1, 2, 3, 4], Priority.LOW)
    loop.advance(1)
    journal.is_full = True
    loop.advance(20)
    before = bench.statuses(job.ingestion_id)

    journal.is_full = False
    loop.advance(10)

    assert before == ["triggered", "yet_to_start"]
    assert upstream.ids == [[1, 2, 3], [4]]
    assert bench.statuses(job.ingestion_id) == ["completed", "completed"]


@pytest.mark.parametrize("delay", [0.01, 0.3])
def test_pace_counts_from_the_call_however_long_its_record_takes(loop: VirtualLoop, delay: float) -> None:
    upstream, journal = RecordingUpstream(), FlakyJournal()
    older: list[float] = []

    async def behave(batch: Batch) -> None:
        assert bench.lane.running is not None
        older.append(loop.time() - bench.lane.running.at)

    upstream._behave = behave
    bench = Bench(loop, upstream, journal=journal).start()
    bench.submit(range(1, 13), Priority.LOW)
    loop.advance(1)
    journal.delay = delay
    loop.advance(25)

    assert len(upstream.calls) == 4
    assert all(5.0 - TICK <= gap <= 5.0 + 3 * delay for gap in gaps(upstream.times))
    assert max(older) <= START_BUDGET


@pytest.mark.parametrize(("connecting", "sent"), [(START_BUDGET / 2, None), (2.0, 2.0)])
def test_end_tells_when_the_call_was_sent_if_its_start_does_not_let_expect_that(
    loop: VirtualLoop, connecting: float, sent: float | None
) -> None:
    journal = FlakyJournal()

    async def behave(batch: Batch) -> None:
        await asyncio.sleep(connecting)
        bench.lane.pace.started(loop.time())  # as an upstream that is called over the network has it
        await asyncio.sleep(1)

    bench = Bench(loop, RecordingUpstream(behave), journal=journal).start()
    began = loop.time()
    bench.submit([1], Priority.LOW)
    loop.advance(4)

    (end,) = (event for event in journal.appended if isinstance(event, Finished))
    assert end.sent == (sent and pytest.approx(began + sent, abs=TICK))


def test_bug_that_ends_the_dispatching_is_told_to_whoever_runs_it(loop: VirtualLoop) -> None:
    class BrokenJournal(MemoryJournal):
        async def append(self, events: Sequence[Event]) -> None:
            if any(isinstance(event, Started) for event in events):
                raise RuntimeError("a bug")
            await super().append(events)

    bench = Bench(loop, RecordingUpstream(), journal=BrokenJournal())
    told: list[bool] = []

    async def serve() -> None:
        async with bench.dispatcher.running(grace=1.0, on_failure=lambda: told.append(True)):
            await asyncio.sleep(1)

    bench.submit([1], Priority.LOW)
    with pytest.raises(RuntimeError, match="a bug"):
        loop.run_until_complete(serve())

    assert told == [True]


def test_lane_that_another_may_have_by_now_is_given_up_and_nothing_is_called(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream, may_send=lambda: False)
    ingestion = bench.submit([1, 2], Priority.LOW)

    with pytest.raises(LeaseLostError):
        loop.run_until_complete(bench.dispatcher.run())

    assert upstream.calls == []
    assert bench.lane.running is not None  # for whoever runs the lane next to begin again
    assert (ingestion.troubles, bench.results(ingestion)) == ({}, [])
