"""What every journal does, whatever it keeps its records in."""

import asyncio
from array import array
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sluice.clock import SystemClock
from sluice.events import Accepted, Cancelled, Event, Expired, Finished, Outcome, Revived, Started
from sluice.journal import PAGE_BYTES, Journal, Result
from sluice.journal.memory import SWEEP, MemoryJournal
from sluice.journal.sqlite import SqliteJournal
from sluice.models import Priority

Run = Callable[[Coroutine[Any, Any, Any]], Any]
NOTHING: list[Result] = []


@pytest.fixture
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> Iterator[Journal]:
    if request.param == "memory":
        yield MemoryJournal()
    else:
        journal = SqliteJournal(tmp_path / "sluice.db", SystemClock())
        yield journal
        run(journal.close())


class Book:
    """Appends to a journal and notes what was applied."""

    def __init__(self, journal: Journal, run: Run) -> None:
        self.applied: list[Event] = []
        self._journal = journal
        self._run = run
        self._seq = 0

    def append(self, *events: Event) -> None:
        self._run(self._journal.append(events, self.applied.append))

    def accepted(self, count: int) -> Accepted:
        self._seq += 1
        return Accepted(str(uuid4()), Priority.LOW, 1.0, self._seq, 3, array("I", range(1, count + 1)))

    def accept(self, count: int = 3) -> str:
        accepted = self.accepted(count)
        self.append(accepted)
        return accepted.ingestion_id

    def finish(self, ingestion_id: str, *outcomes: Outcome, time: float = 5.0) -> None:
        self.append(Started(ingestion_id, tuple(outcome.position for outcome in outcomes), 1.0))
        self.append(Finished(ingestion_id, outcomes, 2.0, time))

    def results(self, ingestion_id: str, start: int = 0, end: int = 10**6) -> list[Result]:
        results: list[Result] = self._run(self._journal.results(ingestion_id, start, end))
        return results

    def sweep(self) -> int:
        """Sweep until there is no more; return how many steps it took."""
        steps = 1
        while self._run(self._journal.sweep()):
            steps += 1
        return steps


@pytest.fixture
def book(journal: Journal, run: Run) -> Book:
    return Book(journal, run)


def test_new_journal_has_an_empty_lane_to_start_from(journal: Journal) -> None:
    saved = journal.replay()

    assert not list(saved.ingestions)
    assert not list(saved.keys)
    assert (saved.last_start, saved.held, saved.paused, saved.next_seq) == (None, None, None, 0)


def test_events_are_applied_in_the_order_of_their_appends(journal: Journal, book: Book, run: Run) -> None:
    groups = [[book.accepted(1) for _ in range(count)] for count in (3, 1, 2)]

    async def append_all() -> None:
        await asyncio.gather(*(journal.append(group, book.applied.append) for group in groups))

    run(append_all())

    assert book.applied == [event for group in groups for event in group]


def test_events_are_applied_by_when_append_returns(journal: Journal, book: Book, run: Run) -> None:
    first, second = book.accepted(1), book.accepted(1)

    async def append_both() -> list[Event]:
        await journal.append([first], book.applied.append)
        after_the_first = book.applied.copy()
        await journal.append([second], book.applied.append)
        return after_the_first

    assert run(append_both()) == [first]
    assert book.applied == [first, second]


def test_appending_nothing_is_fine(book: Book) -> None:
    book.append()
    book.accept()

    assert len(book.applied) == 1


def test_results_come_window_by_window_in_the_order_of_positions(book: Book) -> None:
    job, other = book.accept(9), book.accept(3)
    book.finish(job, *(Outcome(position, 1, data=b"%d" % position) for position in (0, 1, 2)), time=5.0)
    book.finish(other, *(Outcome(position, 1, data=b"other") for position in (0, 1, 2)))
    book.finish(job, *(Outcome(position, 1, error="answered 404") for position in (6, 7, 8)), time=6.0)
    book.finish(job, *(Outcome(position, 2, data=b"%d" % position) for position in (3, 4, 5)), time=7.0)

    results = book.results(job)

    assert results == [
        *(Result(position, 1, b"%d" % position, None, 5.0) for position in (0, 1, 2)),
        *(Result(position, 2, b"%d" % position, None, 7.0) for position in (3, 4, 5)),
        *(Result(position, 1, None, "answered 404", 6.0) for position in (6, 7, 8)),
    ]
    assert book.results(job, 2, 7) == results[2:7]
    assert book.results(job, 4, 4) == NOTHING
    assert book.results(job, 9, 99) == NOTHING
    assert len(book.results(other)) == 3


