from array import array
from uuid import UUID, uuid4, uuid5

from hypothesis import given
from hypothesis import strategies as st

from sluice.events import Accepted, Outcome
from sluice.ingestion import Ingestion
from sluice.models import BatchStatus, IngestionStatus, Priority
from tests.jobs import failed, ingestion, run, statuses


@given(ids=st.lists(st.integers(1, 1_000_000_007), min_size=1), batch_size=st.integers(1, 10))
def test_batches_hold_every_id_once_in_order(ids: list[int], batch_size: int) -> None:
    job = Ingestion(Accepted(str(uuid4()), Priority.MEDIUM, 0.0, 0, batch_size, array("I", ids)))

    batches = [job.batch(tuple(job.positions_of(index))) for index in range(job.total)]

    assert [item for batch in batches for item in batch.ids] == ids
    assert all(len(batch.ids) == batch_size for batch in batches[:-1])
    assert all(len(set(batch.batch_ids)) == 1 for batch in batches)


def test_batch_ids_are_derived_and_stable() -> None:
    job = ingestion(4)

    assert job.batch_id(1) == str(uuid5(UUID(job.ingestion_id), "1"))
    assert job.batch((2, 3)).batch_ids == [job.batch_id(0), job.batch_id(1)]


def test_statuses_follow_the_cursor() -> None:
    job = ingestion(5)
    seen = [(job.status, statuses(job))]

    for _ in range(2):
        positions = job.next_positions()
        job.start(positions)
        seen.append((job.status, statuses(job)))
        job.finish([Outcome(position, 1, data=b"null") for position in positions], 7.0)
        seen.append((job.status, statuses(job)))

    assert seen == [
        (IngestionStatus.YET_TO_START, ["yet_to_start", "yet_to_start"]),
        (IngestionStatus.TRIGGERED, ["triggered", "yet_to_start"]),
        (IngestionStatus.TRIGGERED, ["completed", "yet_to_start"]),
        (IngestionStatus.TRIGGERED, ["completed", "triggered"]),
        (IngestionStatus.COMPLETED, ["completed", "completed"]),
    ]
    assert job.finished_time == 7.0


def test_failed_id_fails_its_batch_and_the_ingestion_completes() -> None:
    job = ingestion(4)

    run(job, failed(1))
    run(job)

    assert statuses(job) == ["failed", "completed"]
    assert job.batch_counts()[BatchStatus.FAILED] == 1
    assert list(job.failures()) == [1]
    assert job.status == IngestionStatus.COMPLETED


def test_id_that_waits_for_another_attempt_keeps_its_batch_triggered_while_others_run() -> None:
    job = ingestion(6)

    run(job, failed(1, retry_at=50.0))
    run(job)

    assert statuses(job) == ["triggered", "completed"]
    assert job.ready_slots == 0
    assert not job.is_done
    assert [job.has_ended(position) for position in range(6)] == [True, False, True, True, True, True]


def test_ids_tried_again_go_before_unstarted_batches_once_their_time_has_come() -> None:
    job = ingestion(9)
    run(job, failed(1, retry_at=50.0))

    before = job.next_positions()
    job.release(50.0)

    assert before == (3, 4, 5)
    assert job.next_positions() == (1,)


def test_ids_tried_again_share_a_batch_up_to_its_size() -> None:
    job = ingestion(9)
    run(job, failed(1, retry_at=50.0), failed(2, retry_at=50.0))
    run(job, failed(4, retry_at=40.0))
    run(job, failed(6, retry_at=30.0))
    job.release(50.0)

    first = job.next_positions()
    slots = job.ready_slots
    run(job)

    assert first == (1, 2, 4)
    assert slots == 2
    assert job.next_positions() == (6,)
    assert statuses(job) == ["completed", "completed", "triggered"]


def test_id_that_is_done_at_last_leaves_no_trouble() -> None:
    job = ingestion(3)
    run(job, failed(1, retry_at=1.0))
    job.release(1.0)

    run(job)

    assert statuses(job) == ["completed"]
    assert job.troubles == {}


def test_cancelling_keeps_what_is_done_and_gives_up_the_rest() -> None:
    job = ingestion(9)
    run(job)
    run(job, failed(4, retry_at=50.0, attempts=2))

    given_up = job.given_up()
    job.cancel(given_up, 9.0)

    assert given_up == (Outcome(4, 2, error="answered 500"),)
    assert statuses(job) == ["completed", "failed", "cancelled"]
    assert job.batch_counts() == {
        BatchStatus.YET_TO_START: 0,
        BatchStatus.TRIGGERED: 0,
        BatchStatus.COMPLETED: 1,
        BatchStatus.FAILED: 1,
        BatchStatus.CANCELLED: 1,
    }
    assert job.ready_slots == 0
    assert (job.is_done, job.finished_time) == (True, 9.0)


def test_cancelling_lets_a_running_batch_finish() -> None:
    job = ingestion(6)
    positions = job.next_positions()
    job.start(positions)

    job.cancel(job.given_up(), 1.0)
    before = (statuses(job), job.is_done)
    job.finish([Outcome(position, 1, data=b"null") for position in positions], 3.0)

    assert before == (["triggered", "cancelled"], False)
    assert statuses(job) == ["completed", "cancelled"]
    assert job.finished_time == 3.0


def test_cancelled_before_its_start_is_completed_at_once() -> None:
    job = ingestion(6)

    job.cancel(job.given_up(), 1.0)

    assert job.status == IngestionStatus.COMPLETED
    assert statuses(job) == ["cancelled", "cancelled"]


def test_reviving_gives_failed_ids_a_fresh_set_of_attempts() -> None:
    job = ingestion(7)
    run(job, failed(0, attempts=3), failed(2, attempts=3))
    run(job)
    run(job, failed(6, attempts=3))

    job.revive()

    assert statuses(job) == ["triggered", "completed", "triggered"]
    assert (job.status, job.finished_time, job.failed_batches) == (IngestionStatus.TRIGGERED, None, 0)
    assert job.next_positions() == (0, 2, 6)
    assert {trouble.attempts for trouble in job.troubles.values()} == {0}


def test_running_again_can_fail_again() -> None:
    job = ingestion(3)
    run(job, failed(0), failed(2))
    job.revive()

    run(job, failed(2))

    assert statuses(job) == ["failed"]
    assert job.batch_counts()[BatchStatus.FAILED] == 1
    assert list(job.failures()) == [2]
