"""Ingestions that no lane has, made and moved on by hand."""

from array import array
from uuid import uuid4

from sluice.events import Accepted, Outcome
from sluice.ingestion import Ingestion
from sluice.models import Priority


def ingestion(count: int, batch_size: int = 3) -> Ingestion:
    ids = array("I", range(1, count + 1))
    return Ingestion(Accepted(str(uuid4()), Priority.MEDIUM, 0.0, 0, batch_size, ids))


def statuses(job: Ingestion) -> list[str]:
    return [job.batch_status(index).value for index in range(job.total)]


def run(job: Ingestion, *outcomes: Outcome, time: float = 0.0) -> None:
    """Start what is next and finish it: what is not said of an ID is that it is done."""
    positions = job.next_positions()
    said = {outcome.position: outcome for outcome in outcomes}
    job.start(positions)
    job.finish([said.get(position, Outcome(position, 1, data=b"null")) for position in positions], time)


def failed(position: int, retry_at: float | None = None, attempts: int = 1) -> Outcome:
    return Outcome(position, attempts, error="answered 500", retry_at=retry_at)
