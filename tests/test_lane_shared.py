"""A lane that other processes know of: what they decide, and taking up another state in place."""

from array import array
from uuid import uuid4

import pytest

from sluice.events import Accepted, Event, Finished, Held, Idempotency, Interrupted, Outcome, Paused, Started
from sluice.ingestion import INTERRUPTED, NEVER, Trouble
from sluice.journal import Saved, SavedIngestion, SavedKey
from sluice.models import Priority
from sluice.pace import START_BUDGET
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop

# What other processes decided


def accepted(seq: int, count: int = 3) -> Accepted:
    ids = array("I", range(1, count + 1))
    return Accepted(str(uuid4()), Priority.LOW, 7.0, seq, 3, ids)


def saved(*jobs: Accepted, started: int = 0) -> list[SavedIngestion]:
    return [SavedIngestion(job, started, False, False, (), (), 8.0) for job in jobs]


def done(positions: tuple[int, ...]) -> tuple[Outcome, ...]:
    return tuple(Outcome(position, 1, data=b"1") for position in positions)


@pytest.fixture
def idle(loop: VirtualLoop) -> Bench:
    """A lane that something else runs, if anything does."""
    return Bench(loop, RecordingUpstream())


def record(bench: Bench, *events: Event) -> None:
    bench.loop.run_until_complete(bench.lane.record(*events))


def test_interrupted_batch_waits_again_with_no_attempt_counted(idle: Bench) -> None:
    job, other = idle.submit([1, 2, 3, 4], Priority.LOW), idle.submit([5], Priority.LOW)
    record(idle, Started(job.ingestion_id, (0, 1, 2), 1.0))

    record(idle, Interrupted(3.0))

    assert idle.lane.running is None
    assert job.troubles == dict.fromkeys(range(3), Trouble(0, INTERRUPTED, is_final=False))
    assert idle.statuses(job.ingestion_id) == ["triggered", "yet_to_start"]
    assert idle.lane.next_start(1.5) == 1.0 + 5.0
    orders = [idle.lane.next_batch(now) for now in (2.9, 3.0)]
    assert [order and order.positions for order in orders] == [(3,), (0, 1, 2)]
    assert idle.lane.waiting(Priority.LOW) == 3
    forecast = idle.lane.forecast(other, 3.0)
    assert forecast is not None
    assert forecast.position == 2


def test_interruption_lets_a_waiting_lane_go_on(idle: Bench) -> None:
    job = idle.submit([1, 2, 3], Priority.LOW)
    record(idle, Started(job.ingestion_id, (0, 1, 2), 1.0))
    before = idle.lane.next_start(2.0)

    record(idle, Interrupted(9.0))

    assert (before, idle.lane.next_start(2.0)) == (NEVER, 9.0)


def test_interruption_of_nothing_changes_nothing(idle: Bench) -> None:
    job = idle.submit([1, 2, 3], Priority.LOW)

    record(idle, Interrupted(3.0))

    assert idle.statuses(job.ingestion_id) == ["yet_to_start"]
    assert idle.lane.waiting(Priority.LOW) == 1
    assert job.troubles == {}


def test_start_elsewhere_of_ids_that_are_not_due_here_takes_them_out_of_the_backlog(idle: Bench) -> None:
    job, other = idle.submit([1, 2, 3], Priority.HIGH), idle.submit([4], Priority.LOW)
    failed = Outcome(1, 1, error="answered 500", retry_at=20.0)
    record(idle, Started(job.ingestion_id, (0, 1, 2), 1.0))
    record(idle, Finished(job.ingestion_id, (*done((0, 2)), failed), 2.0, 2.0))
    assert list(idle.lane.backlog.delayed) == [job.seq]

    record(idle, Started(job.ingestion_id, (1,), 19.9))

    assert job.in_flight == (1,)
    assert not idle.lane.backlog.delayed
    assert idle.lane.backlog.next_due() == NEVER
    head = idle.lane.backlog.head(30.0)
    assert head is other
    record(idle, Finished(job.ingestion_id, done((1,)), 21.0, 21.0))
    assert job.is_done
    assert idle.lane.waiting(Priority.HIGH) == 0


def test_start_that_is_told_again_only_moves_the_pace(idle: Bench) -> None:
    job = idle.submit([1, 2, 3, 4], Priority.LOW)
    record(idle, Started(job.ingestion_id, (0, 1, 2), 1.0))

    record(idle, Started(job.ingestion_id, (0, 1, 2), 1.5))

    assert idle.lane.pace.ready_at == 1.5 + 5.0
    assert (job.started, job.in_flight) == (1, (0, 1, 2))


# Taking up another state in place


