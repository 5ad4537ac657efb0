"""The shared journal of one lane: every process appends to it and follows it, in one order, in PostgreSQL."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import psycopg

from sluice.events import Accepted, Event, Finished, Held, Interrupted, Started
from sluice.journal import EarlyError, JournalError, KeyTakenError, LeaseLostError, Result, Saved, page
from sluice.journal.postgres_database import Database, LostError
from sluice.journal.postgres_events import encode, shifted
from sluice.journal.postgres_follower import READ, Follower
from sluice.journal.postgres_tables import ACCEPT, APPEND, FORGET, LOCK, RESULTS, TAIL, TAKE, parts, statements

logger = logging.getLogger(__name__)

NOTIFY = "SELECT pg_notify('sluice', %s)"  # a lane's name and its head
AT_ONCE = 500  # ingestions a commit, at most
NOTIFY_PAUSE = 0.005  # seconds, in which what was appended shares one notification
CROWD, GATHERING = 2, 0.001  # after more than so many ingestions in a commit, seconds in which more come together
TRIES = 3
CLOCK_SET_BACK = 10.0  # seconds: a start recorded that far in the future tells of the clock, not of the pace
DISPATCH = Started | Finished | Interrupted | Held  # what only the dispatcher that has the lane may append


T = TypeVar("T")


class _Lane(NamedTuple):
    """The lane's row, as it is while this process holds it."""

    head: int
    epoch: int
    last_start: float | None
    running_id: str | None
    running_positions: list[int] | None
    running_also: list[tuple[str, list[int]]]
    time: float


class _Append(NamedTuple):
    """An ingestion that waits for a commit."""

    event: Accepted
    done: asyncio.Future[None]


