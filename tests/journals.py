"""A journal of every kind, a book of what it had applied, and what its tables hold."""

import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from typing import Any
from uuid import uuid4

import psycopg

from sluice.clock import SystemClock
from sluice.events import Accepted, Event, Finished, Outcome, Started
from sluice.journal import Journal, Result
from sluice.journal.memory import MemoryJournal
from sluice.journal.postgres import PostgresJournal
from sluice.journal.postgres_database import Database
from sluice.models import DEFAULT_LANE, Priority
from sluice.settings import Settings
from tests.sqlite import FileJournal, Run, never_restored
from tests.virtual import EPOCH

DAY = 86_400.0


@contextmanager
def opened_journal(settings: Settings, run: Run) -> Iterator[Journal]:
    """Open the default lane's journal, which may dispatch the lane at once and with no pause from start to start."""
    if settings.database_url is None:
        yield MemoryJournal()
    elif settings.database_path:
        file = FileJournal(settings.database_path, SystemClock())
        yield file
        run(file.close())
    else:
        database = Database(settings.database_url, SystemClock(), pool_size=3, timeout=5.0)
        database.add_lanes([DEFAULT_LANE])
        shared = PostgresJournal(database, DEFAULT_LANE, interval=0.0, key_seconds=DAY)
        stack = AsyncExitStack()
        run(stack.enter_async_context(database.running(shared.follower.wake)))
        run(shared.take())
        yield shared
        run(stack.aclose())


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    """Return what is in the tables of a journal that has any; they are called the same everywhere."""
    assert settings.database_url
    if settings.database_path:
        with closing(sqlite3.connect(settings.database_path)) as file:
            return file.execute(query).fetchall()
    with psycopg.connect(settings.database_url, options="-c search_path=sluice") as connection:
        return connection.execute(query.encode()).fetchall()


class Book:
    """Appends to a new journal and notes what was applied."""

    def __init__(self, journal: Journal, run: Run) -> None:
        self.applied: list[Event] = []
        self._journal = journal
        self._run = run
        self._seq = 0
        journal.attach(self.applied.append, never_restored)

    def append(self, *events: Event) -> None:
        self._run(self._journal.append(events))

    def accepted(self, count: int) -> Accepted:
        self._seq += 1
        return Accepted(str(uuid4()), Priority.LOW, 1.0, self._seq, 3, array("I", range(1, count + 1)))

    def stamped(self, *events: Event) -> list[Event]:
        """Return events as they are applied if nothing was accepted before them.

        A shared journal says itself when, and as which of all, something was accepted.
        """
        if not isinstance(self._journal, PostgresJournal):
            return [*events]
        accepted = [event for event in events if isinstance(event, Accepted)]
        seqs = {event.ingestion_id: 1 + number for number, event in enumerate(accepted)}
        return [
            event._replace(created_time=EPOCH, seq=seqs[event.ingestion_id]) if isinstance(event, Accepted) else event
            for event in events
        ]

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