def test_restoring_wakes_the_dispatcher_for_the_work_that_is_there_now(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    loop.advance(1)

    bench.lane.restore(Saved(saved(accepted(0))))
    loop.advance(TICK)

    assert upstream.ids == [[1, 2, 3]]


def test_restoring_wakes_the_dispatcher_also_from_a_slot_that_is_far_away(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    bench.submit([9, 9, 9, 9], Priority.LOW)
    loop.advance(4)

    bench.lane.restore(Saved(saved(accepted(0)), last_start=0.0, held=Held(100.0, "answered 429")))
    loop.advance(50)
    held = list(upstream.ids)
    bench.lane.restore(Saved(saved(accepted(1)), last_start=0.0))
    loop.advance(TICK)

    assert held == [[9, 9, 9]]
    assert upstream.ids == [[9, 9, 9], [1, 2, 3]]


def test_restoring_a_pause_or_nothing_starts_nothing_more(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    bench = Bench(loop, upstream).start()
    bench.submit([9, 9, 9, 9], Priority.LOW)
    loop.advance(4)

    bench.lane.restore(Saved(saved(accepted(0)), last_start=0.0, paused=Paused(1.0, "")))
    loop.advance(50)
    bench.lane.restore(Saved())
    loop.advance(50)

    assert upstream.ids == [[9, 9, 9]]


def test_restored_state_takes_the_place_of_all_that_was_there(idle: Bench) -> None:
    gone = idle.submit([1, 2, 3, 4], Priority.HIGH)
    record(idle, Started(gone.ingestion_id, (0, 1, 2), 1.0), Held(50.0, "answered 429"), Paused(1.0, ""))
    first, second = accepted(5), accepted(6, 4)
    key = SavedKey(Idempotency("k", b"digest"), first.ingestion_id, 7.0)

    idle.lane.restore(Saved([*saved(first, started=1), *saved(second)], [key], 2.0, next_seq=9))

    lane = idle.lane
    assert list(lane.ingestions) == [first.ingestion_id, second.ingestion_id]
    assert [(seq, each.ingestion_id) for seq, each in lane.by_seq.items()] == [
        (5, first.ingestion_id),
        (6, second.ingestion_id),
    ]
    assert list(lane.finished) == [(8.0, first.ingestion_id)]
    assert dict(lane.keys) == {"k": key}
    assert (lane.running, lane.held, lane.paused) == (None, None, None)
    assert [lane.waiting(priority) for priority in Priority] == [0, 0, 2]
    assert lane.next_start(3.0) == 2.0 + START_BUDGET + 5.0
    assert lane.accept([1], Priority.LOW, 0.0).seq == 9


def test_restoring_never_takes_numbers_times_or_keys_in_flight_back(idle: Bench) -> None:
    idle.lane.keys_in_flight.add("k")
    before = [idle.submit([1], Priority.LOW) for _ in range(3)][-1]

    idle.lane.restore(Saved())

    after = idle.lane.accept([1], Priority.LOW, 0.0)
    assert (after.created_time, after.seq) == (before.created_time, 3)
    assert idle.lane.keys_in_flight == {"k"}


def test_restoring_never_takes_back_when_the_call_that_runs_was_sent(idle: Bench) -> None:
    job = accepted(0, 4)
    start = Started(job.ingestion_id, (0, 1, 2), 2.0)
    idle.lane.restore(Saved(saved(job, started=1), (), 2.0, running=start))
    idle.lane.pace.started(4.0)

    idle.lane.restore(Saved(saved(job, started=1), (), 2.0, running=start))

    assert idle.lane.next_start(4.0) == 4.0 + 5.0


def test_end_that_tells_when_its_call_was_sent_moves_the_next_start(idle: Bench) -> None:
    job = idle.submit([1, 2, 3, 4], Priority.LOW)
    record(idle, Started(job.ingestion_id, (0, 1, 2), 1.0))

    record(idle, Finished(job.ingestion_id, done((0, 1, 2)), 4.0, 4.0, sent=3.0))

    assert idle.lane.next_start(4.0) == 3.0 + 5.0


def test_restored_ingestions_and_keys_are_overtaken_by_no_newcomer(idle: Bench) -> None:
    key = SavedKey(Idempotency("k", b"digest"), str(uuid4()), 9.0)

    idle.lane.restore(Saved(saved(accepted(0))))
    first = idle.lane.accept([1], Priority.LOW, 0.0)
    idle.lane.restore(Saved(saved(accepted(0)), [key]))
    second = idle.lane.accept([1], Priority.LOW, 0.0)

    assert (first.created_time, second.created_time) == (7.0, 9.0)


def test_restored_running_batch_ends_as_if_its_start_had_been_seen(idle: Bench) -> None:
    job = accepted(0, 4)
    start = Started(job.ingestion_id, (0, 1, 2), 2.0)

    idle.lane.restore(Saved(saved(job, started=1), (), 2.0, running=start))

    assert idle.lane.running == start
    assert idle.statuses(job.ingestion_id) == ["triggered", "yet_to_start"]
    assert idle.lane.ingestions[job.ingestion_id].in_flight == (0, 1, 2)
    assert idle.lane.next_start(3.0) == 2.0 + START_BUDGET + 5.0
    record(idle, Finished(job.ingestion_id, done((0, 1, 2)), 4.0, 4.0))
    assert idle.lane.running is None
    assert idle.statuses(job.ingestion_id) == ["completed", "yet_to_start"]
