"""How lanes are read back from the tables of the SQLite file."""

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sluice.clock import Clock
from sluice.events import Accepted, Held, Idempotency, Paused
from sluice.ingestion import INTERRUPTED, Trouble
from sluice.journal import JournalRefusedError, Saved, SavedIngestion, SavedKey
from sluice.journal.sqlite_tables import INTERRUPT, NOTHING_RUNS, RETRY, checksum
from sluice.models import Priority

# The lane, what was accepted, the cursor, `is_cancelled`, `gives_up` and the time of the last change.
AcceptedRow = tuple[str, Accepted, int, int, int, float]


def load(
    database: sqlite3.Connection, accepted: Sequence[AcceptedRow], clock: Clock, send_limits: Mapping[str, float]
) -> dict[str, Saved]:
    """Return the lanes that were saved, in terms of `clock`; raise `JournalRefusedError` if one is damaged.

    What was in flight goes back among what waits; it counts as started as late as its
    call can have been sent, by `send_limits`. `accepted` is what `read_accepted` returned.
    """
    sizes = {each.seq: len(each.ids) for _, each, *_ in accepted}
    lanes = _take_over(database, clock, send_limits)
    waiting: defaultdict[int, list[tuple[int, float, Trouble]]] = defaultdict(list)
    for seq, position, retry_at, attempts, error in database.execute("SELECT * FROM waiting"):
        waiting[seq].append((position, retry_at, Trouble(attempts, error, is_final=False)))
        _check_position(sizes, seq, position)
    failed: defaultdict[int, list[tuple[int, Trouble]]] = defaultdict(list)
    for seq, position, attempts, error in database.execute(
        "SELECT seq, position, attempts, error FROM results WHERE error IS NOT NULL"
    ):
        failed[seq].append((position, Trouble(attempts, error, is_final=True)))
        _check_position(sizes, seq, position)
    (next_seq,) = database.execute(
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
    for key, digest, ingestion_id, created_time, name in database.execute("SELECT * FROM keys ORDER BY created_time"):
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


def read_accepted(database: sqlite3.Connection) -> list[AcceptedRow]:
    """Return every ingestion and what its row says of it; raise `JournalRefusedError` if one is damaged."""
    return list(_rows(database))


def _rows(database: sqlite3.Connection) -> Iterator[AcceptedRow]:
    for (
        seq,
        ingestion_id,
        priority,
        created_time,
        batch_size,
        recorded,
        started,
        is_cancelled,
        gives_up,
        changed_time,
        lane,
        owner,
        blob,
    ) in database.execute("SELECT ingestions.*, ids.ids FROM ingestions LEFT JOIN ids USING (seq) ORDER BY seq"):
        ids = array("I")
        accepted = Accepted(ingestion_id, Priority(priority), created_time, seq, batch_size, ids, None, owner)
        if blob is None or recorded != checksum(lane, accepted, blob):
            raise JournalRefusedError(f"is damaged: ingestion {seq} is not what was accepted")
        ids.frombytes(blob)
        if not 0 <= started <= -(-len(ids) // batch_size):
            raise JournalRefusedError(f"is damaged: ingestion {seq} cannot have started {started} batches")
        yield lane, accepted, started, is_cancelled, gives_up, changed_time


def _take_over(database: sqlite3.Connection, clock: Clock, send_limits: Mapping[str, float]) -> dict[str, sqlite3.Row]:
    """Put the file in terms of this process's clock, and what was in flight back among what waits."""
    execute, now, origin = database.execute, clock.now(), clock.origin
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
    cursor = database.cursor()
    cursor.row_factory = sqlite3.Row
    return {row["name"]: row for row in cursor.execute("SELECT * FROM lanes")}


def _check_position(sizes: dict[int, int], seq: int, position: int) -> None:
    """Raise `JournalRefusedError` if an ingestion that is still there has no such position."""
    if seq in sizes and not 0 <= position < sizes[seq]:
        raise JournalRefusedError(f"is damaged: ingestion {seq} has no ID {position}")
