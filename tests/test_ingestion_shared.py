"""Ingestions that several processes know of: what others start, what is interrupted, what comes back in flight."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.events import Accepted, Outcome
from sluice.ingestion import INTERRUPTED, Ingestion, Trouble
from tests.jobs import failed, ingestion, run, statuses

# Starts that another process decided, whose clock is not quite this one's


def waiting(job: Ingestion) -> list[int]:
    """Return the IDs that wait for another attempt."""
    return sorted([*job.ready, *(position for _, position in job.delayed)])


def all_failed(*dues: float) -> Ingestion:
    """Return an ingestion with as many IDs as times: each failed, and may be tried again then."""
    job = ingestion(len(dues))
    for _ in range(job.total):
        run(job, *(failed(position, retry_at=due) for position, due in enumerate(dues)))
    return job


def test_start_takes_ids_whose_time_has_not_come_here() -> None:
    job = ingestion(6)
    run(job, failed(1, retry_at=50.0))

    job.start((1,))
    job.release(50.0)

    assert job.in_flight == (1,)
    assert (job.ready, job.delayed) == ([], [])
    assert job.next_positions() == (3, 4, 5)
    job.finish([Outcome(1, 2, data=b"null")], 51.0)
    assert statuses(job) == ["completed", "yet_to_start"]


def test_start_leaves_what_is_ready_here_and_was_not_there() -> None:
    job = all_failed(1, 9, 2, 3)
    job.release(9.0)

    job.start((0, 2, 3))

    assert job.next_positions() == (1,)


def test_start_takes_what_is_ready_and_what_is_not_in_one_batch() -> None:
    job = all_failed(5, 1, 8, 7, 6)
    job.release(5.0)

    job.start((0, 2))

    assert (job.ready, sorted(job.delayed)) == ([1], [(6, 4), (7, 3)])
    job.release(6.0)
    assert job.next_positions() == (1, 4)


def test_first_attempts_that_start_leave_what_is_ready_here() -> None:
    job = ingestion(6)
    run(job, failed(1, retry_at=5.0))
    job.release(5.0)

    job.start((3, 4, 5))

    assert job.in_flight == (3, 4, 5)
    assert job.next_positions() == (1,)
    assert statuses(job) == ["triggered", "triggered"]


@given(
    dues=st.lists(st.integers(0, 20), min_size=1, max_size=9),
    now=st.integers(0, 20),
    wanted=st.sets(st.integers(0, 8), min_size=1, max_size=3),
)
@example(dues=[0] * 6, now=0, wanted={0, 2})
@example(dues=[1, 5, 2, 6, 7, 3], now=0, wanted={0})
def test_start_takes_just_what_it_names_whatever_is_due(dues: list[int], now: int, wanted: set[int]) -> None:
    job = all_failed(*dues)
    job.release(now)
    positions = tuple(sorted(position for position in wanted if position < len(dues))) or (0,)

    job.start(positions)

    rest = [position for position in range(len(dues)) if position not in positions]
    assert job.in_flight == positions
    assert sorted(job.ready) == [position for position in rest if dues[position] <= now]
    assert sorted(job.delayed) == sorted((dues[position], position) for position in rest if dues[position] > now)
    job.finish([Outcome(position, 2, data=b"null") for position in positions], 30.0)
    for time in range(21):
        job.release(time)
        assert all(due > time for due, _ in job.delayed)
        while job.ready:
            assert job.next_positions() == tuple(sorted(job.ready)[:3])
            run(job)
    assert job.is_done


# Interruptions


def test_interrupted_ids_wait_until_then_with_no_attempt_counted() -> None:
    job = ingestion(5)
    job.start((0, 1, 2))

    job.interrupt(7.0)

    assert job.in_flight == ()
    assert job.troubles == dict.fromkeys(range(3), Trouble(0, INTERRUPTED, is_final=False))
    assert statuses(job) == ["triggered", "yet_to_start"]
    assert [job.has_ended(position) for position in range(3)] == [False] * 3
    job.release(6.9)
    assert job.next_positions() == (3, 4)
    job.release(7.0)
    assert job.next_positions() == (0, 1, 2)
    run(job)
    assert (statuses(job), job.troubles) == (["completed", "yet_to_start"], {})


def test_interrupted_attempt_leaves_the_error_and_the_count_of_the_one_before() -> None:
    job = ingestion(3)
    run(job, failed(1, retry_at=2.0, attempts=2))
    job.release(2.0)
    job.start((1,))

    job.interrupt(7.0)

    assert job.troubles == {1: Trouble(2, "answered 500", is_final=False)}
    assert job.delayed == [(7.0, 1)]


def test_interruption_leaves_what_waits_and_what_failed_as_it_is() -> None:
    job = ingestion(6)
    run(job, failed(0), failed(1, retry_at=5.0))
    job.start((3, 4, 5))

    job.interrupt(4.0)

    assert sorted(job.delayed) == [(4.0, 3), (4.0, 4), (4.0, 5), (5.0, 1)]
    assert [*job.failures()] == [0]


def test_interruption_with_nothing_in_flight_changes_nothing() -> None:
    job = ingestion(6)
    run(job, failed(1, retry_at=5.0))

    job.interrupt(4.0)

    assert (job.delayed, job.ready, job.started) == ([(5.0, 1)], [], 1)


def test_batch_that_a_cancellation_let_finish_is_run_again_if_it_was_interrupted() -> None:
    job = ingestion(6)
    job.start((0, 1, 2))
    job.cancel(job.given_up(), 1.0)

    job.interrupt(2.0)
    job.release(2.0)

    assert (statuses(job), job.is_done) == (["triggered", "cancelled"], False)
    assert job.next_positions() == (0, 1, 2)
    run(job, time=3.0)
    assert (statuses(job), job.finished_time) == (["completed", "cancelled"], 3.0)


# Restoring


def restored(job: Ingestion) -> Ingestion:
    """Return what a journal would bring back of an ingestion."""
    accepted = Accepted(job.ingestion_id, job.priority, job.created_time, job.seq, job.batch_size, job.ids)
    again = Ingestion(accepted)
    again.is_cancelled, again.gives_up = job.is_cancelled, job.gives_up
    again.troubles.update((position, job.troubles[position]) for position in job.failures())
    dues = {position: due for due, position in job.delayed} | dict.fromkeys(job.in_flight, 0.0)
    waits = [(position, due, job.troubles[position]) for position, due in dues.items() if position in job.troubles]
    again.restore(job.started, waits, 9.0, job.in_flight)
    return again


def in_flight_for_the_first_time() -> Ingestion:
    job = ingestion(9)
    run(job, failed(0), failed(1, retry_at=5.0))
    job.start((3, 4, 5))
    return job


def in_flight_once_more() -> Ingestion:
    job = ingestion(9)
    run(job, failed(0), failed(1, retry_at=5.0))
    run(job, failed(4, retry_at=7.0))
    job.release(5.0)
    job.start((1,))
    return job


def in_flight_and_cancelled() -> Ingestion:
    job = in_flight_once_more()
    job.cancel(job.given_up(), 8.0)
    return job


@pytest.mark.parametrize("make", [in_flight_for_the_first_time, in_flight_once_more, in_flight_and_cancelled])
def test_what_is_in_flight_elsewhere_comes_back_in_flight(make: Callable[[], Ingestion]) -> None:
    job = make()

    again = restored(job)

    for each in (job, again):
        positions = each.in_flight
        assert positions
        assert [each.has_ended(position) for position in positions] == [False] * len(positions)
    for _ in range(2):
        for name in ("in_flight", "open", "troubles", "delayed", "ready", "failed_batches", "started", "finished_time"):
            assert getattr(again, name) == getattr(job, name), name
        assert statuses(again) == statuses(job)
        for each in (job, again):
            each.finish([Outcome(position, 1, data=b"null") for position in each.in_flight], 10.0)


def test_what_is_in_flight_elsewhere_can_be_interrupted_once_it_is_back() -> None:
    again = restored(in_flight_once_more())

    again.interrupt(6.0)

    assert waiting(again) == [1, 4]
    assert again.troubles[1] == Trouble(1, "answered 500", is_final=False)