def test_large_results_come_a_few_at_a_time(book: Book) -> None:
    job = book.accept(9)
    data = b"1" * (PAGE_BYTES // 2)
    for first in (0, 3, 6):
        book.finish(job, *(Outcome(position, 1, data=data) for position in range(first, first + 3)), time=5.0)

    pages = [[result.position for result in book.results(job, start)] for start in (0, 2, 8)]

    assert pages == [[0, 1], [2, 3], [8]]


def test_unknown_ingestion_has_no_results(book: Book) -> None:
    assert book.results(str(uuid4())) == NOTHING


def test_id_that_waits_for_another_attempt_has_no_result_yet(book: Book) -> None:
    job = book.accept(2)
    book.finish(job, Outcome(0, 1, error="answered 500", retry_at=9.0), Outcome(1, 1, data=b"1"))
    before = book.results(job)

    book.finish(job, Outcome(0, 2, data=b"0"), time=6.0)

    assert before == [Result(1, 1, b"1", None, 5.0)]
    assert book.results(job) == [Result(0, 2, b"0", None, 6.0), *before]


def test_reviving_takes_back_failed_results_and_leaves_the_others(book: Book) -> None:
    job, other = book.accept(), book.accept(1)
    failed = Outcome(1, 3, error="answered 500")
    book.finish(job, Outcome(0, 1, data=b"0"), failed, Outcome(2, 1, data=b"2"))
    book.finish(other, Outcome(0, 3, error="answered 500"))

    book.append(Revived(job))
    revived = book.results(job)
    book.finish(job, Outcome(1, 1, data=b"1"), time=6.0)

    assert revived == [Result(0, 1, b"0", None, 5.0), Result(2, 1, b"2", None, 5.0)]
    assert book.results(job, 1, 2) == [Result(1, 1, b"1", None, 6.0)]
    assert book.results(other) == [Result(0, 3, None, "answered 500", 5.0)]


def test_reviving_what_has_no_results_is_fine(book: Book) -> None:
    job = book.accept()

    book.append(Revived(job))

    assert book.results(job) == NOTHING


def test_cancelling_turns_what_waited_for_another_attempt_into_failed_results(book: Book) -> None:
    job = book.accept(6)
    waits = [Outcome(position, 1, error="answered 500", retry_at=9.0) for position in (0, 1)]
    book.finish(job, *waits, Outcome(2, 1, data=b"2"))

    book.append(Cancelled(job, tuple(outcome._replace(retry_at=None) for outcome in waits), 8.0))

    assert book.results(job) == [
        Result(0, 1, None, "answered 500", 8.0),
        Result(1, 1, None, "answered 500", 8.0),
        Result(2, 1, b"2", None, 5.0),
    ]


def test_expired_ingestion_has_no_results_and_the_others_keep_theirs(book: Book) -> None:
    job, other = book.accept(1), book.accept(1)
    book.finish(job, Outcome(0, 1, data=b"0"))
    book.finish(other, Outcome(0, 1, data=b"other"))

    book.append(Expired(job))
    at_once = book.results(job)
    book.sweep()

    assert at_once == book.results(job) == NOTHING
    assert book.results(other) == [Result(0, 1, b"other", None, 5.0)]


def test_sweep_removes_everything_in_small_steps_and_says_when_there_is_no_more(book: Book) -> None:
    jobs = [book.accept(5 * SWEEP + 7), book.accept(1), book.accept(1)]
    book.finish(jobs[0], *(Outcome(position, 1, data=b"0") for position in range(5 * SWEEP + 7)))
    book.finish(jobs[1], Outcome(0, 1, data=b"0"))
    book.append(*map(Expired, jobs))

    steps = book.sweep()

    assert steps >= 6
    assert book.sweep() == 1


def test_sweep_with_nothing_expired_has_no_more(book: Book) -> None:
    job = book.accept(1)
    book.finish(job, Outcome(0, 1, data=b"0"))

    assert book.sweep() == 1
    assert len(book.results(job)) == 1
