"""What every journal does, whatever it keeps its records in."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from sluice.events import Cancelled, Event, Expired, Interrupted, Outcome, Paused, Resumed, Revived, Started
from sluice.journal import PAGE_BYTES, Journal, Result
from sluice.journal.memory import SWEEP
from tests.api import BACKENDS, settings_for
from tests.journals import Book, opened_journal
from tests.sqlite import Run

NOTHING: list[Result] = []


@pytest.fixture(params=BACKENDS)
def journal(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> Iterator[Journal]:
    with opened_journal(settings_for(request.param, tmp_path), run) as journal:
        yield journal


@pytest.fixture
def book(journal: Journal, run: Run) -> Book:
    return Book(journal, run)


def test_new_journal_has_an_empty_lane_to_start_from(journal: Journal) -> None:
    saved = journal.replay()

    assert not list(saved.ingestions)
    assert not list(saved.keys)
    assert (saved.last_start, saved.running, saved.held, saved.paused, saved.next_seq) == (None, None, None, None, 0)


def test_events_are_applied_in_the_order_of_their_appends(journal: Journal, book: Book, run: Run) -> None:
    groups = [[book.accepted(1) for _ in range(count)] for count in (3, 1, 2)]

    async def append_all() -> None:
        await asyncio.gather(*(journal.append(group) for group in groups))

    run(append_all())

    assert book.applied == book.stamped(*(event for group in groups for event in group))


def test_events_are_applied_by_when_append_returns(journal: Journal, book: Book, run: Run) -> None:
    first, second = book.accepted(1), book.accepted(1)

    async def append_both() -> list[Event]:
        await journal.append([first])
        after_the_first = book.applied.copy()
        await journal.append([second])
        return after_the_first

    assert run(append_both()) == book.stamped(first)
    assert book.applied == book.stamped(first, second)


def test_appending_nothing_is_fine(book: Book) -> None:
    book.append()
    book.accept()

    assert len(book.applied) == 1


def test_what_is_decided_is_appended_and_applied_when_decide_returns(journal: Journal, book: Book, run: Run) -> None:
    first, second = Paused(1.0, "maintenance"), Resumed()
    seen: list[list[Event]] = []

    def propose(event: Event) -> Sequence[Event]:
        seen.append(book.applied.copy())
        return [event]

    async def decide_both() -> None:
        await journal.decide(lambda: propose(first))
        await journal.decide(lambda: propose(second))

    run(decide_both())

    assert seen == [[], [first]]
    assert book.applied == [first, second]


def test_decision_that_fails_is_raised_and_changes_nothing(journal: Journal, book: Book, run: Run) -> None:
    def propose() -> Sequence[Event]:
        raise ValueError("impossible as things stand")

    with pytest.raises(ValueError, match="impossible"):
        run(journal.decide(propose))
    run(journal.decide(list))

    assert book.applied == []
    book.accept()


def test_catching_up_waits_for_nothing_that_nobody_else_appends(journal: Journal, book: Book, run: Run) -> None:
    book.accept()

    run(asyncio.wait_for(journal.catch_up(), 10))

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


def test_interrupted_batch_has_no_results_until_it_has_run_again(book: Book) -> None:
    job = book.accept(5)
    book.finish(job, *(Outcome(position, 1, data=b"0") for position in (0, 1, 2)))
    book.append(Started(job, (3, 4), 6.0))

    book.append(Interrupted(7.0))
    before = book.results(job)
    book.finish(job, Outcome(3, 1, data=b"3"), Outcome(4, 1, error="answered 404"), time=9.0)

    assert [result.position for result in before] == [0, 1, 2]
    assert book.results(job, 3) == [Result(3, 1, b"3", None, 9.0), Result(4, 1, None, "answered 404", 9.0)]


def test_interruption_of_nothing_is_fine(book: Book) -> None:
    job = book.accept(1)
    book.finish(job, Outcome(0, 1, data=b"0"))

    book.append(Interrupted(7.0))

    assert book.results(job) == [Result(0, 1, b"0", None, 5.0)]
    assert book.applied[-1] == Interrupted(7.0)


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
