"""What each event does to the tables of the SQLite file, and how a lane is read back from them."""

import json
import sqlite3
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sluice.clock import Clock
from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Idempotency,
    Interrupted,
    KeysExpired,
    Outcome,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.ingestion import INTERRUPTED, Trouble
from sluice.journal import JournalRefusedError, Result, Saved, SavedIngestion, SavedKey, page
from sluice.models import DEFAULT_LANE, Priority

SWEEP = 1000  # rows, or PAGE_BYTES of them
EXPIRED = 50  # ingestions, or PAGE_BYTES of their IDs
# The lane, what was accepted, the cursor, `is_cancelled`, `gives_up` and the time of the last change.
AcceptedRow = tuple[str, Accepted, int, int, int, float]
NOTE_CLOCK = "UPDATE machine SET clock = max(clock, ?)"
NOTHING_RUNS = "running_seq = NULL, running_positions = NULL, running_also = NULL"
RUNNING = """
    SELECT name, running_seq AS seq, running_positions AS positions FROM lanes WHERE running_seq IS NOT NULL
    UNION ALL
    SELECT name, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM lanes, json_each(running_also)
"""
INTERRUPT = f"INSERT INTO waiting SELECT seq, value, ?1, 0, ?2 FROM ({RUNNING}), json_each(positions) WHERE true"
RETRY = "ON CONFLICT DO UPDATE SET retry_at = excluded.retry_at"
SEQ = "(SELECT seq FROM ingestions WHERE ingestion_id = ?)"


