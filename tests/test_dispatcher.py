"""The real dispatcher in virtual time: pace, order, failing upstreams, stopping."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluice.ingestion import Batch
from sluice.models import Priority
from sluice.upstream import UpstreamError
from tests.dispatcher import gaps, refuse
from tests.virtual import MILLISECOND, TICK, Bench, RecordingUpstream, VirtualLoop


def test_busy_starts_are_exactly_an_interval_apart(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()

    bench.submit(range(1, 1 + 3 * 1000), Priority.LOW)
    loop.advance(1000 * 5)

    assert len(upstream.calls) == 1000
    assert gaps(upstream.times) == pytest.approx([5.0] * 999, abs=TICK)
    assert upstream.most_in_flight == 1


def test_a_month_of_work_does_not_drift(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream, interval=60.0).start()
    batches = 30 * 24 * 60

    bench.submit([7] * (3 * batches), Priority.LOW)
    loop.advance(60.0 * batches)

    assert len(upstream.calls) == batches
    assert upstream.times[-1] == pytest.approx(60.0 * (batches - 1), abs=MILLISECOND)


def test_high_job_overtakes_waiting_medium_batches(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()

    bench.submit([1, 2, 3, 4, 5], Priority.MEDIUM)
    loop.advance(4.999)
    bench.submit([6, 7, 8, 9], Priority.HIGH)
    loop.advance(20)

    assert upstream.ids == [[1, 2, 3], [6, 7, 8], [9], [4, 5]]
    assert gaps(upstream.times) == pytest.approx([5.0] * 3, abs=TICK)


def test_idle_time_earns_no_burst(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()

    loop.advance(3600)
    bench.submit(range(1, 10), Priority.LOW)
    loop.advance(10.5)

    assert upstream.times == pytest.approx([3600, 3605, 3610], abs=TICK)


def test_job_that_arrives_while_the_slot_is_closed_waits_for_it(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()

    bench.submit([1], Priority.LOW)
    loop.advance(3)
    bench.submit([2], Priority.HIGH)
    loop.advance(3)

    assert upstream.times == pytest.approx([0, 5], abs=TICK)


def test_overrun_delays_the_next_start_until_it_ends_and_no_later(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream(lambda batch: asyncio.sleep(7 if batch.ids == [1] else 1))
    bench = Bench(loop, upstream, batch_size=1).start()

    bench.submit([1, 2, 3], Priority.LOW)
    loop.advance(20)

    assert upstream.times == pytest.approx([0, 7, 12], abs=TICK)
    assert upstream.most_in_flight == 1


async def too_few(batch: Batch) -> Any:
    return ["one"]


async def crash(batch: Batch) -> None:
    raise ValueError("with a secret in it")


async def hang(batch: Batch) -> None:
    await asyncio.Event().wait()


async def hang_on(batch: Batch) -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if asyncio.get_running_loop().time() > 1000:
                raise


async def unprintable(batch: Batch) -> None:
    raise UpstreamError("answered \ud800")


def not_even_a_coroutine(batch: Batch) -> Any:
    return None


async def tidy_up_slowly(batch: Batch) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.5)


async def hang_in_calls_of_its_own(batch: Batch) -> None:
    async with asyncio.TaskGroup() as calls:
        for _ in batch.ids:
            calls.create_task(asyncio.Event().wait())


async def cancel_itself(batch: Batch) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (refuse, "answered 404"),
        (crash, "ValueError"),
        (hang, "no answer within 4 s"),
        (hang_on, "no answer within 4 s"),
        (tidy_up_slowly, "no answer within 4 s"),
        (hang_in_calls_of_its_own, "no answer within 4 s"),
        (cancel_itself, "the upstream call was cancelled"),
        (unprintable, "answered ?"),
        (not_even_a_coroutine, "TypeError"),
        (too_few, "the upstream gave no list of 3 answers"),
    ],
)
def test_failing_batch_ends_failed_and_the_next_has_its_slot(
    loop: VirtualLoop, behaviour: Callable[[Batch], Coroutine[Any, Any, object]], error: str
) -> None:
    async def behave(batch: Batch) -> object:
        return await (behaviour(batch) if batch.ids == [1, 2, 3] else asyncio.sleep(1))

    upstream = RecordingUpstream(behave)
    bench = Bench(loop, upstream, timeout=4.0).start()

    job = bench.submit([1, 2, 3, 4], Priority.LOW)
    loop.advance(10)

    assert upstream.times == pytest.approx([0, 5], abs=TICK)
    assert bench.statuses(job.ingestion_id) == ["failed", "completed"]
    assert [trouble.error for trouble in job.troubles.values()] == [error] * 3
    assert job.status == "completed"
    loop.advance(1000)


def test_late_batch_lets_go_of_its_calls_before_the_next_starts(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream(tidy_up_slowly)
    bench = Bench(loop, upstream, interval=1.0, timeout=3.0).start()

    bench.submit(range(1, 10), Priority.LOW)
    loop.advance(8)

    assert upstream.times == pytest.approx([0, 3.5, 7], abs=TICK)
    assert upstream.most_in_flight == 1


def test_upstream_is_called_under_the_lock(loop: VirtualLoop) -> None:
    locked: list[bool] = []

    async def behave(batch: Batch) -> None:
        locked.append(bench.dispatcher.lock.locked())

    bench = Bench(loop, RecordingUpstream(behave)).start()
    bench.submit(range(1, 7), Priority.LOW)
    loop.advance(7)

    assert locked == [True, True]
    assert not bench.dispatcher.lock.locked()


def test_stopping_lets_the_running_batch_finish_and_starts_no_other(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    job = bench.submit(range(1, 10), Priority.LOW)
    loop.advance(1)

    bench.stop()

    assert loop.time() == pytest.approx(3.0, abs=TICK)
    assert bench.statuses(job.ingestion_id) == ["completed", "yet_to_start", "yet_to_start"]
    assert len(upstream.calls) == 1


def test_stopping_cuts_off_a_batch_that_outlasts_the_grace(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    upstream = RecordingUpstream(hang)
    bench = Bench(loop, upstream).start()
    bench.submit([1], Priority.LOW)
    loop.advance(1)

    with caplog.at_level(logging.WARNING):
        bench.stop()
    loop.advance(0)

    assert loop.time() == pytest.approx(11.0, abs=TICK)
    assert upstream.in_flight == 0
    assert "cut off" in caplog.text


def test_draining_between_two_slots_starts_nothing_more(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    bench.submit(range(1, 10), Priority.LOW)
    loop.advance(4)

    bench.dispatcher.drain()
    loop.advance(60)

    assert len(upstream.calls) == 1


def test_grace_counts_from_draining(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream(hang), timeout=60.0).start()
    bench.submit([1], Priority.LOW)
    loop.advance(1)

    bench.dispatcher.drain()
    loop.advance(4)
    bench.stop()

    assert loop.time() == pytest.approx(11.0, abs=TICK)


def test_draining_starts_nothing_more(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    bench.submit(range(1, 10), Priority.LOW)
    loop.advance(1)

    bench.dispatcher.drain()
    loop.advance(60)

    assert len(upstream.calls) == 1
