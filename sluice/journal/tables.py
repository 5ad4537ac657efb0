"""What each event does to the tables of the SQLite file, and how a lane is read back from them."""

import json
import sqlite3
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sluice.clock import Clock
from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Idempotency,
    KeysExpired,
    Outcome,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.ingestion import Trouble
from sluice.journal import JournalRefusedError, Result, Saved, SavedIngestion, SavedKey, page
from sluice.models import Priority

INTERRUPTED = "interrupted by a restart"
SWEEP = 1000  # rows, or PAGE_BYTES of them
# What was accepted, the cursor, `is_cancelled`, `gives_up` and the time of the last change.
AcceptedRow = tuple[Accepted, int, int, int, float]
SEQ = "(SELECT seq FROM ingestions WHERE ingestion_id = ?)"


class Tables:
    """The tables of an open file, as `schema` makes them. Begins and commits nothing itself."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def write(self, event: Event) -> None:
        """Do what an event says."""
        execute = self._database.execute
        match event:
            case Accepted():
                ids = event.ids.tobytes()
                execute(
                    "INSERT INTO ingestions (seq, ingestion_id, priority, created_time, batch_size, checksum,"
                    " changed_time) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        event.seq,
                        event.ingestion_id,
                        int(event.priority),
                        event.created_time,
                        event.batch_size,
                        _checksum(event.ingestion_id, event.created_time, event.batch_size, ids),
                        event.created_time,
                    ),
                )
                execute("INSERT INTO ids VALUES (?, ?)", (event.seq, ids))
                if event.idempotency:
                    row = (*event.idempotency, event.ingestion_id, event.created_time)
                    execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", row)
            case Started():
                execute(
                    f"UPDATE lane SET clock = ?, last_start = ?, running_seq = {SEQ}, running_positions = ?",
                    (event.at, event.at, event.ingestion_id, json.dumps(event.positions)),
                )
                execute(
                    "UPDATE ingestions SET started = MAX(started, ? / batch_size + 1) WHERE ingestion_id = ?",
                    (event.positions[-1], event.ingestion_id),
                )
            case Finished():
                execute("UPDATE lane SET clock = ?, running_seq = NULL, running_positions = NULL", (event.at,))
                self._write_outcomes(event.ingestion_id, event.outcomes, event.time)
            case Held():
                execute("UPDATE lane SET held_until = ?, held_reason = ?", event)
            case Paused():
                execute("UPDATE lane SET paused_time = ?, paused_reason = ?", event)
            case Resumed():
                execute("UPDATE lane SET paused_time = NULL, paused_reason = NULL")
            case Cancelled():
                execute(
                    "UPDATE ingestions SET is_cancelled = 1, gives_up = 1 WHERE ingestion_id = ?", (event.ingestion_id,)
                )
                self._write_outcomes(event.ingestion_id, event.failed, event.time)
            case Reprioritised():
                execute(
                    "UPDATE ingestions SET priority = ? WHERE ingestion_id = ?",
                    (int(event.priority), event.ingestion_id),
                )
            case Revived():
                execute("UPDATE ingestions SET gives_up = 0 WHERE ingestion_id = ?", (event.ingestion_id,))
                execute(
                    "INSERT INTO waiting SELECT seq, position, 0.0, 0, error FROM results"
                    f" WHERE seq = {SEQ} AND error IS NOT NULL",
                    (event.ingestion_id,),
                )
                execute(f"DELETE FROM results WHERE seq = {SEQ} AND error IS NOT NULL", (event.ingestion_id,))
            case Expired():
                execute(f"INSERT INTO expired VALUES ({SEQ})", (event.ingestion_id,))
                execute("DELETE FROM ingestions WHERE ingestion_id = ?", (event.ingestion_id,))
            case KeysExpired():
                execute("DELETE FROM keys WHERE created_time <= ?", event)

    def _write_outcomes(self, ingestion_id: str, outcomes: Sequence[Outcome], time: float) -> None:
        (seq,) = self._database.execute(
            "UPDATE ingestions SET changed_time = ? WHERE ingestion_id = ? RETURNING seq", (time, ingestion_id)
        ).fetchone()
        for position, attempts, data, error, retry_at in outcomes:
            if retry_at is None:
                row: tuple[object, ...] = (seq, position, attempts, data, error, time)
                self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)", row)
                self._database.execute("DELETE FROM waiting WHERE seq = ? AND position = ?", (seq, position))
            else:
                row = (seq, position, retry_at, attempts, error)
                self._database.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?)", row)

    def results(self, ingestion_id: str, start: int, end: int) -> list[Result]:
        """Return results of the positions from `start` to before `end`, in order: the first `PAGE_BYTES` or so."""
        rows = self._database.execute(
            "SELECT position, attempts, data, error, finished_time FROM results"
            f" WHERE seq = {SEQ} AND position >= ? AND position < ? ORDER BY position",
            (ingestion_id, start, end),
        )
        return page((Result(*row) for row in rows), lambda result: result.size)

    def sweep(self) -> bool:
        """Remove a little of what an expired ingestion left; return whether there was any."""
        row = self._database.execute("SELECT seq FROM expired LIMIT 1").fetchone()
        if row is None:
            return False
        sizes = self._database.execute(
            f"SELECT position, ifnull(length(data), 0) FROM results WHERE seq = ? ORDER BY position LIMIT {SWEEP}", row
        ).fetchall()
        if some := page(sizes, lambda size: int(size[1])):
            last, _ = some[-1]
            self._database.execute("DELETE FROM results WHERE seq = ? AND position <= ?", (*row, last))
            return True
        self._database.execute("DELETE FROM waiting WHERE seq = ?", row)
        self._database.execute("DELETE FROM ids WHERE seq = ?", row)
        self._database.execute("DELETE FROM expired WHERE seq = ?", row)
        return True

    def load(self, accepted: Sequence[AcceptedRow], clock: Clock) -> Saved:
        """Return the lane that was saved, in terms of `clock`; raise `JournalRefusedError` if it is damaged.

        What was in flight goes back among what waits. `accepted` is what `accepted()` returned.
        """
        sizes = {each.seq: len(each.ids) for each, *_ in accepted}
        lane = self._take_over(clock)
        waiting: defaultdict[int, list[tuple[int, float, Trouble]]] = defaultdict(list)
        for seq, position, retry_at, attempts, error in self._database.execute("SELECT * FROM waiting"):
            waiting[seq].append((position, retry_at, Trouble(attempts, error, is_final=False)))
            _check_position(sizes, seq, position)
        failed: defaultdict[int, list[tuple[int, Trouble]]] = defaultdict(list)
        for seq, position, attempts, error in self._database.execute(
            "SELECT seq, position, attempts, error FROM results WHERE error IS NOT NULL"
        ):
            failed[seq].append((position, Trouble(attempts, error, is_final=True)))
            _check_position(sizes, seq, position)
        (next_seq,) = self._database.execute(
            "SELECT 1 + MAX((SELECT ifnull(MAX(seq), -1) FROM ingestions), (SELECT ifnull(MAX(seq), -1) FROM expired))"
        ).fetchone()
        return Saved(
            [
                SavedIngestion(
                    each,
                    started,
                    bool(is_cancelled),
                    bool(gives_up),
                    waiting.get(each.seq, ()),
                    failed.get(each.seq, ()),
                    changed_time,
                )
                for each, started, is_cancelled, gives_up, changed_time in accepted
            ],
            [
                SavedKey(Idempotency(key, digest), ingestion_id, created_time)
                for key, digest, ingestion_id, created_time in self._database.execute(
                    "SELECT * FROM keys ORDER BY created_time"
                )
            ],
            last_start=lane["last_start"],
            held=None if lane["held_until"] is None else Held(lane["held_until"], lane["held_reason"]),
            paused=None if lane["paused_time"] is None else Paused(lane["paused_time"], lane["paused_reason"]),
            next_seq=next_seq,
        )

    def accepted(self) -> list[AcceptedRow]:
        """Return every ingestion and what its row says of it; raise `JournalRefusedError` if one is damaged."""
        return list(self._accepted())

    def _accepted(self) -> Iterator[AcceptedRow]:
        for (
            seq,
            ingestion_id,
            priority,
            created_time,
            batch_size,
            checksum,
            started,
            is_cancelled,
            gives_up,
            changed_time,
            blob,
        ) in self._database.execute(
            "SELECT ingestions.*, ids.ids FROM ingestions LEFT JOIN ids USING (seq) ORDER BY seq"
        ):
            if blob is None or checksum != _checksum(ingestion_id, created_time, batch_size, blob):
                raise JournalRefusedError(f"is damaged: ingestion {seq} is not what was accepted")
            ids = array("I")
            ids.frombytes(blob)
            accepted = Accepted(ingestion_id, Priority(priority), created_time, seq, batch_size, ids)
            if not 0 <= started <= -(-len(ids) // batch_size):
                raise JournalRefusedError(f"is damaged: ingestion {seq} cannot have started {started} batches")
            yield accepted, started, is_cancelled, gives_up, changed_time

    def _take_over(self, clock: Clock) -> sqlite3.Row:
        """Put the file in terms of this process's clock, and what was in flight back among what waits."""
        now, origin = clock.now(), clock.origin
        self._database.execute("INSERT OR IGNORE INTO lane (id, origin, clock) VALUES (1, ?, ?)", (origin, now))
        then = self._row("SELECT * FROM lane")
        shift = 0.0 if then["origin"] == origin and then["clock"] <= now else now - then["clock"]
        self._database.execute(
            "UPDATE lane SET origin = ?1, clock = clock + ?2, last_start = last_start + ?2,"
            " held_until = held_until + ?2",
            (origin, shift),
        )
        self._database.execute("UPDATE waiting SET retry_at = retry_at + ?", (shift,))
        self._database.execute(
            "INSERT INTO waiting SELECT running_seq, value, clock, 0, ? FROM lane, json_each(running_positions)"
            " WHERE true ON CONFLICT DO UPDATE SET retry_at = excluded.retry_at",
            (INTERRUPTED,),
        )
        self._database.execute("UPDATE lane SET running_seq = NULL, running_positions = NULL")
        return self._row("SELECT * FROM lane")

    def _row(self, query: str) -> sqlite3.Row:
        cursor = self._database.cursor()
        cursor.row_factory = sqlite3.Row
        row: sqlite3.Row = cursor.execute(query).fetchone()
        return row


def _checksum(ingestion_id: str, created_time: float, batch_size: int, ids: bytes) -> int:
    return zlib.crc32(ids, zlib.crc32(f"{ingestion_id} {created_time!r} {batch_size}".encode()))


def _check_position(sizes: dict[int, int], seq: int, position: int) -> None:
    """Raise `JournalRefusedError` if an ingestion that is still there has no such position."""
    if seq in sizes and not 0 <= position < sizes[seq]:
        raise JournalRefusedError(f"is damaged: ingestion {seq} has no ID {position}")
