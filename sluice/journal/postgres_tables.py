"""What each event does to the tables of a PostgreSQL database, and how a lane is read back from them."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

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
    Part,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.ingestion import INTERRUPTED, Trouble
from sluice.journal import PAGE_BYTES, Saved, SavedIngestion, SavedKey
from sluice.models import Priority

SWEEP = 1000  # rows
READ_BYTES = 4 * 1024 * 1024  # of IDs, at a time
LOAD = 20_000  # ingestions that are fetched at a time
PRIORITIES = tuple(Priority)
Statement = tuple[str, Sequence[Any] | Mapping[str, Any]]

# Whoever appends to a lane holds its row: so positions have no gaps and come in the order of the commits.
LOCK = """
    UPDATE lanes SET latest_created_time = greatest(latest_created_time, database_time()) WHERE name = %s
    RETURNING head, epoch, last_start, running_id::text, running_positions, running_also, database_time()
"""
# What is in flight counts as started as late as its call can have been sent: whoever called is gone.
TAKE = """
    UPDATE lanes SET epoch = epoch + 1, last_start = CASE WHEN running_id IS NULL THEN last_start
        ELSE least(last_start + %s, database_time()) END
    WHERE name = %s RETURNING epoch, last_start
"""
TAIL = f"""
    SELECT position, kind, body, seq, ids, owner FROM (
        SELECT *, sum(octet_length(ids)) OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
            AS size
        FROM (SELECT * FROM events WHERE lane = %s AND position > %s ORDER BY position LIMIT %s) AS next
    ) AS sized WHERE coalesce(size, 0) < {READ_BYTES} ORDER BY position
"""
HEADS = "SELECT head, trimmed, database_time(), pg_is_in_recovery() FROM lanes WHERE name = %s"
APPEND = """
    WITH moved AS (UPDATE lanes SET head = head + %(count)s WHERE name = %(lane)s)
    INSERT INTO events (lane, position, kind, body, added)
    SELECT %(lane)s, %(head)s + number, kind, body, database_time()
    FROM unnest(%(kinds)s::text[], %(bodies)s::text[]) WITH ORDINALITY AS event (kind, body, number)
"""
ACCEPT = """
    SELECT number, position, seq, created_time FROM accept(%(lane)s, %(key_seconds)s, %(ingestion_ids)s::uuid[],
        %(priorities)s::smallint[], %(batch_sizes)s::integer[], %(ids)b::bytea[], %(keys)s::text[],
        %(digests)b::bytea[], %(owners)s::text[])
"""
RESULTS = f"""
    SELECT position, attempts, data, error, finished_time FROM (
        SELECT *, sum(coalesce(octet_length(data), 0))
            OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS size
        FROM results
        WHERE seq = (SELECT seq FROM ingestions WHERE ingestion_id = %s) AND position >= %s AND position < %s
    ) AS sized WHERE coalesce(size, 0) < {PAGE_BYTES} ORDER BY position
"""
TRIM = f"""
    WITH oldest AS (
        SELECT position, added FROM events
        WHERE lane = %(lane)s AND position > (SELECT trimmed FROM lanes WHERE name = %(lane)s)
        ORDER BY position LIMIT {SWEEP}
    ), gone AS (
        DELETE FROM events USING oldest
        WHERE events.lane = %(lane)s AND events.position = oldest.position
            AND oldest.added < database_time() - %(seconds)s
        RETURNING events.position
    )
    UPDATE lanes SET trimmed = (SELECT max(position) FROM gone)
    WHERE name = %(lane)s AND EXISTS (SELECT FROM gone)
    RETURNING (SELECT count(*) FROM gone)
"""
FORGET = f"""
    WITH one AS (SELECT seq FROM expired WHERE lane = %s LIMIT 1),
    cut AS (
        DELETE FROM results USING one WHERE results.seq = one.seq AND results.position IN
            (SELECT position FROM results JOIN one USING (seq) ORDER BY position LIMIT {SWEEP})
        RETURNING results.seq
    ), done AS (DELETE FROM expired USING one WHERE expired.seq = one.seq AND NOT EXISTS (SELECT FROM cut))
    SELECT seq FROM one
