"""FILL_SLOTS: one slot carries several whole short batches, in strict order, and nothing else about them changes."""

from pathlib import Path

import pytest

from sluice.ingestion import Batch, batch_id
from sluice.models import Priority
from sluice.retry import RetryPolicy
from sluice.upstream import UpstreamUnavailable
from tests.api import BACKENDS, ScriptedUpstream, serving, settings_for
from tests.virtual import Bench, RecordingUpstream, VirtualLoop

DURABLE = BACKENDS[1:]


def filling(loop: VirtualLoop, batch_size: int = 3) -> tuple[Bench, RecordingUpstream]:
    """Return a bench that is paused by a running batch: what is submitted now waits."""
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream, batch_size=batch_size, fills_slots=True).start()
    bench.submit([999] * batch_size, Priority.HIGH)
    loop.advance(1.0)
    upstream.calls.clear()
    return bench, upstream


def test_a_thousand_jobs_of_one_id_need_334_slots(loop: VirtualLoop) -> None:
    bench, upstream = filling(loop)
    for number in range(1, 1001):
        bench.submit([number], Priority.LOW)
    forecast = bench.lane.forecast(bench.submit([1001], Priority.LOW), bench.clock.now())

    loop.advance(334 * 5.0 + 5.0)

    assert len(upstream.calls) == 334
    assert [item for ids in upstream.ids for item in ids] == [*range(1, 1002)]
    assert forecast is not None
    assert forecast.position == 333
    assert forecast.start == pytest.approx(upstream.times[333])


def test_without_it_every_batch_has_a_slot_of_its_own(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    for number in (1, 2, 3):
        bench.submit([number], Priority.LOW)
    loop.advance(20.0)

    assert upstream.ids == [[1], [2], [3]]


def test_only_whole_batches_share_a_slot_and_none_goes_ahead_of_one_that_does_not_fit(loop: VirtualLoop) -> None:
    bench, upstream = filling(loop)
    for ids in ([1], [2, 3, 4, 5], [6], [7], [8, 9], [10]):
        bench.submit(ids, Priority.LOW)

    loop.advance(60.0)

    # 6 and 7 would fit beside 1, but 2 to 4 is before them; 8 and 9 do not fit beside both.
    assert upstream.ids == [[1], [2, 3, 4], [5, 6, 7], [8, 9, 10]]


def test_higher_priority_fills_a_slot_first_and_what_is_left_goes_to_lower(loop: VirtualLoop) -> None:
    bench, upstream = filling(loop)
    bench.submit([1], Priority.LOW)
    bench.submit([2], Priority.MEDIUM)
    bench.submit([3], Priority.HIGH)

    loop.advance(10.0)

    assert upstream.ids == [[3, 2, 1]]


def test_all_that_is_tried_again_goes_first_though_it_was_sliced_for_a_smaller_slot(loop: VirtualLoop) -> None:
    failing = [1, 2, 3, 4, 5, 6]

    async def behave(batch: Batch) -> list[object]:
        if batch.ids == failing:
            failing.clear()
            raise UpstreamUnavailable("answered 503")
        return [*batch.ids]

    upstream = RecordingUpstream(behave)
    retry = RetryPolicy(attempts=2, base=1.0, longest=60.0, longest_hold=600.0)
    bench = Bench(loop, upstream, batch_size=6, fills_slots=True, retry=retry).start()
    bench.lane.batch_size = 2  # as it was before it was raised
    bench.submit([1, 2, 3, 4, 5, 6, 7, 8], Priority.LOW)
    loop.advance(0)
    bench.lane.batch_size = 6

    loop.advance(20.0)

    assert upstream.ids == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [7, 8]]


def test_slots_still_come_one_interval_apart(loop: VirtualLoop) -> None:
    bench, upstream = filling(loop)
    for number in range(1, 10):
        bench.submit([number], Priority.LOW)

    loop.advance(60.0)

    assert upstream.times == pytest.approx([5.0, 10.0, 15.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_statuses_and_batch_ids_are_as_ever(backend: str, tmp_path: Path) -> None:
    upstream = ScriptedUpstream(hanging=[1, 2])
    with serving(settings_for(backend, tmp_path, fill_slots=True), upstream) as service:
        first = service.submit([1], "HIGH")
        service.until_running([1])
        others = [service.submit([2], "LOW"), service.submit([3, 4], "LOW"), service.submit([5], "LOW")]
        service.call(upstream.release)
        service.until_completed(first)
        service.call(upstream._released.clear)
        service.advance(5.0)
        service.until_running([2])
        running = service.get("/queue")["running"]
        statuses = [service.status(each)["status"] for each in others]
        events = service.get("/slots")["past"]
        service.call(upstream.release)
        service.until_completed(*others[:2])

        assert [running["ids"], *(each["ids"] for each in running["also"])] == [[2], [3, 4]]
        assert [running["ingestion_id"], *(each["ingestion_id"] for each in running["also"])] == others[:2]
        assert statuses == ["triggered", "triggered", "yet_to_start"]
        assert len({each["started_at"] for each in events[-2:]}) == 1
        assert [batch["batch_id"] for batch in service.status(others[1])["batches"]] == [batch_id(others[1], 0)]
        assert [line["id"] for line in service.results(others[1])] == [3, 4]
        assert upstream.batches == [[1], [2, 3, 4]]
        service.advance(5.0)
        service.until_completed(others[2])


@pytest.mark.parametrize("backend", DURABLE)
def test_everything_in_a_slot_that_a_crash_cut_off_runs_again(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, fill_slots=True, batch_interval=0)
    upstream = ScriptedUpstream(hanging=[2])
    with serving(settings, upstream) as service:
        service.client.post("/queue/pause")
        jobs = [service.submit([1], "LOW"), service.submit([2], "LOW"), service.submit([3], "LOW")]
        service.client.post("/queue/resume")
        service.until_running([1])

    with serving(settings) as service:
        service.advance(1.0)  # the start before the crash may have been recorded a little early
        service.until_completed(*jobs)

        assert [[line["attempts"] for line in service.results(job)] for job in jobs] == [[1], [1], [1]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_id_of_a_shared_slot_fails_and_is_tried_again_by_itself(backend: str, tmp_path: Path) -> None:
    failing = {2}
    upstream = ScriptedUpstream(lambda item: fail() if item in failing else item)

    def fail() -> object:
        failing.clear()
        return ConnectionError()

    with serving(settings_for(backend, tmp_path, fill_slots=True, batch_interval=0, retry_base=0), upstream) as service:
        service.client.post("/queue/pause")
        jobs = [service.submit([1], "LOW"), service.submit([2], "LOW"), service.submit([3], "LOW")]
        service.client.post("/queue/resume")
        service.until_completed(*jobs)

        assert upstream.batches == [[1, 2, 3], [2]]
        assert [[line["attempts"] for line in service.results(job)] for job in jobs] == [[1], [2], [1]]
