"""FileJournal: what is shared and durable, and which clocks are believed when a file is opened again."""

import asyncio
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from sluice import control
from sluice.events import Accepted, Event, Finished, Held, Outcome, Started
from sluice.journal import JournalError
from sluice.lane import Lane
from sluice.pace import START_BUDGET, Pace
from tests.sqlite import INTERVAL, FileJournal, Run, SteppedClock, accepted, crash, never_restored, saved_ids
from tests.virtual import EPOCH

# What is shared, and what is durable


def test_appends_that_wait_share_a_commit(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)
    statements: list[str] = []
    journal.file._database.set_trace_callback(statements.append)

    async def append_in_two_waves() -> None:
        first = [asyncio.create_task(journal.append([accepted(seq)])) for seq in range(100)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = [asyncio.create_task(journal.append([accepted(seq)])) for seq in range(100, 200)]
        await asyncio.gather(*first, *second)

    run(append_in_two_waves())
    run(journal.close())

    assert statements.count("COMMIT") <= 3
    assert [event.seq for event in journal.applied if isinstance(event, Accepted)] == list(range(200))
    assert len(saved_ids(path, run)) == 200


def test_decision_is_taken_on_all_that_was_appended_before_and_has_the_next_commit(
    path: Path, clock: SteppedClock, run: Run
) -> None:
    journal = FileJournal(path, clock)
    seen: list[int] = []
    statements: list[str] = []

    def look() -> list[Event]:
        seen.append(len(journal.applied))
        return [accepted(len(journal.applied))]

    async def decide_during_a_commit() -> None:
        first = asyncio.create_task(journal.append([accepted(0)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.gather(first, journal.decide(look))
        await journal.decide(list)
        with pytest.raises(ZeroDivisionError):
            await journal.decide(lambda: [accepted(1 // 0)])

    journal.file._database.set_trace_callback(statements.append)
    run(decide_during_a_commit())
    run(journal.close())

    assert seen == [1]
    assert [event.seq for event in journal.applied if isinstance(event, Accepted)] == [0, 1]
    assert statements.count("COMMIT") == 2


def test_nothing_is_applied_before_a_kill_could_no_longer_lose_it(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)
    copies: list[Path] = []
    events = [accepted(0), accepted(1)]

    def kill(event: Event) -> None:
        copies.append(path.with_name(f"{len(copies)}.db"))
        crash(path, copies[-1])

    journal.attach(kill, never_restored)
    for event in events:
        run(journal.append([event]))
    run(journal.close())

    assert saved_ids(copies[0], run) == [events[0].ingestion_id]
    assert saved_ids(copies[1], run) == [events[0].ingestion_id, events[1].ingestion_id]


def test_decisions_that_wait_are_recorded_before_the_file_is_closed(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)
    lane = Lane(journal, Pace(INTERVAL), 3)

    async def cancel_all_and_leave() -> None:
        events = [accepted(seq) for seq in range(30)]
        await lane.record(*events)
        callers = [
            asyncio.create_task(lane.decide(partial(control.cancel, lane.ingestions[event.ingestion_id], EPOCH)))
            for event in events
        ]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await lane.settled()
        await journal.close()

    run(cancel_all_and_leave())

    again = Lane(FileJournal(path, clock), Pace(INTERVAL), 3)
    assert all(each.is_cancelled for each in again.ingestions.values())
    assert len(again.ingestions) == 30


def test_failing_commit_fails_its_whole_group_and_changes_nothing(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)
    lane = Lane(journal, Pace(INTERVAL), batch_size=3)
    (pages,) = journal.file._database.execute("PRAGMA page_count").fetchone()
    journal.file._database.execute(f"PRAGMA max_page_count = {pages}")  # the disk is full

    async def record(*events: Event) -> list[BaseException | None]:
        return await asyncio.gather(*map(lane.record, events), return_exceptions=True)

    failures = run(record(accepted(0, 1), accepted(1, 10_000), accepted(2, 1)))
    in_memory = dict(lane.ingestions)
    journal.file._database.execute(f"PRAGMA max_page_count = {pages + 1000}")
    kept = accepted(3)
    recovered = run(record(kept))
    run(journal.close())

    assert [type(failure) for failure in failures] == [JournalError] * 3
    assert {str(failure) for failure in failures} == {"the journal cannot be written: database or disk is full"}
    assert not in_memory
    assert recovered == [None]
    assert list(lane.ingestions) == saved_ids(path, run) == [kept.ingestion_id]


def test_append_is_applied_even_if_its_caller_was_cancelled(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)
    events = [accepted(seq) for seq in range(3)]

    async def cancel_the_first_two() -> list[BaseException | None]:
        tasks = [asyncio.create_task(journal.append([event])) for event in events]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends = run(cancel_the_first_two())
    run(journal.close())

    assert [type(end) for end in ends] == [asyncio.CancelledError, asyncio.CancelledError, type(None)]
    assert journal.applied == events
    assert saved_ids(path, run) == [event.ingestion_id for event in events]


def test_close_finishes_what_was_appended(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)
    event = accepted(0)

    async def append_and_close() -> None:
        appending = asyncio.create_task(journal.append([event]))
        await asyncio.sleep(0)
        await journal.close()
        await appending

    run(append_and_close())

    assert journal.applied == [event]
    assert saved_ids(path, run) == [event.ingestion_id]


# Clocks


class Reopened(NamedTuple):
    """What a lane came back with."""

    lane: Lane
    retry_at: float


def reopened(path: Path, run: Run, then: SteppedClock, now: SteppedClock) -> Reopened:
    """Fail a batch that starts at `then` and ends a second later, hold the lane, and take all that up at `now`."""
    before = FileJournal(path, then)
    event = accepted(0)
    start, end = Started(event.ingestion_id, (0, 1, 2), then.at), then.at + 1
    failed = Outcome(0, 1, error="answered 500", retry_at=end + 10)
    done = [Outcome(position, 1, data=b"1") for position in (1, 2)]
    finish = Finished(event.ingestion_id, (failed, *done), end, then.wall)
    run(before.append([event, start, finish, Held(end + 20, "answered 429")]))
    run(before.close())

    journal = FileJournal(path, now)
    lane = Lane(journal, Pace(INTERVAL), batch_size=3)
    run(journal.close())
    ((retry_at, _),) = next(iter(lane.ingestions.values())).delayed
    return Reopened(lane, retry_at)


@pytest.mark.parametrize("downtime", [1.0, 3.0, 3600.0])
@pytest.mark.parametrize("wall_jump", [0.0, -86_400.0, 86_400.0])
def test_times_mean_the_same_to_another_process_of_the_same_boot(
    path: Path, run: Run, downtime: float, wall_jump: float
) -> None:
    now = SteppedClock(1000.0 + downtime)
    now.wall += wall_jump

    lane, retry_at = reopened(path, run, SteppedClock(1000.0), now)

    assert lane.pace.ready_at == 1000.0 + START_BUDGET + INTERVAL
    assert retry_at == 1011.0
    assert lane.held == Held(1021.0, "answered 429")


@pytest.mark.parametrize("now", [SteppedClock(3.0, "boot 1"), SteppedClock(9e9, "boot 1"), SteppedClock(3.0)])
@pytest.mark.parametrize("wall_jump", [0.0, -86_400.0, 86_400.0])
def test_no_time_has_passed_since_the_last_record_when_the_clock_counts_anew(
    path: Path, run: Run, now: SteppedClock, wall_jump: float
) -> None:
    now.wall = EPOCH + wall_jump

    lane, retry_at = reopened(path, run, SteppedClock(1000.0), now)

    # The last record was a second after the last start.
    assert lane.pace.ready_at == pytest.approx(now.at - 1.0 + START_BUDGET + INTERVAL)
    assert retry_at == pytest.approx(now.at + 10)
    assert lane.held
    assert lane.held.until == pytest.approx(now.at + 20)


SEND_LIMIT = 30.0
SENT = 4.5


def test_pace_counts_from_when_the_call_was_sent_after_a_restart_as_well(path: Path, run: Run) -> None:
    journal = FileJournal(path, SteppedClock(1000.0))
    job = accepted(0)
    done = tuple(Outcome(position, 1, data=b"1") for position in range(3))
    finish = Finished(job.ingestion_id, done, 1006.0, EPOCH, sent=1000.0 + SENT)
    run(journal.append([job, Started(job.ingestion_id, (0, 1, 2), 1000.0), finish]))
    run(journal.close())

    journal = FileJournal(path, SteppedClock(1007.0))
    lane = Lane(journal, Pace(INTERVAL), batch_size=3)
    run(journal.close())

    assert lane.pace.ready_at == 1000.0 + SENT + START_BUDGET + INTERVAL


@pytest.mark.parametrize("downtime", [1.0, SEND_LIMIT, 3600.0])
@pytest.mark.parametrize("boot", ["boot 0", "boot 1"])
def test_call_that_was_in_flight_at_a_kill_is_taken_to_be_sent_as_late_as_it_can_have_been(
    path: Path, run: Run, downtime: float, boot: str
) -> None:
    journal = FileJournal(path, SteppedClock(1000.0))
    job = accepted(0)
    run(journal.append([job, Started(job.ingestion_id, (0, 1, 2), 1000.0)]))
    run(journal.close())
    # No time has passed since the last record when the clock counts anew.
    latest = 1000.0 + (downtime if boot == "boot 1" else min(downtime, SEND_LIMIT))

    for _ in range(2):
        journal = FileJournal(path, SteppedClock(1000.0 + downtime, boot), {"default": SEND_LIMIT})
        lane = Lane(journal, Pace(INTERVAL), batch_size=3)
        run(journal.close())

        assert lane.pace.ready_at == latest + START_BUDGET + INTERVAL


def test_what_was_interrupted_need_not_wait_after_a_second_restart_that_is_a_reboot(path: Path, run: Run) -> None:
    journal = FileJournal(path, SteppedClock(1000.0))
    event = accepted(0)
    run(journal.append([event, Started(event.ingestion_id, (0, 1, 2), 1000.0)]))
    run(journal.close())
    paused_meanwhile = FileJournal(path, SteppedClock(1000.0 + 3600.0))
    run(paused_meanwhile.close())

    journal = FileJournal(path, SteppedClock(3.0, "boot 1"))
    lane = Lane(journal, Pace(INTERVAL), batch_size=3)
    run(journal.close())

    assert lane.next_start(3.0) == pytest.approx(3.0 + START_BUDGET + INTERVAL)
