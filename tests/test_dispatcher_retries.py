"""The real dispatcher in virtual time: trying again, holding, cancelling, pausing."""

import asyncio

import pytest

from sluice.control import cancel, pause, resume
from sluice.ingestion import Batch, Trouble
from sluice.models import Priority
from sluice.retry import RetryPolicy
from sluice.upstream import UpstreamUnavailable
from tests.dispatcher import refuse
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop


def policy(attempts: int = 3) -> RetryPolicy:
    """Back off 8 s, then 16 s, and never more than 20 s."""
    return RetryPolicy(attempts, base=8.0, longest=20.0, longest_hold=100.0, draw=lambda: 1.0)


def test_retry_takes_a_slot_of_its_own_after_its_backoff_while_others_run(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> object:
        return [UpstreamUnavailable("answered 503") if item == 2 else item for item in batch.ids]

    upstream = RecordingUpstream(behave)
    bench = Bench(loop, upstream, retry=policy()).start()

    job = bench.submit([1, 2, 3], Priority.HIGH)
    bench.submit([11, 12, 13, 14, 15, 16, 17, 18, 19], Priority.LOW)
    loop.advance(60)

    assert upstream.ids == [[1, 2, 3], [11, 12, 13], [2], [14, 15, 16], [17, 18, 19], [2]]
    assert upstream.times == pytest.approx([0, 5, 10, 15, 20, 26], abs=TICK)
    assert bench.statuses(job.ingestion_id) == ["failed"]
    assert job.troubles[1] == Trouble(3, "answered 503", is_final=True)
    assert [(result.position, result.attempts, result.data, result.error) for result in bench.results(job)] == [
        (0, 1, b"1", None),
        (1, 3, None, "answered 503"),
        (2, 1, b"3", None),
    ]


def test_id_that_succeeds_at_last_completes_its_batch(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> object:
        if len(upstream.calls) < 3:
            raise ConnectionError
        return None

    upstream = RecordingUpstream(behave)
    bench = Bench(loop, upstream, retry=policy()).start()

    job = bench.submit([1, 2], Priority.HIGH)
    loop.advance(60)

    assert upstream.ids == [[1, 2]] * 3
    assert upstream.calls[2].batch.batch_ids == upstream.calls[0].batch.batch_ids
    assert bench.statuses(job.ingestion_id) == ["completed"]
    assert [result.attempts for result in bench.results(job)] == [3, 3]


def test_error_that_is_final_is_not_tried_again(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream(refuse)
    bench = Bench(loop, upstream, retry=policy()).start()

    job = bench.submit([1, 2], Priority.HIGH)
    loop.advance(60)

    assert len(upstream.calls) == 1
    assert bench.statuses(job.ingestion_id) == ["failed"]


def test_retry_after_holds_everything_and_costs_no_attempt(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> object:
        if len(upstream.calls) < 5:
            raise UpstreamUnavailable("answered 429, Retry-After 30 s", retry_after=30.0)
        return None

    upstream = RecordingUpstream(behave)
    bench = Bench(loop, upstream, retry=policy(attempts=2)).start()

    job = bench.submit([1], Priority.LOW)
    loop.advance(1)
    held = bench.lane.held
    bench.submit([2], Priority.HIGH)
    loop.advance(200)

    assert held is not None
    assert held.until == pytest.approx(30.0, abs=TICK)
    assert held.reason == "answered 429, Retry-After 30 s"
    assert upstream.times[:5] == pytest.approx([0, 30, 60, 90, 120], abs=TICK)
    assert upstream.ids == [[1], [2], [2], [2], [2], [1]]
    assert [result.attempts for result in bench.results(job)] == [1]


def test_hold_is_bounded(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> object:
        if len(upstream.calls) < 2:
            raise UpstreamUnavailable("answered 429", retry_after=1e9)
        return None

    upstream = RecordingUpstream(behave)
    bench = Bench(loop, upstream, retry=policy()).start()
    bench.submit([1], Priority.LOW)
    loop.advance(200)

    assert upstream.times == pytest.approx([0, 100], abs=TICK)


def test_pausing_lets_the_running_batch_finish_and_starts_no_other_until_resumed(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    job = bench.submit(range(1, 10), Priority.LOW)
    loop.advance(1)

    bench.decide(lambda: pause(bench.lane, 0.0, "maintenance"))
    loop.advance(3600)
    while_paused = bench.statuses(job.ingestion_id)
    bench.decide(lambda: resume(bench.lane))
    loop.advance(5.5)

    assert while_paused == ["completed", "yet_to_start", "yet_to_start"]
    assert upstream.times == pytest.approx([0, 3601, 3606], abs=TICK)


def test_cancelled_batches_never_start_and_the_next_ingestion_has_their_slots(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    job = bench.submit(range(1, 10), Priority.HIGH)
    bench.submit([21], Priority.LOW)
    loop.advance(1)

    bench.decide(lambda: cancel(job, 0.0))
    loop.advance(60)

    assert upstream.ids == [[1, 2, 3], [21]]
    assert bench.statuses(job.ingestion_id) == ["completed", "cancelled", "cancelled"]


def test_cancelling_while_ids_are_in_flight_lets_them_fail_without_another_attempt(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> object:
        await asyncio.sleep(2)
        raise ConnectionError

    upstream = RecordingUpstream(behave)
    bench = Bench(loop, upstream, retry=policy()).start()
    job = bench.submit([1], Priority.HIGH)
    loop.advance(1)

    bench.decide(lambda: cancel(job, 0.0))
    loop.advance(60)

    assert len(upstream.calls) == 1
    assert bench.statuses(job.ingestion_id) == ["failed"]
