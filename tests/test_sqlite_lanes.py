"""SqliteFile: several lanes in one file, and what an interruption leaves in it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sluice.events import (
    Accepted,
    Event,
    Finished,
    Held,
    Idempotency,
    Interrupted,
    KeysExpired,
    Outcome,
    Paused,
    Resumed,
    Started,
)
from sluice.ingestion import INTERRUPTED, Trouble
from sluice.journal import Saved, SavedIngestion, SavedKey
from sluice.journal.sqlite import SqliteFile
from tests.sqlite import Run, SteppedClock, accepted, never_restored
from tests.virtual import EPOCH

NO_ATTEMPT = Trouble(0, INTERRUPTED, is_final=False)
AGAIN = Trouble(1, "answered 500", is_final=False)


def append(path: Path, run: Run, clock: SteppedClock, *events: tuple[str, Event]) -> None:
    """Open a file, append events to its lanes in order, and close it."""
    file = SqliteFile(path, clock)
    journals = {lane: file.journal(lane) for lane in ("default", "maps")}
    for journal in journals.values():
        journal.attach(lambda event: None, never_restored)
    for lane, event in events:
        run(journals[lane].append([event]))
    run(file.close())


def reopened(path: Path, run: Run, clock: SteppedClock) -> dict[str, Saved]:
    file = SqliteFile(path, clock)
    lanes = {lane: file.journal(lane).replay() for lane in ("default", "maps")}
    run(file.close())
    return lanes


def waiting(saved: Saved) -> dict[int, tuple[float, Trouble]]:
    (ingestion,) = saved.ingestions
    return {position: (retry_at, trouble) for position, retry_at, trouble in ingestion.waiting}


def untouched(job: Accepted) -> SavedIngestion:
    return SavedIngestion(job._replace(idempotency=None), 0, False, False, (), (), job.created_time)


def failed(job: Accepted, positions: Sequence[int], retry_at: float) -> Finished:
    outcomes = tuple(Outcome(position, 1, error=AGAIN.error, retry_at=retry_at) for position in positions)
    return Finished(job.ingestion_id, outcomes, 1001.0, EPOCH)


def test_events_of_a_lane_leave_the_other_as_it_is(path: Path, run: Run, clock: SteppedClock) -> None:
    here = accepted(0)._replace(idempotency=Idempotency("a", b"1"))
    there = accepted(1)._replace(idempotency=Idempotency("b", b"2"))

    append(
        path,
        run,
        clock,
        ("default", here),
        ("maps", there),
        ("maps", Started(there.ingestion_id, (0, 1, 2), 1000.0)),
        ("maps", failed(there, (0, 1, 2), 1009.0)),
        ("maps", Held(1020.0, "answered 429")),
        ("maps", Paused(EPOCH, "maintenance")),
        ("maps", KeysExpired(EPOCH)),
    )

    lanes = reopened(path, run, SteppedClock(1002.0))
    key = SavedKey(Idempotency("a", b"1"), here.ingestion_id, EPOCH)
    assert lanes["default"] == Saved([untouched(here)], [key], next_seq=2)
    assert lanes["maps"]._replace(ingestions=()) == Saved(
        (),
        [],
        last_start=1000.0,
        held=Held(1020.0, "answered 429"),
        paused=Paused(EPOCH, "maintenance"),
        next_seq=2,
    )
    assert waiting(lanes["maps"]) == dict.fromkeys(range(3), (1009.0, AGAIN))


def test_end_and_resumption_in_a_lane_leave_what_runs_and_is_paused_in_the_other(
    path: Path, run: Run, clock: SteppedClock
) -> None:
    here, there = accepted(0), accepted(1)
    outcomes = tuple(Outcome(position, 1, data=b"1") for position in range(3))

    append(
        path,
        run,
        clock,
        ("default", here),
        ("maps", there),
        ("default", Started(here.ingestion_id, (0, 1, 2), 1000.0)),
        ("maps", Started(there.ingestion_id, (0, 1, 2), 1001.0)),
        ("default", Paused(EPOCH, "here")),
        ("maps", Paused(EPOCH, "there")),
        ("default", Finished(here.ingestion_id, outcomes, 1002.0, EPOCH)),
        ("default", Resumed()),
    )

    lanes = reopened(path, run, SteppedClock(1003.0))
    assert waiting(lanes["default"]) == {}
    assert waiting(lanes["maps"]) == dict.fromkeys(range(3), (1002.0, NO_ATTEMPT))
    assert [lanes[lane].paused for lane in ("default", "maps")] == [None, Paused(EPOCH, "there")]


def test_what_ran_in_each_lane_when_the_process_ended_waits_there(path: Path, run: Run, clock: SteppedClock) -> None:
    here, there = accepted(0), accepted(1, 5)
    append(
        path,
        run,
        clock,
        ("default", here),
        ("maps", there),
        ("maps", Started(there.ingestion_id, (0, 1, 2), 1000.0)),
        ("default", Started(here.ingestion_id, (0, 1, 2), 1002.0)),
    )

    lanes = reopened(path, run, SteppedClock(1003.0))

    assert [waiting(lanes[lane]) for lane in ("default", "maps")] == [
        dict.fromkeys(range(3), (1002.0, NO_ATTEMPT)),
        dict.fromkeys(range(3), (1002.0, NO_ATTEMPT)),
    ]
    assert [lanes[lane].last_start for lane in ("default", "maps")] == [1002.0, 1000.0]


def test_batch_whose_interruption_is_recorded_comes_back_waiting_until_then(
    path: Path, run: Run, clock: SteppedClock
) -> None:
    job = accepted(0, 5)

    append(
        path,
        run,
        clock,
        ("default", job),
        ("default", Started(job.ingestion_id, (0, 1, 2), 1000.0)),
        ("default", Interrupted(1007.0)),
    )

    saved = reopened(path, run, SteppedClock(1007.5))["default"]
    assert waiting(saved) == dict.fromkeys(range(3), (1007.0, NO_ATTEMPT))
    (ingestion,) = saved.ingestions
    assert (ingestion.started, saved.last_start, saved.running) == (1, 1000.0, None)


def test_recorded_interruption_keeps_the_error_and_the_count_of_the_attempt_before(
    path: Path, run: Run, clock: SteppedClock
) -> None:
    job = accepted(0)

    append(
        path,
        run,
        clock,
        ("default", job),
        ("default", Started(job.ingestion_id, (0, 1, 2), 1000.0)),
        ("default", failed(job, (0, 1, 2), 1002.0)),
        ("default", Started(job.ingestion_id, (0, 1, 2), 1005.0)),
        ("default", Interrupted(1007.0)),
    )

    assert waiting(reopened(path, run, SteppedClock(1008.0))["default"]) == dict.fromkeys(range(3), (1007.0, AGAIN))


def test_recorded_interruption_is_of_one_lane(path: Path, run: Run, clock: SteppedClock) -> None:
    here, there = accepted(0), accepted(1)

    append(
        path,
        run,
        clock,
        ("default", here),
        ("maps", there),
        ("default", Started(here.ingestion_id, (0, 1, 2), 1000.0)),
        ("maps", Started(there.ingestion_id, (0, 1, 2), 1001.0)),
        ("default", Interrupted(1002.0)),
        ("maps", failed(there, (0, 1, 2), 1009.0)),
    )

    lanes = reopened(path, run, SteppedClock(1010.0))
    assert waiting(lanes["default"]) == dict.fromkeys(range(3), (1002.0, NO_ATTEMPT))
    assert waiting(lanes["maps"]) == dict.fromkeys(range(3), (1009.0, AGAIN))


def test_recorded_interruption_of_nothing_leaves_everything(path: Path, run: Run, clock: SteppedClock) -> None:
    job = accepted(0)

    append(path, run, clock, ("default", job), ("default", Interrupted(1002.0)))

    assert reopened(path, run, SteppedClock(1003.0))["default"] == Saved([untouched(job)], [], next_seq=1)


@pytest.mark.parametrize("origin", ["boot 0", "boot 1"])
def test_what_was_interrupted_need_not_wait_after_a_restart_that_is_a_reboot(
    path: Path, run: Run, clock: SteppedClock, origin: str
) -> None:
    job = accepted(0)
    append(
        path,
        run,
        clock,
        ("default", job),
        ("default", Started(job.ingestion_id, (0, 1, 2), 1000.0)),
        ("default", Interrupted(1100.0)),
    )

    saved = reopened(path, run, SteppedClock(3.0, origin))["default"]

    # The interruption was the last record, 100 s after the start.
    assert waiting(saved) == dict.fromkeys(range(3), (3.0, NO_ATTEMPT))
    assert saved.last_start == -97.0
