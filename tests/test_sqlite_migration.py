"""FileJournal: a file from before there were lanes is taken up with everything in the default one."""

import gc
import sqlite3
import zlib
from array import array
from pathlib import Path
from uuid import uuid4

import pytest

from sluice.events import Accepted, Finished, Held, Idempotency, Outcome, Paused, Started
from sluice.ingestion import INTERRUPTED, Trouble
from sluice.journal import JournalRefusedError, Result, Saved, SavedIngestion, SavedKey
from sluice.journal.sqlite import SqliteFile
from sluice.journal.sqlite_schema import APPLICATION_ID, MIGRATIONS
from sluice.lane import Lane
from sluice.models import Priority
from sluice.pace import START_BUDGET, Pace
from tests.sqlite import INTERVAL, FileJournal, Run, SteppedClock, accepted, crash, never_restored
from tests.virtual import EPOCH

CLOCK = 1010.0  # the last record
RUNNING, WAITING, CANCELLED, FRESH = (
    Accepted(str(uuid4()), priority, EPOCH + seq, seq, 3, array("I", range(1, count + 1)))
    for seq, (priority, count) in enumerate(
        [(Priority.HIGH, 7), (Priority.MEDIUM, 4), (Priority.LOW, 5), (Priority.LOW, 100_000)]
    )
)
EXPIRED_SEQ = 7
KEYS = [
    SavedKey(Idempotency("a", b"digest of a"), RUNNING.ingestion_id, EPOCH),
    SavedKey(Idempotency("b", b"digest of b"), str(uuid4()), EPOCH + 1),
]
WAIT = Trouble(2, "answered 500", is_final=False)
FAILURE = Trouble(3, "answered 404", is_final=True)


def checksum(job: Accepted) -> int:
    head = f"{job.ingestion_id} {job.created_time!r} {job.batch_size}"
    return zlib.crc32(job.ids.tobytes(), zlib.crc32(head.encode()))


def version_1(path: Path) -> sqlite3.Connection:
    """Make a file as version 1 would have left it; return the connection, still open."""
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(
        f"BEGIN; {MIGRATIONS[0]};"
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; COMMIT; PRAGMA journal_mode = WAL"
    )
    database.execute("BEGIN")
    database.execute(
        "INSERT INTO lane VALUES (1, 'boot 0', ?, 1005.0, 0, '[3, 4, 5]', 1030.0, 'answered 429', ?, 'maintenance')",
        (CLOCK, EPOCH + 5),
    )
    for job, started, is_cancelled, changed in (
        (RUNNING, 2, 0, 4),
        (WAITING, 1, 0, 3),
        (CANCELLED, 0, 1, 2),
        (FRESH, 0, 0, 3),
    ):
        row = (job.seq, job.ingestion_id, int(job.priority), job.created_time, 3, checksum(job), started)
        database.execute(
            "INSERT INTO ingestions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, is_cancelled, is_cancelled, EPOCH + changed),
        )
        database.execute("INSERT INTO ids VALUES (?, ?)", (job.seq, job.ids.tobytes()))
    database.executemany(
        "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)",
        [
            *((RUNNING.seq, position, 1, b"%d" % position, None, EPOCH + 4) for position in range(3)),
            (WAITING.seq, 0, 3, None, FAILURE.error, EPOCH + 3),
            (WAITING.seq, 1, 1, b"1", None, EPOCH + 3),
            (EXPIRED_SEQ, 0, 1, b"old", None, EPOCH),
        ],
    )
    database.executemany(
        "INSERT INTO waiting VALUES (?, ?, ?, ?, ?)",
        # The second is in flight once more.
        [(WAITING.seq, 2, 1020.0, 2, WAIT.error), (RUNNING.seq, 4, 1004.0, 1, "no answer within 30 s")],
    )
    database.executemany("INSERT INTO keys VALUES (?, ?, ?, ?)", [(*key[0], *key[1:]) for key in KEYS])
    database.execute("INSERT INTO expired VALUES (?)", (EXPIRED_SEQ,))
    database.execute("COMMIT")
    return database


def expected(shift: float) -> Saved:
    """Return what all that comes back as, to a clock that is so much ahead of the file's."""
    now = CLOCK + shift
    interrupted = Trouble(0, INTERRUPTED, is_final=False)
    again = [
        (3, now, interrupted),
        (4, now, Trouble(1, "no answer within 30 s", is_final=False)),
        (5, now, interrupted),
    ]
    return Saved(
        [
            SavedIngestion(RUNNING, 2, False, False, again, (), EPOCH + 4),
            SavedIngestion(WAITING, 1, False, False, [(2, 1020.0 + shift, WAIT)], [(0, FAILURE)], EPOCH + 3),
            SavedIngestion(CANCELLED, 0, True, True, (), (), EPOCH + 2),
            SavedIngestion(FRESH, 0, False, False, (), (), EPOCH + 3),
        ],
        KEYS,
        last_start=1005.0 + shift,
        held=Held(1030.0 + shift, "answered 429"),
        paused=Paused(EPOCH + 5, "maintenance"),
        next_seq=EXPIRED_SEQ + 1,
    )


