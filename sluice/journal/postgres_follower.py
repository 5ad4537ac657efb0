"""How one process keeps up with a lane's journal in PostgreSQL: it applies every event once, in order."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, NoReturn, TypeVar

import psycopg

from sluice.events import Event
from sluice.journal import JournalError, Saved
from sluice.journal.postgres_database import Database, LostError
from sluice.journal.postgres_events import Row, decode
from sluice.journal.postgres_tables import HEADS, SWEEP, TAIL, TRIM, load

logger = logging.getLogger(__name__)

READ = 1000  # events at a time
TAIL_SECONDS = 60.0  # who lags more starts from the tables
POLL = 1.0  # seconds after which the journal is read though nobody said that there is something

Apply = Callable[[Event], None]
T = TypeVar("T")


class Follower:
    """Knows how far this process has come in a lane's journal, and reads on.

    What this process appends itself comes here as well: whoever of the two brings an
    event first has it applied, and the other's is passed over.
    """

    def __init__(self, database: Database, lane: str) -> None:
        self.applied = 0
        self.is_out_of_step = False
        self._database = database
        self._lane = lane
        self._apply: Apply = _apply_nothing
        self._restore: Callable[[Saved], None] = _apply_nothing
        self._behind = asyncio.Event()
        self._reading = asyncio.Lock()
        self._reads_begun = self._reads_done = 0
        self._trim_at = 0.0

    def replay(self) -> Saved:
        """Return the state as it is saved, to go on from; raise `JournalRefusedError` if it cannot be read.

        The ingestions are read while they are gone through.
        """
        with ExitStack() as stack:
            connection = stack.enter_context(self._database.snapshot())
            self.applied, saved = load(connection, self._lane, self._database.clock.offset)
            return saved._replace(ingestions=_in(stack.pop_all(), saved.ingestions))

    def attach(self, apply: Apply, restore: Callable[[Saved], None]) -> None:
        """Take what applies an event, and what goes on from a saved state instead."""
        self._apply, self._restore = apply, restore

    def wake(self) -> None:
        """Have the journal read soon: there is something new."""
        self._behind.set()

    async def follow(self) -> None:
        """Apply what others append, until cancelled; who lags too far behind goes on from what is saved."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._behind.wait()
            self._behind.clear()
            try:
                if self.is_out_of_step:
                    self._restore(self.replay())
                    self.is_out_of_step = False
                await self._catch_up()
                await self._trim()
            except JournalError as error:
                self._database.note_trouble(str(error))
                if isinstance(error, LostError):
                    # The other connections as well, as a rule; and everyone else is refused until a look succeeds.
                    await self._database.leave()
                    self._behind.set()
                await asyncio.sleep(POLL / 4)
            except Exception:  # a bug here must not leave the process behind for good
                logger.exception("lane %s: the journal could not be followed", self._lane)
                self.is_out_of_step = True
                await asyncio.sleep(POLL)

    async def catch_up(self) -> None:
        """Return when everything has been applied that anyone appended before; raise `JournalError` if impossible."""
        self._database.check()
        await self._catch_up()

    async def _catch_up(self) -> None:
        wanted = self._reads_begun
        async with self._reading:
            if self._reads_done > wanted:
                return  # it began after this call
            self._reads_begun += 1
            number = self._reads_begun
            while not await self._read():
                pass
            self._reads_done = number

    async def read_to(
        self, head: int, connection: psycopg.AsyncConnection[Any], pipeline: psycopg.AsyncPipeline
    ) -> None:
        """Apply everything up to `head`, which cannot move meanwhile; raise `JournalError` if that is impossible."""
        while self.applied < head and not self.is_out_of_step:
            before = self.applied
            tail = await connection.execute(TAIL, (self._lane, before, READ), binary=True)
            await pipeline.sync()
            self.take(self.events(await tail.fetchall()))
            if self.applied == before:
                self._fall_out_of_step()
        if self.applied > head or self.is_out_of_step:
            self._fall_out_of_step()

    def events(self, rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[int, Event]]:
        """Yield the positions and events of rows of the tail, in terms of this process's clocks."""
        offset = self._database.clock.offset
        return ((row[0], decode(Row(*row), offset)) for row in rows if row[0] > self.applied)

    def take(self, events: Iterable[tuple[int, Event]]) -> bool:
        """Apply those of the events that are next in order; return whether all of them are applied now."""
        for position, event in events:
            if position > self.applied + 1:
                return False
            if position == self.applied + 1:
                self.applied = position
                self._apply_surely(event)
        return True

    async def _read(self) -> bool:
        """Read a part of what is new; return whether that was all."""
        clock = self._database.clock
        async with self._database.connection(even_in_trouble=True) as connection:
            sent, before = clock.now(), self.applied
            async with connection.pipeline():
                tail = await connection.execute(TAIL, (self._lane, before, READ), binary=True)
                heads = await connection.execute(HEADS, (self._lane,))
                rows = await tail.fetchall()
                row = await heads.fetchone()
        if row is None:
            raise JournalError("the database has no such lane any more")
        head, trimmed, time, is_read_only = row
        clock.note(sent, time, clock.now())
        self.take(self.events(rows))
        if self.applied < trimmed or before > head:
            # What is missing is no longer kept; or this is not the database that it was.
            self._fall_out_of_step()
        self._database.note_trouble("it is a read-only replica" if is_read_only else None)
        if is_read_only:
            await self._database.leave()
        return self.applied >= head or not rows

    async def _trim(self) -> None:
        """Now and then, remove what is so old that whoever has not read it can as well start from the tables."""
        now = self._database.clock.now()
        while now >= self._trim_at:
            async with self._database.connection() as connection:
                cursor = await connection.execute(TRIM, {"lane": self._lane, "seconds": TAIL_SECONDS})
                row = await cursor.fetchone()
            if row is None or row[0] < SWEEP:
                self._trim_at = now + TAIL_SECONDS

    def _apply_surely(self, event: Event) -> None:
        try:
            self._apply(event)
        except Exception as bug:
            logger.exception("lane %s: an event could not be applied", self._lane)
            self._fall_out_of_step(bug)

    def _fall_out_of_step(self, cause: Exception | None = None) -> NoReturn:
        """Have the state read anew, and meanwhile decide nothing by it."""
        self.is_out_of_step = True
        self._behind.set()
        raise JournalError("this process fell behind the journal and reads it anew") from cause


def _in(stack: ExitStack, items: Iterable[T]) -> Iterator[T]:
    """Yield what can be read until a context is left, and leave it."""
    with stack:
        yield from items


def _apply_nothing(_: object) -> NoReturn:
    raise RuntimeError("a journal was read before there was anything to apply it to")
