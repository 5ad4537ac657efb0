"""FileJournal: files that are refused, in use or damaged."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.events import Finished, Held, Outcome, Started
from sluice.journal import JournalRefusedError
from sluice.lane import Lane
from sluice.pace import Pace
from tests.sqlite import INTERVAL, FileJournal, Run, SteppedClock, accepted, saved_ids
from tests.virtual import EPOCH


def ours(path: Path, run: Run) -> None:
    """Make a sound file with an ingestion whose IDs take several pages."""
    journal = FileJournal(path, SteppedClock())
    job = accepted(0, 3000)
    done = tuple(Outcome(position, 1, data=b'"done"') for position in range(3))
    start, finish = Started(job.ingestion_id, (0, 1, 2), 1000.0), Finished(job.ingestion_id, done, 1001.0, EPOCH)
    run(journal.append([job, start, finish, Held(1021.0, "answered 429"), accepted(1)]))
    run(journal.close())


def execute(statements: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.executescript(statements)
        connection.close()

    return act


def overwrite(content: bytes) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.write_bytes(content)

    return act


def cut(share: float) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return act


def replaced(by: Callable[[Path], None]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.unlink()
        by(path)

    return act


FOREIGN = "is the database of something else; name another file"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (replaced(execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")), FOREIGN),
        (replaced(execute("PRAGMA journal_mode = WAL; CREATE TABLE theirs (x)")), FOREIGN),
        (execute("PRAGMA application_id = 1"), FOREIGN),
        (execute("PRAGMA user_version = 99"), "was written by a newer Sluice (schema 99, this one knows 3)"),
        (overwrite(b"nothing that SQLite wrote" * 100), "is damaged: file is not a database"),
        (overwrite(b"SQLite format 3\0"), "is damaged: file is not a database"),
        (cut(0.0001), "is damaged: file is not a database"),
        (cut(0.3), "is damaged: "),
        (cut(0.9), "is damaged: "),
        (execute("UPDATE ids SET ids = zeroblob(length(ids)) WHERE seq = 0"), "is damaged: ingestion 0 is not what"),
        (execute("UPDATE ids SET ids = x'0700' WHERE seq = 1"), "is damaged: ingestion 1 is not what was accepted"),
        (execute("UPDATE ingestions SET created_time = 1 WHERE seq = 1"), "is damaged: ingestion 1 is not what"),
        (execute("DELETE FROM ids WHERE seq = 1"), "is damaged: ingestion 1 is not what was accepted"),
    ],
)
def test_file_that_cannot_be_used_is_refused_by_name_and_left_as_it_is(
    path: Path, run: Run, spoil: Callable[[Path], None], reason: str
) -> None:
    ours(path, run)
    spoil(path)
    before = path.read_bytes()

    with pytest.raises(JournalRefusedError) as refusal:
        FileJournal(path, SteppedClock(origin="another boot"))
    complaint = str(refusal.value)
    del refusal
    gc.collect()

    assert complaint.startswith(f"{path} {reason}")
    assert "\n" not in complaint
    assert path.read_bytes() == before


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalRefusedError, match="is a folder"):
        FileJournal(tmp_path, SteppedClock())


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalRefusedError, match="cannot be opened: is its folder there"):
        FileJournal(tmp_path / "missing" / "sluice.db", SteppedClock())


def test_empty_file_is_taken(path: Path, run: Run) -> None:
    path.touch()
    ours(path, run)

    assert len(saved_ids(path, run)) == 2


OPEN = """
import sys
from pathlib import Path
from sluice.clock import SystemClock
from sluice.journal.sqlite import SqliteFile
SqliteFile(Path(sys.argv[1]), SystemClock())
"""


def open_elsewhere(path: Path) -> str:
    """Return what another process says that tries to open the file."""
    command = [sys.executable, "-c", OPEN, str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr


def test_file_in_use_is_refused_to_other_processes(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)

    meanwhile = open_elsewhere(path)
    run(journal.append([accepted(0)]))
    run(journal.close())
    afterwards = open_elsewhere(path)

    assert meanwhile.endswith(f"JournalRefusedError: {path} is in use by another process\n")
    assert not afterwards


def test_file_in_use_is_refused_to_the_same_process_and_stays_locked(path: Path, clock: SteppedClock, run: Run) -> None:
    journal = FileJournal(path, clock)

    with pytest.raises(JournalRefusedError, match="in use by another process"):
        FileJournal(path, clock)

    assert open_elsewhere(path).endswith("is in use by another process\n")
    run(journal.close())


class Sound(NamedTuple):
    """A sound file's content, and where it is not empty."""

    content: bytes
    used: list[int]

    def __repr__(self) -> str:
        return "a sound file"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    path = tmp_path_factory.mktemp("sound") / "sluice.db"
    with asyncio.Runner() as runner:
        ours(path, runner.run)
    content = path.read_bytes()
    return Sound(content, [place for place, byte in enumerate(content) if byte])


def accepted_in(content: bytes) -> list[tuple[str, Sequence[int]]]:
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        path = Path(folder) / "sluice.db"
        path.write_bytes(content)
        journal = FileJournal(path, SteppedClock())
        lane = Lane(journal, Pace(INTERVAL), batch_size=3)
        runner.run(journal.close())
        return [(ingestion_id, job.ids) for ingestion_id, job in lane.ingestions.items()]


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_flipped_bit_is_refused_or_leaves_every_accepted_id_as_it_was(sound: Sound, where: float, bit: int) -> None:
    flipped = bytearray(sound.content)
    flipped[sound.used[int(where * len(sound.used))]] ^= 1 << bit
    expected = accepted_in(sound.content)

    try:
        actual = accepted_in(bytes(flipped))
    except JournalRefusedError:
        actual = expected

    assert actual == expected