def version_of(path: Path) -> int:
    database = sqlite3.connect(path)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    database.close()
    return int(version)


@pytest.mark.parametrize(
    ("clock", "shift"), [(SteppedClock(1012.0), 0.0), (SteppedClock(CLOCK + 512.0, "boot 1"), 512.0)]
)
def test_file_of_version_1_comes_back_with_everything_in_the_default_lane(
    path: Path, run: Run, clock: SteppedClock, shift: float
) -> None:
    version_1(path).close()

    journal = FileJournal(path, clock)

    saved = journal.replay()
    assert saved == expected(shift)
    assert run(journal.results(RUNNING.ingestion_id, 0, 7)) == [
        Result(position, 1, b"%d" % position, None, EPOCH + 4) for position in range(3)
    ]
    assert run(journal.results(WAITING.ingestion_id, 0, 4)) == [
        Result(0, 3, None, "answered 404", EPOCH + 3),
        Result(1, 1, b"1", None, EPOCH + 3),
    ]
    run(journal.close())
    assert version_of(path) == len(MIGRATIONS)


def test_file_of_version_1_whose_process_was_killed_comes_back_as_well(tmp_path: Path, path: Path, run: Run) -> None:
    database = version_1(tmp_path / "original.db")
    crash(tmp_path / "original.db", path)
    database.close()

    journal = FileJournal(path, SteppedClock(1012.0))

    assert journal.replay() == expected(0.0)
    run(journal.close())


def test_migrated_file_is_opened_again_as_any_other(path: Path, run: Run) -> None:
    version_1(path).close()
    run(FileJournal(path, SteppedClock(1012.0)).close())

    journal = FileJournal(path, SteppedClock(1013.0))

    assert journal.replay() == expected(0.0)
    run(journal.close())


def test_migrated_file_has_room_for_more_lanes_and_goes_on(path: Path, run: Run) -> None:
    version_1(path).close()
    clock = SteppedClock(1040.0)
    file = SqliteFile(path, clock)
    assert file.left == {"default"}
    maps = file.journal("maps")
    assert maps.replay() == Saved()
    lane = Lane(file.journal("default"), Pace(INTERVAL), 3)
    maps.attach(lambda event: None, never_restored)
    run(maps.append([accepted(8)._replace(ingestion_id=str(uuid4()))]))
    batch = lane.next_batch(clock.at)
    assert batch is not None
    assert (batch.ingestion_id, batch.positions) == (RUNNING.ingestion_id, (3, 4, 5))
    outcomes = tuple(Outcome(position, 1, data=b"2") for position in batch.positions)
    start = Started(batch.ingestion_id, batch.positions, clock.at)
    run(lane.record(start, Finished(batch.ingestion_id, outcomes, clock.at, EPOCH + 60)))
    run(file.close())

    journal = FileJournal(path, clock)
    lane = Lane(journal, Pace(INTERVAL), 3)

    assert journal.file.left == {"maps"}
    assert lane.pace.ready_at == clock.at + START_BUDGET + INTERVAL
    assert lane.ingestions[RUNNING.ingestion_id].batch_counts() == {
        "yet_to_start": 1,
        "triggered": 0,
        "completed": 2,
        "failed": 0,
        "cancelled": 0,
    }
    run(journal.close())


def test_empty_file_of_version_1_is_taken_up(path: Path, run: Run) -> None:
    database = sqlite3.connect(path)
    database.executescript(
        f"{MIGRATIONS[0]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;"
        "INSERT INTO lane (id, origin, clock) VALUES (1, 'boot 0', 1.0)"
    )
    database.close()

    journal = FileJournal(path, SteppedClock())

    assert journal.replay() == Saved([], [])
    run(journal.close())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            "UPDATE ids SET ids = zeroblob(length(ids)) WHERE seq = 1",
            "is damaged: ingestion 1 is not what was accepted",
        ),
        ("DELETE FROM ids WHERE seq = 3", "is damaged: ingestion 3 is not what was accepted"),
        ("UPDATE ingestions SET started = 9 WHERE seq = 1", "is damaged: ingestion 1 cannot have started 9 batches"),
        ("DROP TABLE waiting", "is damaged: "),
    ],
)
def test_damaged_file_of_version_1_is_refused_and_left_as_it_is(path: Path, damage: str, reason: str) -> None:
    database = version_1(path)
    database.execute(damage)
    database.close()
    before = path.read_bytes()

    with pytest.raises(JournalRefusedError) as refusal:
        FileJournal(path, SteppedClock())
    complaint = str(refusal.value)
    del refusal
    gc.collect()

    assert complaint.startswith(f"{path} {reason}")
    assert version_of(path) == 1
    assert path.read_bytes() == before