class Tables:
    """The tables of an open file, as `schema` makes them. Begins and commits nothing itself."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def write(self, lane: str, event: Event) -> None:  # noqa: PLR0912 - one case an event
        """Do what an event says."""
        execute = self._database.execute
        match event:
            case Accepted():
                ids = event.ids.tobytes()
                execute(
                    "INSERT INTO ingestions (seq, ingestion_id, priority, created_time, batch_size, checksum,"
                    " changed_time, lane, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        event.seq,
                        event.ingestion_id,
                        int(event.priority),
                        event.created_time,
                        event.batch_size,
                        _checksum(lane, event, ids),
                        event.created_time,
                        lane,
                        event.owner,
                    ),
                )
                execute("INSERT INTO ids VALUES (?, ?)", (event.seq, ids))
                if event.idempotency:
                    row = (*event.idempotency, event.ingestion_id, event.created_time, lane)
                    execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", row)
            case Started():
                execute(NOTE_CLOCK, (event.at,))
                for ingestion_id, positions in event.parts:
                    execute(
                        "UPDATE ingestions SET started = MAX(started, ? / batch_size + 1) WHERE ingestion_id = ?",
                        (positions[-1], ingestion_id),
                    )
                execute(
                    f"UPDATE lanes SET last_start = ?, running_seq = {SEQ}, running_positions = ?, running_also = ?"
                    " WHERE name = ?",
                    (event.at, event.ingestion_id, json.dumps(event.positions), self._also(event), lane),
                )
            case Finished():
                execute(NOTE_CLOCK, (event.at,))
                execute(
                    f"UPDATE lanes SET {NOTHING_RUNS}, last_start = max(last_start, ifnull(?, last_start))"
                    " WHERE name = ?",
                    (event.sent, lane),
                )
                for part in event.parts:
                    self._write_outcomes(*part, event.time)
            case Interrupted():
                execute(NOTE_CLOCK, (event.at,))
                execute(INTERRUPT + " AND name = ?3 " + RETRY, (event.at, INTERRUPTED, lane))
                execute(f"UPDATE lanes SET {NOTHING_RUNS} WHERE name = ?", (lane,))
            case Held():
                execute("UPDATE lanes SET held_until = ?, held_reason = ? WHERE name = ?", (*event, lane))
            case Paused():
                execute("UPDATE lanes SET paused_time = ?, paused_reason = ? WHERE name = ?", (*event, lane))
            case Resumed():
                execute("UPDATE lanes SET paused_time = NULL, paused_reason = NULL WHERE name = ?", (lane,))
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
                execute("DELETE FROM keys WHERE created_time <= ? AND lane = ?", (*event, lane))

    def _also(self, event: Started) -> str | None:
        """Return what shares a slot as the lane's row has it."""
        if not event.also:
            return None
        select = f"SELECT {SEQ}"
        return json.dumps(
            [[*self._database.execute(select, part[:1]).fetchone(), part.positions] for part in event.also]
        )

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
        """Remove a little of what expired ingestions left; return whether there was any."""
        execute = self._database.execute
        # Several at a time: to the loop, which has its turn with the thread after each statement, these are few.
        left = execute(
            f"SELECT seq, ifnull(length(ids), 0) FROM expired LEFT JOIN ids USING (seq) ORDER BY seq LIMIT {EXPIRED}"
        ).fetchall()
        if not left:
            return False
        last, _ = page(left, lambda size: int(size[1]))[-1]
        sizes = execute(
            "SELECT seq, position, ifnull(length(data), 0) FROM expired CROSS JOIN results USING (seq)"
            f" WHERE seq <= ? ORDER BY seq, position LIMIT {SWEEP}",
            (last,),
        ).fetchall()
        if some := page(sizes, lambda size: int(size[2])):
            seq, position, _ = some[-1]
            execute("DELETE FROM results WHERE seq IN (SELECT seq FROM expired WHERE seq < ?)", (seq,))
            execute("DELETE FROM results WHERE seq = ? AND position <= ?", (seq, position))
            return True
        for table in ("waiting", "ids", "expired"):
            execute(f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM expired WHERE seq <= ?)", (last,))
        return True

    def load(self, accepted: Sequence[AcceptedRow], clock: Clock, send_limits: Mapping[str, float]) -> dict[str, Saved]:
        """Return the lanes that were saved, in terms of `clock`; raise `JournalRefusedError` if one is damaged.

        What was in flight goes back among what waits; it counts as started as late as its
        call can have been sent, by `send_limits`. `accepted` is what `accepted()` returned.
        """
        sizes = {each.seq: len(each.ids) for _, each, *_ in accepted}
        lanes = self._take_over(clock, send_limits)
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
        ingestions: defaultdict[str, list[SavedIngestion]] = defaultdict(list)
        for name, each, started, is_cancelled, gives_up, changed_time in accepted:
            saved = SavedIngestion(
                each,
                started,
                bool(is_cancelled),
                bool(gives_up),
                waiting.get(each.seq, ()),
                failed.get(each.seq, ()),
                changed_time,
            )
            ingestions[name].append(saved)
        keys: defaultdict[str, list[SavedKey]] = defaultdict(list)
        for key, digest, ingestion_id, created_time, name in self._database.execute(
            "SELECT * FROM keys ORDER BY created_time"
        ):
            keys[name].append(SavedKey(Idempotency(key, digest), ingestion_id, created_time))
        if strangers := (ingestions.keys() | keys.keys()) - lanes.keys():
            raise JournalRefusedError(f"is damaged: there is no lane {min(strangers)!r}")
        return {
            name: Saved(
                ingestions[name],
                keys[name],
                last_start=lane["last_start"],
                held=None if lane["held_until"] is None else Held(lane["held_until"], lane["held_reason"]),
                paused=None if lane["paused_time"] is None else Paused(lane["paused_time"], lane["paused_reason"]),
                next_seq=next_seq,
            )
            for name, lane in lanes.items()
        }

    def add_lane(self, name: str) -> None:
        """Make room for a lane, if there is none yet."""
        self._database.execute("INSERT OR IGNORE INTO lanes (name) VALUES (?)", (name,))

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
            lane,
            owner,
            blob,
        ) in self._database.execute(
            "SELECT ingestions.*, ids.ids FROM ingestions LEFT JOIN ids USING (seq) ORDER BY seq"
        ):
            ids = array("I")
            accepted = Accepted(ingestion_id, Priority(priority), created_time, seq, batch_size, ids, None, owner)
            if blob is None or checksum != _checksum(lane, accepted, blob):
                raise JournalRefusedError(f"is damaged: ingestion {seq} is not what was accepted")
            ids.frombytes(blob)
            if not 0 <= started <= -(-len(ids) // batch_size):
                raise JournalRefusedError(f"is damaged: ingestion {seq} cannot have started {started} batches")
            yield lane, accepted, started, is_cancelled, gives_up, changed_time

    def _take_over(self, clock: Clock, send_limits: Mapping[str, float]) -> dict[str, sqlite3.Row]:
        """Put the file in terms of this process's clock, and what was in flight back among what waits."""
        execute, now, origin = self._database.execute, clock.now(), clock.origin
        execute("INSERT OR IGNORE INTO machine VALUES (1, ?, ?)", (origin, now))
        then_origin, then = execute("SELECT origin, clock FROM machine").fetchone()
        shift = 0.0 if then_origin == origin and then <= now else now - then
        execute("UPDATE machine SET origin = ?, clock = ?", (origin, then + shift))
        execute("UPDATE lanes SET last_start = last_start + ?1, held_until = held_until + ?1", (shift,))
        execute("UPDATE waiting SET retry_at = retry_at + ?", (shift,))
        for name, seconds in send_limits.items():
            execute(
                "UPDATE lanes SET last_start = min(last_start + ?, ?) WHERE name = ? AND running_seq IS NOT NULL",
                (seconds, now, name),
            )
        execute(f"{INTERRUPT} {RETRY}", (then + shift, INTERRUPTED))
        execute(f"UPDATE lanes SET {NOTHING_RUNS}")
        cursor = self._database.cursor()
        cursor.row_factory = sqlite3.Row
        return {row["name"]: row for row in cursor.execute("SELECT * FROM lanes")}


def _checksum(lane: str, accepted: Accepted, ids: bytes) -> int:
    # Files from before there were lanes, or owners, have none in it.
    lane_text = "" if lane == DEFAULT_LANE else f" {lane}"
    owner_text = f" of {accepted.owner}" if accepted.owner else ""
    text = f"{accepted.ingestion_id} {accepted.created_time!r} {accepted.batch_size}{lane_text}{owner_text}"
    return zlib.crc32(ids, zlib.crc32(text.encode()))


def _check_position(sizes: dict[int, int], seq: int, position: int) -> None:
    """Raise `JournalRefusedError` if an ingestion that is still there has no such position."""
    if seq in sizes and not 0 <= position < sizes[seq]:
        raise JournalRefusedError(f"is damaged: ingestion {seq} has no ID {position}")
