from array import array
from typing import NamedTuple
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.backlog import LEAST_STALE, Backlog
from sluice.events import Accepted, Outcome
from sluice.ingestion import NEVER, Ingestion
from sluice.models import Priority

NOW = 0.0


def add(backlog: Backlog, seq: int, priority: Priority, batches: int = 1, created_time: float = 0.0) -> Ingestion:
    ids = array("I", [1]) * (3 * batches)
    ingestion = Ingestion(Accepted(str(uuid4()), priority, created_time, seq, 3, ids))
    backlog.update(ingestion)
    return ingestion


def take(backlog: Backlog, now: float = NOW, retry_at: float | None = None) -> Ingestion | None:
    """Run the next batch; with `retry_at`, all of its IDs fail and wait until then."""
    head = backlog.head(now)
    if head is not None:
        positions = head.next_positions()
        head.start(positions)
        error = None if retry_at is None else "answered 500"
        head.finish([Outcome(position, 1, error=error, retry_at=retry_at) for position in positions], now)
        backlog.update(head)
    return head


def test_order_is_priority_then_created_time_then_seq() -> None:
    backlog = Backlog()
    low = add(backlog, 0, Priority.LOW, created_time=1.0)
    first = add(backlog, 1, Priority.HIGH, created_time=2.0)
    tied = add(backlog, 2, Priority.HIGH, created_time=2.0)
    later = add(backlog, 3, Priority.HIGH, created_time=3.0)

    assert [take(backlog) for _ in range(4)] == [first, tied, later, low]
    assert backlog.head(NOW) is None


def test_ingestion_keeps_its_place_until_its_last_batch() -> None:
    backlog = Backlog()
    first = add(backlog, 0, Priority.MEDIUM, batches=2)
    second = add(backlog, 1, Priority.MEDIUM)

    assert [take(backlog), take(backlog), take(backlog)] == [first, first, second]


def test_slots_ahead_are_those_above_and_before() -> None:
    backlog = Backlog()
    first = add(backlog, 0, Priority.MEDIUM, batches=2)
    second = add(backlog, 1, Priority.MEDIUM)
    high = add(backlog, 2, Priority.HIGH, batches=3)
    low = add(backlog, 3, Priority.LOW)

    before = [backlog.ahead(job) for job in (high, first, second, low)]
    take(backlog)

    assert before == [0, 3, 5, 6]
    assert [backlog.ahead(job) for job in (high, first, second, low)] == [0, 2, 4, 5]
    assert backlog.total == 6


def test_ids_tried_again_come_back_under_their_own_key_when_their_time_has_come() -> None:
    backlog = Backlog()
    high = add(backlog, 0, Priority.HIGH)
    low = add(backlog, 1, Priority.LOW, batches=2)
    take(backlog, retry_at=10.0)

    assert backlog.next_ready(5.0) == 5.0
    assert take(backlog, now=5.0) is low
    assert take(backlog, now=10.0) is high
    assert take(backlog, now=15.0) is low


def test_next_ready_is_when_the_first_delayed_id_is_due() -> None:
    backlog = Backlog()
    add(backlog, 0, Priority.HIGH)
    add(backlog, 1, Priority.HIGH)
    take(backlog, retry_at=20.0)
    take(backlog, retry_at=10.0)

    assert backlog.next_ready(NOW) == 10.0
    take(backlog, now=10.0)
    assert backlog.next_ready(10.0) == 20.0
    take(backlog, now=20.0)
    assert backlog.next_ready(20.0) == NEVER


def test_another_priority_moves_an_ingestion_to_its_rightful_place() -> None:
    backlog = Backlog()
    jobs = [add(backlog, seq, Priority.MEDIUM, created_time=float(seq)) for seq in range(3)]
    low = add(backlog, 3, Priority.LOW, created_time=3.0)

    for priority in (Priority.HIGH, Priority.LOW, Priority.MEDIUM, Priority.LOW, Priority.HIGH, Priority.MEDIUM):
        backlog.remove(jobs[1])
        jobs[1].priority = priority
        backlog.update(jobs[1])
    backlog.remove(jobs[0])
    jobs[0].priority = Priority.LOW
    backlog.update(jobs[0])

    assert [backlog.ahead(job) for job in (*jobs, low)] == [2, 0, 1, 3]
    assert [take(backlog) for _ in range(5)] == [jobs[1], jobs[2], jobs[0], low, None]


def test_something_that_became_ready_is_signalled_only_when_nothing_was() -> None:
    backlog = Backlog()
    add(backlog, 0, Priority.LOW)
    first = backlog.became_ready.is_set()
    backlog.became_ready.clear()

    add(backlog, 1, Priority.HIGH)
    second = backlog.became_ready.is_set()
    take(backlog)
    take(backlog)
    add(backlog, 2, Priority.LOW)

    assert (first, second, backlog.became_ready.is_set()) == (True, False, True)


