"""Journals in a file, with a clock that stands still, for the tests of SqliteJournal."""

import shutil
from array import array
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from sluice.clock import Clock
from sluice.events import Accepted, Event
from sluice.journal import Saved
from sluice.journal.sqlite import SqliteFile, SqliteJournal
from sluice.models import DEFAULT_LANE, Priority
from tests.virtual import EPOCH

INTERVAL = 5.0

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class SteppedClock:
    """Stands still until it is set."""

    def __init__(self, at: float = 1000.0, origin: str = "boot 0") -> None:
        self.at = at
        self.origin = origin
        self.wall = EPOCH

    def now(self) -> float:
        return self.at

    def time(self) -> float:
        return self.wall

    async def sleep_until(self, at: float) -> None:
        raise NotImplementedError


class FileJournal(SqliteJournal):
    """The default lane of a file of its own. Until a lane is made of it, what it has to apply is just noted."""

    def __init__(self, path: Path, clock: Clock, send_limits: Mapping[str, float] = {}) -> None:
        self.file = SqliteFile(path, clock, send_limits)
        opened = self.file.journal(DEFAULT_LANE)
        super().__init__(self.file, DEFAULT_LANE, opened.replay())
        self.applied: list[Event] = []
        self.attach(self.applied.append, never_restored)

    async def close(self) -> None:
        await self.file.close()


def never_restored(saved: Saved) -> None:
    """Take a saved state from a journal that only this process appends to."""
    raise AssertionError("nobody else changed anything")


def crash(path: Path, to: Path) -> None:
    """Leave at `to` what a kill at this instant would leave at `path`."""
    shutil.copy(path, to)
    shutil.copy(f"{path}-wal", f"{to}-wal")


def accepted(seq: int, count: int = 3, ingestion_id: str | None = None) -> Accepted:
    ids = array("I", range(1, count + 1))
    return Accepted(ingestion_id or str(uuid4()), Priority.LOW, EPOCH, seq, 3, ids)


def saved_ids(path: Path, run: Run) -> list[str]:
    """Return which ingestions are in a file."""
    journal = FileJournal(path, SteppedClock())
    saved = journal.replay()
    run(journal.close())
    return [each.accepted.ingestion_id for each in saved.ingestions]
