import asyncio
from array import array
from uuid import uuid4

from sluice.backlog import Backlog
from sluice.events import Accepted
from sluice.ingestion import Ingestion
from sluice.models import Priority
from tests.virtual import VirtualLoop


def add(backlog: Backlog, seq: int, priority: Priority, batches: int = 1, created_time: float = 0.0) -> Ingestion:
    ids = array("I", [1]) * (3 * batches)
    ingestion = Ingestion(Accepted(str(uuid4()), priority, created_time, seq, 3, ids))
    backlog.add(ingestion)
    return ingestion


def take(backlog: Backlog) -> Ingestion | None:
    head = backlog.head()
    if head is not None:
        head.started += 1
        backlog.started(head)
    return head


def test_order_is_priority_then_created_time_then_seq() -> None:
    backlog = Backlog()
    low = add(backlog, 0, Priority.LOW, created_time=1.0)
    later = add(backlog, 1, Priority.HIGH, created_time=3.0)
    tied = add(backlog, 3, Priority.HIGH, created_time=2.0)
    first = add(backlog, 2, Priority.HIGH, created_time=2.0)

    assert [take(backlog) for _ in range(4)] == [first, tied, later, low]
    assert backlog.head() is None


def test_ingestion_keeps_its_place_until_its_last_batch() -> None:
    backlog = Backlog()
    first = add(backlog, 0, Priority.MEDIUM, batches=2)
    second = add(backlog, 1, Priority.MEDIUM)

    assert [take(backlog), take(backlog), take(backlog)] == [first, first, second]


def test_position_counts_batches_above_and_before() -> None:
    backlog = Backlog()
    first = add(backlog, 0, Priority.MEDIUM, batches=2)
    second = add(backlog, 1, Priority.MEDIUM)
    high = add(backlog, 2, Priority.HIGH, batches=3)
    low = add(backlog, 3, Priority.LOW)

    assert [backlog.position(job) for job in (high, first, second, low)] == [0, 3, 5, 6]
    take(backlog)
    assert [backlog.position(job) for job in (high, first, second, low)] == [0, 2, 4, 5]
    assert backlog.waiting(Priority.HIGH) == 2


def test_wait_returns_once_something_waits(loop: VirtualLoop) -> None:
    backlog = Backlog()
    waiting = loop.create_task(backlog.wait())
    loop.advance(1)
    assert not waiting.done()

    job = add(backlog, 0, Priority.LOW)
    loop.advance(0)

    assert waiting.done()
    assert backlog.head() is job


def test_exhausted_ingestion_does_not_end_the_wait(loop: VirtualLoop) -> None:
    backlog = Backlog()
    add(backlog, 0, Priority.LOW)
    take(backlog)

    waiting = loop.create_task(asyncio.wait_for(backlog.wait(), 60))
    loop.advance(59)

    assert not waiting.done()