"""
OUTCOMES = """
    WITH changed AS (
        UPDATE ingestions SET changed_time = %(time)s WHERE ingestion_id = %(ingestion_id)s RETURNING seq
    ), done AS (
        INSERT INTO results SELECT seq, each.*, %(time)s FROM changed, unnest(%(ended)s::integer[],
            %(ended_attempts)s::integer[], %(data)b::bytea[], %(ended_errors)s::text[]) AS each
        ON CONFLICT (seq, position) DO UPDATE SET attempts = excluded.attempts, data = excluded.data,
            error = excluded.error, finished_time = excluded.finished_time
    ), gone AS (
        DELETE FROM waiting USING changed WHERE waiting.seq = changed.seq AND position = ANY(%(ended)s::integer[])
    ), delayed AS (
        INSERT INTO waiting SELECT seq, each.* FROM changed, unnest(%(delayed)s::integer[],
            %(retry_at)s::double precision[], %(delayed_attempts)s::integer[], %(delayed_errors)s::text[]) AS each
        ON CONFLICT (seq, position) DO UPDATE SET retry_at = excluded.retry_at, attempts = excluded.attempts,
            error = excluded.error
    ) """
SEQ = "(SELECT seq FROM ingestions WHERE ingestion_id = %s)"
NOTHING_RUNS = "UPDATE lanes SET running_id = NULL, running_positions = NULL, running_also = '[]'"
RUNNING = """
    SELECT name, running_id AS id, unnest(running_positions) AS position FROM lanes
    UNION ALL
    SELECT name, (part->>0)::uuid, jsonb_array_elements_text(part->1)::integer
    FROM lanes, jsonb_array_elements(running_also) AS part
"""


def statements(lane: str, event: Event) -> Iterator[Statement]:
    """Yield what keeps the tables up to date with an event; its times are the database's."""
    match event:
        case Started():
            yield (
                "WITH begun AS (UPDATE ingestions SET started = greatest(started, last / batch_size + 1)"
                # A slot can have IDs tried again and a last batch of one ingestion: its row is changed once, by both.
                " FROM (SELECT id, max(last) AS last FROM unnest(%s::uuid[], %s::integer[]) AS part (id, last)"
                " GROUP BY id) AS part WHERE ingestion_id = id)"
                " UPDATE lanes SET last_start = %s, running_id = %s, running_positions = %s, running_also = %s"
                " WHERE name = %s",
                (
                    [part.ingestion_id for part in event.parts],
                    [part.positions[-1] for part in event.parts],
                    event.at,
                    event.ingestion_id,
                    list(event.positions),
                    Jsonb(event.also),
                    lane,
                ),
            )
        case Finished():
            # The greatest of what is not null.
            ended = f"{NOTHING_RUNS}, last_start = greatest(last_start, %(sent)s) WHERE name = %(lane)s"
            yield _outcomes(event.ingestion_id, event.outcomes, event.time, ended, lane, event.sent)
            for part in event.also:
                yield _outcomes(*part, event.time, "SELECT", lane)
        case Interrupted():
            yield (
                f"INSERT INTO waiting SELECT seq, position, %s, 0, %s FROM ({RUNNING}) AS running"
                " JOIN ingestions ON ingestion_id = id WHERE name = %s"
                " ON CONFLICT (seq, position) DO UPDATE SET retry_at = excluded.retry_at",
                (event.at, INTERRUPTED, lane),
            )
            yield f"{NOTHING_RUNS} WHERE name = %s", (lane,)
        case Held():
            yield (
                "UPDATE lanes SET held_until = %s, held_reason = %s WHERE name = %s",
                (event.until, _text(event.reason), lane),
            )
        case Paused():
            yield (
                "UPDATE lanes SET paused_time = %s, paused_reason = %s WHERE name = %s",
                (event.time, _text(event.reason), lane),
            )
        case Resumed():
            yield "UPDATE lanes SET paused_time = NULL, paused_reason = NULL WHERE name = %s", (lane,)
        case Cancelled():
            yield (
                "UPDATE ingestions SET is_cancelled = true, gives_up = true WHERE ingestion_id = %s",
                (event.ingestion_id,),
            )
            yield _outcomes(event.ingestion_id, event.failed, event.time, "SELECT", lane)
        case Reprioritised():
            yield (
                "UPDATE ingestions SET priority = %s WHERE ingestion_id = %s",
                (int(event.priority), event.ingestion_id),
            )
        case Revived():
            yield "UPDATE ingestions SET gives_up = false WHERE ingestion_id = %s", (event.ingestion_id,)
            yield (
                f"WITH failed AS (DELETE FROM results WHERE seq = {SEQ} AND error IS NOT NULL RETURNING *)"
                " INSERT INTO waiting SELECT seq, position, 0, 0, error FROM failed",
                (event.ingestion_id,),
            )
        case Expired():
            yield (
                "WITH gone AS (DELETE FROM ingestions WHERE ingestion_id = %s RETURNING seq, lane),"
                " left_over AS (DELETE FROM waiting USING gone WHERE waiting.seq = gone.seq)"
                " INSERT INTO expired SELECT seq, lane FROM gone",
                (event.ingestion_id,),
            )
        case KeysExpired():
            yield "DELETE FROM keys WHERE lane = %s AND created_time <= %s", (lane, event.time)