def test_cancelled_work_behind_a_long_queue_is_swept() -> None:
    backlog = Backlog()
    first = add(backlog, 0, Priority.HIGH, batches=9)

    for seq in range(1, 10 * LEAST_STALE):
        job = add(backlog, seq, Priority.LOW)
        job.cancel(job.given_up(), NOW)
        backlog.update(job)

    assert backlog._queue.qsize() <= 2 * LEAST_STALE
    assert backlog.total == 9
    assert backlog.head(NOW) is first


# Many at once

FATES = ["fresh", "begun", "running", "waits", "may be tried again", "done", "cancelled", "given up"]
DUE = 10.0


class Job(NamedTuple):
    """What an ingestion is to be like when a backlog first hears of it."""

    priority: Priority
    ids: int
    fate: str


JOBS = st.lists(st.builds(Job, st.sampled_from(Priority), st.integers(1, 9), st.sampled_from(FATES)), max_size=25)


def made(seq: int, job: Job) -> Ingestion:
    """Return an ingestion that has had its fate."""
    ids = array("I", range(1, job.ids + 1))
    ingestion = Ingestion(Accepted(str(uuid4()), job.priority, float(seq // 2), seq, 3, ids))
    if job.fate not in ("fresh", "cancelled"):
        positions = ingestion.next_positions()
        ingestion.start(positions)
        if job.fate == "running":
            return ingestion
        is_failure = job.fate not in ("begun", "done")
        error, retry_at = ("answered 500", DUE + seq) if is_failure else (None, None)
        ingestion.finish([Outcome(each, 1, error=error, retry_at=retry_at) for each in positions], NOW)
    if job.fate == "may be tried again":
        ingestion.release(NEVER)
    if job.fate in ("cancelled", "given up"):
        ingestion.cancel(ingestion.given_up(), NOW)
    while job.fate == "done" and not ingestion.is_done:
        positions = ingestion.next_positions()
        ingestion.start(positions)
        ingestion.finish([Outcome(each, 1) for each in positions], NOW)
    return ingestion


class Filled:
    """A backlog with ingestions in it, and what can be seen of it."""

    def __init__(self, jobs: list[Job], *, at_once: bool) -> None:
        self.backlog = Backlog()
        self.ingestions = [made(seq, job) for seq, job in enumerate(jobs)]
        if at_once:
            self.backlog.fill(self.ingestions)
        else:
            for ingestion in self.ingestions:
                self.backlog.update(ingestion)

    def view(self, now: float) -> object:
        backlog = self.backlog
        return (
            backlog.next_ready(now),
            (head := backlog.head(now)) and head.seq,
            backlog.total,
            [slots.total for slots in backlog.slots],
            [(each.weight, backlog.ahead(each)) for each in self.ingestions],
            sorted((seq, due) for seq, (due, _) in backlog.delayed.items()),
        )

    def move(self, place: int, priority: Priority) -> None:
        if self.ingestions:
            ingestion = self.ingestions[place % len(self.ingestions)]
            self.backlog.remove(ingestion)
            ingestion.priority = priority
            self.backlog.update(ingestion)

    def cancel(self, place: int) -> None:
        if self.ingestions:
            ingestion = self.ingestions[place % len(self.ingestions)]
            ingestion.cancel(ingestion.given_up(), NOW)
            self.backlog.update(ingestion)


@given(
    jobs=JOBS,
    steps=st.lists(
        st.tuples(st.floats(0, 2 * DUE), st.booleans(), st.none() | st.integers(0, 24), st.sampled_from(Priority)),
        max_size=20,
    ),
)
def test_backlog_filled_at_once_is_and_stays_one_that_was_told_of_each(
    jobs: list[Job], steps: list[tuple[float, bool, int | None, Priority]]
) -> None:
    both = Filled(jobs, at_once=True), Filled(jobs, at_once=False)
    now = NOW

    def assert_same() -> None:
        at_once, one_by_one = (each.view(now) for each in both)
        assert at_once == one_by_one

    assert_same()
    for seconds, fails, place, priority in steps:
        now += seconds
        for each in both:
            if place is None:
                take(each.backlog, now, now + DUE if fails else None)
            elif fails:
                each.cancel(place)
            else:
                each.move(place, priority)
        assert_same()
    now += 100 * DUE
    taken = [[head and head.seq for head in [take(each.backlog, now) for _ in range(100)]] for each in both]
    assert taken[0] == taken[1]


@pytest.mark.parametrize("fate", FATES)
def test_backlog_filled_with_whatever_signals_that_something_may_be_ready(fate: str) -> None:
    backlog = Backlog()

    backlog.fill([made(0, Job(Priority.LOW, 4, fate))])

    assert backlog.became_ready.is_set()


def test_backlog_filled_with_nothing_is_empty() -> None:
    backlog = Backlog()

    backlog.fill([])

    assert (backlog.total, backlog.next_ready(NOW), backlog.head(NOW)) == (0, NEVER, None)