class PostgresJournal:
    """One lane's journal in a database that other processes append to as well.

    Appends are ordered by the lane's row: who holds it has read everything before.
    So a decision sees all that it could be about, and a start by a dispatcher that
    lost the lane, or one that the database's clock finds early, is refused.
    """

    def __init__(self, database: Database, lane: str, interval: float, key_seconds: float) -> None:
        """Take the lane's interval, and for how long an idempotency key is another's, both in seconds."""
        self._database = database
        self._lane = lane
        self._interval = interval
        self._key_seconds = key_seconds
        self._epoch: int | None = None
        self.follower = Follower(database, lane)
        self._appends: list[_Append] = []
        self._writer: asyncio.Task[None] | None = None
        self._notifier: asyncio.Task[None] | None = None
        self._head = 0

    # What a lane asks

    def attach(self, apply: Callable[[Event], None], restore: Callable[[Saved], None]) -> None:
        """Take what applies an event to the state, and what goes on from a saved state instead."""
        self.follower.attach(apply, restore)

    def replay(self) -> Saved:
        """Return the state to start from; raise `JournalRefusedError` if the database cannot be read."""
        return self.follower.replay()

    async def append(self, events: Sequence[Event]) -> None:
        """Commit the events and apply them in the journal's order; ingestions that wait for a commit share the next."""
        accepted = [event for event in events if isinstance(event, Accepted)]
        if len(accepted) < len(events):
            await self.decide(lambda: events)
            return
        loop = asyncio.get_running_loop()
        appends = [_Append(event, loop.create_future()) for event in accepted]
        self._appends += appends
        if appends and self._writer is None:
            self._writer = asyncio.create_task(self._accept_all(), name="journal")
        for each in appends:
            await each.done

    async def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Append what `propose` makes of the state, while nobody else can append to the lane."""
        # It may have been committed though the connection broke: then `propose` will see it, and do what is left.
        await self._tried_again(lambda: self._decide(propose))

    async def catch_up(self) -> None:
        """Return when everything has been applied that anyone appended before."""
        await self.follower.catch_up()

    async def results(self, ingestion_id: str, start: int, end: int) -> list[Result]:
        """Return results of the positions from `start` to before `end`, in order: the first `PAGE_BYTES` or so."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(RESULTS, (ingestion_id, start, end), binary=True)
            return [Result(*row) for row in await cursor.fetchall()]

    async def sweep(self) -> bool:
        """Remove a little of what expired ingestions left; return whether there is more."""
        async with self._database.connection() as connection:
            forgotten = await connection.execute(FORGET, (self._lane,))
            return await forgotten.fetchone() is not None

    # What the process asks that this is the journal of

    async def take(self, send_limit: float = 0.0) -> float | None:
        """Become the one dispatcher of the lane: whoever was it before can append no start and no end any more.

        Return when the last start was, if there was one, in seconds on this machine's
        monotonic clock. What still runs counts as started `send_limit` seconds after its
        record, but not later than now.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(TAKE, (send_limit, self._lane))
            row = await cursor.fetchone()
        assert row is not None
        self._epoch, last_start = row
        await self.catch_up()
        return None if last_start is None else float(last_start) - self._database.clock.offset

    # Appending

    async def _decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        async with (
            self._database.connection() as connection,
            connection.pipeline() as pipeline,
            connection.transaction(),
        ):
            lane = await self._hold(connection, pipeline)
            events = propose()
            if not events:
                raise psycopg.Rollback
            offset = self._database.clock.offset
            recorded = [self._check(lane, shifted(event, offset)) for event in events]
            kinds, bodies = zip(*(encode(event) for event in recorded), strict=True)
            entry = {"lane": self._lane, "head": lane.head, "count": len(events)}
            writes = [write for event in recorded for write in statements(self._lane, event)]
            # One right after the other: who freezes in between keeps the row until he goes on or is gone.
            for statement, parameters in writes:
                await connection.execute(statement, parameters)
            await connection.execute(APPEND, {**entry, "kinds": [*kinds], "bodies": [*bodies]})
        if events:
            self.follower.take(enumerate(events, lane.head + 1))
            self._notify(lane.head + len(events))

    async def _hold(self, connection: psycopg.AsyncConnection[Any], pipeline: psycopg.AsyncPipeline) -> _Lane:
        """Lock the lane's row and apply everything that was appended before."""
        lock = await connection.execute(LOCK, (self._lane,))
        tail = await connection.execute(TAIL, (self._lane, self.follower.applied, READ), binary=True)
        # The server counts the time that it hears nothing, and then lets go of the row, only after a sync.
        await pipeline.sync()
        row = await lock.fetchone()
        if row is None:
            raise JournalError("the database has no such lane any more")
        lane = _Lane(*row)
        self.follower.take(self.follower.events(await tail.fetchall()))
        await self.follower.read_to(lane.head, connection, pipeline)
        return lane

    def _check(self, lane: _Lane, event: Event) -> Event:
        """Return an event as it is to be recorded; raise `LeaseLostError` or `EarlyError` if it must not be."""
        if isinstance(event, DISPATCH) and lane.epoch != self._epoch:
            raise LeaseLostError(f"lane {self._lane} is another process's")
        if not isinstance(event, Started):
            return event
        if running := parts(lane.running_id, lane.running_positions, lane.running_also):
            if event.parts != running:
                raise JournalError("another batch runs")
        elif lane.last_start is not None:
            early = lane.last_start + self._interval - lane.time
            if 0 < early <= self._interval + CLOCK_SET_BACK:
                raise EarlyError(early)
        # By the database's clock, which the next dispatcher's start is compared with.
        return event._replace(at=max(event.at, lane.time))

    async def _tried_again(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do something that does nothing twice, again if the connection breaks in the middle of it."""
        for _ in range(TRIES - 1):
            try:
                return await act()
            except LostError:
                continue
        return await act()

    async def _accept_all(self) -> None:
        while self._appends:
            group = page(self._appends[:AT_ONCE], lambda each: 4 * len(each.event.ids))
            del self._appends[: len(group)]
            failure: BaseException | None = None
            accepted: dict[int, tuple[int | None, Accepted]] = {}
            try:
                accepted = await self._tried_again(partial(self._accept, group))
                await self._apply_accepted([(at, event) for at, event in accepted.values() if at is not None])
            except Exception as error:  # noqa: BLE001 - it is raised where the appends were called; others go on
                failure = error
            for number, append in enumerate(group):
                if append.done.cancelled():
                    continue
                if failure is not None:
                    append.done.set_exception(failure)
                elif number in accepted:
                    append.done.set_result(None)
                else:
                    append.done.set_exception(KeyTakenError("the idempotency key is taken"))
            if accepted:
                self._notify(max(at or 0 for at, _ in accepted.values()))
            if len(group) > CROWD:
                await asyncio.sleep(GATHERING)
        self._writer = None

    def _notify(self, head: int) -> None:
        """Tell the other processes what was appended, beside what is next: a batch's call must not wait for it."""
        self._head = max(self._head, head)
        if self._notifier is None or self._notifier.done():
            self._notifier = asyncio.create_task(self._notify_all(), name="notifier")

    async def _notify_all(self) -> None:
        told = 0
        while told < self._head:
            told = self._head
            with suppress(JournalError):  # who is not told looks by himself
                async with self._database.connection() as connection:
                    await connection.execute(NOTIFY, (f"{self._lane} {told}",))
            # Each is a commit of its own, and wakes up every process.
            await asyncio.sleep(NOTIFY_PAUSE)

    async def _apply_accepted(self, events: Sequence[tuple[int, Accepted]]) -> None:
        try:
            if events and self.follower.take(events):
                return
            # Others' events are in between. A key must be known when it is sent again; all else can be looked up.
            if any(event.idempotency for _, event in events) or not events:
                await self.catch_up()
            else:
                self.follower.wake()
        except JournalError as error:
            # They are committed all the same, and this process will hear of them.
            logger.warning("lane %s: what was accepted is not known here yet: %s", self._lane, error)

    async def _accept(self, group: Sequence[_Append]) -> dict[int, tuple[int | None, Accepted]]:
        """Commit ingestions; return which of them the keys let through, as what, and where if that is new."""
        events = [each.event for each in group]
        keys = [event.idempotency for event in events]
        wanted = {
            "lane": self._lane,
            "key_seconds": self._key_seconds,
            "ingestion_ids": [event.ingestion_id for event in events],
            "priorities": [int(event.priority) for event in events],
            "batch_sizes": [event.batch_size for event in events],
            "ids": [event.ids.tobytes() for event in events],
            "keys": [key and key.key for key in keys],
            "digests": [key and key.digest for key in keys],
            "owners": [event.owner for event in events],
        }
        async with self._database.connection() as connection:
            cursor = await connection.execute(ACCEPT, wanted)
            rows = await cursor.fetchall()
        return {
            number - 1: (position, events[number - 1]._replace(seq=seq, created_time=time))
            for number, position, seq, time in rows
        }