def _outcomes(  # noqa: PLR0913, PLR0917 - each is a parameter of the statement
    ingestion_id: str, outcomes: Sequence[Outcome], time: float, then: str, lane: str, sent: float | None = None
) -> Statement:
    """Return one statement that writes all outcomes down and then does something else: each costs a batch its time."""
    ended = [each for each in outcomes if each.retry_at is None]
    delayed = [each for each in outcomes if each.retry_at is not None]
    return f"{OUTCOMES}{then}", {
        "lane": lane,
        "sent": sent,
        "ingestion_id": ingestion_id,
        "time": time,
        "ended": [each.position for each in ended],
        "ended_attempts": [each.attempts for each in ended],
        "data": [each.data for each in ended],
        "ended_errors": [each.error and _text(each.error) for each in ended],
        "delayed": [each.position for each in delayed],
        "retry_at": [each.retry_at for each in delayed],
        "delayed_attempts": [each.attempts for each in delayed],
        "delayed_errors": [_text(each.error or "") for each in delayed],
    }


def _text(text: str) -> str:
    """Return a text that PostgreSQL can keep."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def parts(
    running_id: object, positions: Sequence[int] | None, also: Sequence[tuple[str, Sequence[int]]]
) -> tuple[Part, ...]:
    """Return what is in flight, as a lane's row has it."""
    if positions is None:
        return ()
    return tuple(Part(str(each), tuple(of_it)) for each, of_it in ((running_id, positions), *also))


def load(connection: psycopg.Connection, lane: str, offset: float) -> tuple[int, Saved]:
    """Return a lane's head and the lane, in terms of a monotonic clock that is `offset` behind the database's.

    To be called, and the ingestions to be gone through, in one transaction of repeatable reads.
    """
    row = connection.cursor(row_factory=dict_row).execute("SELECT * FROM lanes WHERE name = %s", (lane,)).fetchone()
    assert row is not None
    waiting: defaultdict[int, list[tuple[int, float, Trouble]]] = defaultdict(list)
    for seq, position, retry_at, attempts, error in connection.execute(
        "SELECT waiting.* FROM waiting JOIN ingestions USING (seq) WHERE lane = %s", (lane,)
    ):
        waiting[seq].append((position, retry_at - offset, Trouble(attempts, error, is_final=False)))
    failed: defaultdict[int, list[tuple[int, Trouble]]] = defaultdict(list)
    for seq, position, attempts, error in connection.execute(
        "SELECT seq, position, attempts, error FROM results JOIN ingestions USING (seq)"
        " WHERE lane = %s AND error IS NOT NULL",
        (lane,),
    ):
        failed[seq].append((position, Trouble(attempts, error, is_final=True)))
    keys = [
        SavedKey(Idempotency(key, digest), ingestion_id, created_time)
        for key, digest, ingestion_id, created_time in connection.execute(
            "SELECT key, digest, ingestion_id::text, created_time FROM keys WHERE lane = %s ORDER BY created_time",
            (lane,),
        )
    ]
    last_start = row["last_start"]
    running = parts(row["running_id"], row["running_positions"], row["running_also"])
    return row["head"], Saved(
        _ingestions(connection, lane, waiting, failed),
        keys,
        last_start=None if last_start is None else last_start - offset,
        running=Started(*running[0], last_start - offset, running[1:]) if running else None,
        held=None if row["held_until"] is None else Held(row["held_until"] - offset, row["held_reason"]),
        paused=None if row["paused_time"] is None else Paused(row["paused_time"], row["paused_reason"]),
    )


def _ingestions(
    connection: psycopg.Connection,
    lane: str,
    waiting: dict[int, list[tuple[int, float, Trouble]]],
    failed: dict[int, list[tuple[int, Trouble]]],
) -> Iterator[SavedIngestion]:
    # Most wait untouched, and there can be millions: no more is made of one than is needed.
    with psycopg.ServerCursor(connection, "ingestions") as cursor:
        cursor.execute(
            "SELECT ingestion_id::text, priority, created_time, seq, batch_size, ids, CASE WHEN started > 0"
            " OR is_cancelled THEN ARRAY[started, is_cancelled::integer, gives_up::integer, changed_time] END, owner"
            " FROM ingestions WHERE lane = %s ORDER BY seq",
            (lane,),
            binary=True,
        )
        make_accepted, make_saved = Accepted._make, SavedIngestion._make
        while rows := cursor.fetchmany(LOAD):
            for ingestion_id, priority, created_time, seq, batch_size, ids, state, owner in rows:
                accepted = make_accepted(
                    (ingestion_id, PRIORITIES[priority], created_time, seq, batch_size, array("I", ids), None, owner)
                )
                if state is None:
                    yield make_saved((accepted, 0, False, False, (), (), created_time))
                    continue
                started, is_cancelled, gives_up, changed_time = state
                yield SavedIngestion(
                    accepted,
                    int(started),
                    bool(is_cancelled),
                    bool(gives_up),
                    waiting.get(seq, ()),
                    failed.get(seq, ()),
                    changed_time,
                )
