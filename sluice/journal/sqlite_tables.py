"""What each event does to the tables of the SQLite file."""

import json
import sqlite3
import zlib
from collections.abc import Sequence
from itertools import chain, groupby

from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Interrupted,
    KeysExpired,
    Outcome,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.ingestion import INTERRUPTED
from sluice.journal import Result, page
from sluice.models import DEFAULT_LANE

ROWS = 16  # in a statement
SWEEP = 1000  # rows, or PAGE_BYTES of them
EXPIRED = 50  # ingestions, or PAGE_BYTES of their IDs
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

    def write(self, events: Sequence[tuple[str, Event]]) -> None:
        """Do what events of lanes say, one after another."""
        for kind, some in groupby(events, lambda each: type(each[1])):
            if kind is Accepted:
                self._accept([(lane, event) for lane, event in some if isinstance(event, Accepted)])
            elif kind is Expired:
                self._expire([event.ingestion_id for _, event in some if isinstance(event, Expired)])
            else:
                for lane, event in some:
                    self._write(lane, event)

    def _accept(self, acceptances: Sequence[tuple[str, Accepted]]) -> None:
        ingestions, ids, keys = [], [], []
        for lane, event in acceptances:
            blob = event.ids.tobytes()
            ingestions.append(
                (
                    event.seq,
                    event.ingestion_id,
                    int(event.priority),
                    event.created_time,
                    event.batch_size,
                    checksum(lane, event, blob),
                    event.created_time,
                    lane,
                    event.owner,
                )
            )
            ids.append((event.seq, blob))
            if event.idempotency:
                keys.append((*event.idempotency, event.ingestion_id, event.created_time, lane))
        self._insert(
            "INSERT INTO ingestions (seq, ingestion_id, priority, created_time, batch_size, checksum,"
            " changed_time, lane, owner)",
            ingestions,
        )
        self._insert("INSERT INTO ids", ids)
        self._insert("INSERT OR REPLACE INTO keys", keys)

    def _expire(self, ingestion_ids: Sequence[str]) -> None:
        these = "ingestion_id IN (SELECT value FROM json_each(?))"
        ids = (json.dumps(ingestion_ids),)
        self._database.execute(f"INSERT INTO expired SELECT seq FROM ingestions WHERE {these}", ids)
        self._database.execute(f"DELETE FROM ingestions WHERE {these}", ids)

    def _insert(self, into: str, rows: Sequence[tuple[object, ...]]) -> None:
        # Many rows in a statement: after each statement the thread waits for its turn with the loop's.
        for begin in range(0, len(rows), ROWS):
            some = rows[begin : begin + ROWS]
            values = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
            self._database.execute(f"{into} VALUES {values}", [*chain.from_iterable(some)])

    def _write(self, lane: str, event: Event) -> None:  # noqa: PLR0912 - one case an event
        execute = self._database.execute
        match event:
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
                    "UPDATE ingestions SET is_cancelled = 1, gives_up = 1, changed_time = ? WHERE ingestion_id = ?",
                    (event.time, event.ingestion_id),
                )
                if event.failed:
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
        done = [each for each in outcomes if each.retry_at is None]
        self._insert(
            "INSERT OR REPLACE INTO results",
            [(seq, each.position, each.attempts, each.data, each.error, time) for each in done],
        )
        if done:
            self._database.execute(
                "DELETE FROM waiting WHERE seq = ? AND position IN (SELECT value FROM json_each(?))",
                (seq, json.dumps([each.position for each in done])),
            )
        self._insert(
            "INSERT OR REPLACE INTO waiting",
            [
                (seq, each.position, each.retry_at, each.attempts, each.error)
                for each in outcomes
                if each.retry_at is not None
            ],
        )

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

    def add_lane(self, name: str) -> None:
        """Make room for a lane, if there is none yet."""
        self._database.execute("INSERT OR IGNORE INTO lanes (name) VALUES (?)", (name,))


def checksum(lane: str, accepted: Accepted, ids: bytes) -> int:
    """Return what tells whether a row still says what was accepted."""
    # Files from before there were lanes, or owners, have none in it.
    lane_text = "" if lane == DEFAULT_LANE else f" {lane}"
    owner_text = f" of {accepted.owner}" if accepted.owner else ""
    text = f"{accepted.ingestion_id} {accepted.created_time!r} {accepted.batch_size}{lane_text}{owner_text}"
    return zlib.crc32(ids, zlib.crc32(text.encode()))
