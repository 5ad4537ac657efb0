"""The durable journal: one SQLite file, one process, one thread; appends that wait share a commit."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from sluice.clock import Clock
from sluice.events import Event
from sluice.journal import JournalError, JournalRefusedError, Result, Saved, sqlite_schema
from sluice.journal.sqlite_load import AcceptedRow, load, read_accepted
from sluice.journal.sqlite_tables import Tables

PRIMARY = 0xFF  # of an extended error code, https://www.sqlite.org/rescode.html
CROWD, GATHERING = 2, 0.001  # after more than so many appends in a commit, seconds in which more come together
WAL_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


class SqliteFile:
    """Keeps the state of lanes in a file, up to date with every event.

    WAL mode and `synchronous=FULL`: what was appended survives a power cut. The
    file is locked for as long as it is open. Monotonic times are stored as they
    are, with what they count from: a process that counts from something else (the
    machine was started anew) takes it that no time passed since the last record, so
    that no jump of the wall clock can make a start early.
    """

    def __init__(self, path: Path, clock: Clock, send_limits: Mapping[str, float] = {}) -> None:
        """Open and lock the file, making it if need be; raise `JournalRefusedError` if it cannot be used.

        `send_limits` are the seconds after a recorded start in which its call can have been sent, by lane.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self.trouble: str | None = None  # why the last commit failed, if it did
        self._appends: list[_Append] = []
        self._writer: asyncio.Task[None] | None = None
        try:
            stamp = _stamp(path)
            accepted = _look(path)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("BEGIN EXCLUSIVE")
            self._database.execute("COMMIT")  # the lock stays
            if accepted is not None and _stamp(path) != stamp:
                raise JournalRefusedError("is in use by another process")
            sqlite_schema.migrate(self._database)
            (mode,) = self._database.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise JournalRefusedError("cannot be kept in WAL mode: is it on a disk of this machine?")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
            self.tables = Tables(self._database)
            self._database.execute("BEGIN EXCLUSIVE")
            if accepted is None:
                accepted = read_accepted(self._database)
            self._saved = load(self._database, accepted, clock, send_limits)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalRefusedError(f"{path} {_reason(error)}") from error
        except JournalRefusedError as error:
            raise JournalRefusedError(f"{path} {error}") from error
        except (ValueError, IndexError) as error:  # text that is none, a priority that does not exist
            raise JournalRefusedError(f"{path} is damaged: {error}") from error

    @property
    def left(self) -> set[str]:
        """The lanes that the file held when it was opened and that have not been taken up."""
        return {name for name, saved in self._saved.items() if saved.ingestions}

    def journal(self, lane: str) -> "SqliteJournal":
        """Take up a lane."""
        self.tables.add_lane(lane)
        return SqliteJournal(self, lane, self._saved.pop(lane, Saved()))

    async def append(self, lane: str, propose: Callable[[], Sequence[Event]], apply: Callable[[Event], None]) -> None:
        """Commit the events, all or none, then apply each; appends that wait for a commit share the next.

        What they are is asked when all that was committed before has been applied.
        """
        done = asyncio.get_running_loop().create_future()
        self._appends.append(_Append(lane, propose, apply, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="journal")
        await done

    async def in_thread(self, act: Callable[..., T], *arguments: object) -> T:
        """Do something with the database, in order with everything else; raise `JournalError` if it fails."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)
        except sqlite3.Error as error:
            raise JournalError(f"the journal {_reason(error)}") from error

    async def probe(self) -> None:
        """Find out, by writing something, whether what was the trouble is over."""
        if self.trouble is None:
            return
        try:
            await self.in_thread(self._try)
        except JournalError as error:
            self.trouble = str(error)
        else:
            self.trouble = None

    async def close(self) -> None:
        """Finish what was appended and close the file."""
        while self._writer is not None:
            await self._writer
        self._thread.shutdown()
        self._database.close()

    async def _write_all(self) -> None:
        while self._appends:
            appends, self._appends = self._appends, []
            group = [(append, events) for append in appends if (events := self._ask(append))]
            if group:
                await self._write(group)
            if len(group) > CROWD:
                await asyncio.sleep(GATHERING)
        self._writer = None

    async def _write(self, group: "Sequence[tuple[_Append, Sequence[Event]]]") -> None:
        failure: Exception | None = None
        try:
            await self.in_thread(self._commit, [(append.lane, event) for append, events in group for event in events])
        except Exception as error:  # noqa: BLE001 - it is raised where the appends were called; others go on
            failure = error
        self.trouble = str(failure) if isinstance(failure, JournalError) else None
        for append, events in group:
            self._settle(append, events, failure)

    def _ask(self, append: "_Append") -> Sequence[Event]:
        """Return what is to be committed; if it is nothing, let who waits for it know."""
        events: Sequence[Event] = ()
        failure: Exception | None = None
        try:
            events = append.propose()
        except Exception as error:  # noqa: BLE001 - it is raised where the append was called; others go on
            failure = error
        if not events:
            self._settle(append, (), failure)
        return events

    def _settle(self, append: "_Append", events: Sequence[Event], failure: Exception | None) -> None:
        """Apply what was committed, and let who waits for it know."""
        try:
            for event in events if failure is None else ():
                append.apply(event)
        except Exception as bug:  # noqa: BLE001 - it is raised where the append was called; others go on
            failure = bug
        if append.done.cancelled():
            return
        if failure is None:
            append.done.set_result(None)
        else:
            append.done.set_exception(failure)

    def _commit(self, events: Sequence[tuple[str, Event]]) -> None:
        with self._transaction():
            self.tables.write(events)

    def sweep(self) -> bool:
        """Remove a little of what expired ingestions left; return whether there was any."""
        with self._transaction():
            return self.tables.sweep()

    def _try(self) -> None:
        with self._transaction():
            # It takes up room in the file, and gives it back.
            self._database.execute("CREATE TABLE probe (data)")
            self._database.execute("INSERT INTO probe VALUES (zeroblob(65536))")
            self._database.execute("DROP TABLE probe")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


class SqliteJournal:
    """The journal of one lane in a file."""

    def __init__(self, file: SqliteFile, lane: str, saved: Saved) -> None:
        self._file = file
        self._lane = lane
        self._saved = saved
        self._apply: Callable[[Event], None]

    def attach(self, apply: Callable[[Event], None], restore: Callable[[Saved], None]) -> None:
        """Take what applies an event to the state; only this process changes it, so nothing is ever restored."""
        self._apply = apply

    def replay(self) -> Saved:
        """Return the state that the file held when it was opened, in terms of this process's clocks."""
        saved, self._saved = self._saved, Saved()  # not to be kept for as long as the process lives
        return saved

    async def append(self, events: Sequence[Event]) -> None:
        """Commit the events, all or none, then apply each; appends that wait for a commit share the next."""
        await self._file.append(self._lane, lambda: events, self._apply)

    async def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Append what `propose` makes of the state: only this process appends, and it decides one thing at a time."""
        await self._file.append(self._lane, propose, self._apply)

    async def catch_up(self) -> None:
        """Return at once: nobody else appends."""

    async def results(self, ingestion_id: str, start: int, end: int) -> list[Result]:
        """Return results of the positions from `start` to before `end`, in order: the first `PAGE_BYTES` or so."""
        return await self._file.in_thread(self._file.tables.results, ingestion_id, start, end)

    async def sweep(self) -> bool:
        """Remove a little of what expired ingestions left, of any lane; return whether there is more."""
        return await self._file.in_thread(self._file.sweep)


class _Append(NamedTuple):
    """Events of a lane that wait for a commit, as what will say what they are."""

    lane: str
    propose: Callable[[], Sequence[Event]]
    apply: Callable[[Event], None]
    done: asyncio.Future[None]


def _look(path: Path) -> list[AcceptedRow] | None:
    """Return what was accepted into a file, without touching it, or None if it has to be made or mended first.

    Before it is opened to write, for then even closing it would change it.
    """
    shared_index = Path(f"{path}-shm")
    had_index = shared_index.exists()
    try:
        if (connection := sqlite_schema.open_to_read(path)) is None:
            return None
        with closing(connection):
            return read_accepted(connection)
    finally:
        if not had_index:
            shared_index.unlink(missing_ok=True)  # what reading after a crash leaves behind


def _stamp(path: Path) -> list[tuple[int, int]]:
    """Return what changes with every change of a file, or of what SQLite keeps beside it until it is in there."""
    stats = [each.stat() for each in (path, Path(f"{path}-wal")) if each.exists()]
    return [(each.st_size, each.st_mtime_ns) for each in stats if each.st_size]


def _reason(error: sqlite3.Error) -> str:
    text = " ".join(str(error).split())
    match getattr(error, "sqlite_errorcode", 0) & PRIMARY:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "is in use by another process"
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return f"is damaged: {text}"
        case sqlite3.SQLITE_READONLY:
            return "cannot be written: it is read-only"
        case sqlite3.SQLITE_CANTOPEN:
            return "cannot be opened: is its folder there, and may it be written?"
        case _:
            return f"cannot be written: {text}"
