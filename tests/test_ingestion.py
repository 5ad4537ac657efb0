from array import array
from uuid import UUID, uuid4, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.events import Accepted
from sluice.ingestion import Ingestion
from sluice.models import IngestionStatus, Priority


def ingestion(ids: list[int], batch_size: int = 3) -> Ingestion:
    return Ingestion(Accepted(str(uuid4()), Priority.MEDIUM, 0.0, 0, batch_size, array("I", ids)))


@given(ids=st.lists(st.integers(1, 1_000_000_007), min_size=1), batch_size=st.integers(1, 10))
def test_batches_hold_every_id_once_in_order(ids: list[int], batch_size: int) -> None:
    job = ingestion(ids, batch_size)

    batches = [job.batch(index) for index in range(job.total)]

    assert [item for batch in batches for item in batch.ids] == ids
    assert all(len(batch.ids) == batch_size for batch in batches[:-1])
    assert [job.batch_length(index) for index in range(job.total)] == [len(batch.ids) for batch in batches]


def test_batch_ids_are_derived_and_stable() -> None:
    job = ingestion([1, 2, 3, 4])

    batch_id = job.batch(1).batch_id

    assert batch_id == str(uuid5(UUID(job.ingestion_id), "1"))
    assert job.batch(0).batch_id != batch_id


@pytest.mark.parametrize(
    ("started", "finished", "status", "batches"),
    [
        (0, 0, IngestionStatus.YET_TO_START, ["yet_to_start", "yet_to_start"]),
        (1, 0, IngestionStatus.TRIGGERED, ["triggered", "yet_to_start"]),
        (1, 1, IngestionStatus.TRIGGERED, ["completed", "yet_to_start"]),
        (2, 1, IngestionStatus.TRIGGERED, ["completed", "triggered"]),
        (2, 2, IngestionStatus.COMPLETED, ["completed", "completed"]),
    ],
)
def test_statuses_follow_from_the_cursors(
    started: int, finished: int, status: IngestionStatus, batches: list[str]
) -> None:
    job = ingestion([1, 2, 3, 4, 5])
    job.started, job.finished = started, finished

    assert job.status == status
    assert [job.batch_status(index) for index in range(job.total)] == batches


def test_failed_batch_is_failed_and_the_ingestion_completes() -> None:
    job = ingestion([1, 2, 3, 4])
    job.started = job.finished = 2
    job.errors[0] = "answered 500"

    assert [job.batch_status(0), job.batch_status(1)] == ["failed", "completed"]
    assert job.status == IngestionStatus.COMPLETED
