"""The PostgreSQL schema: its versions, and how a database is brought to the current one."""

import time
from contextlib import suppress

import psycopg
from pgqueuer.adapters.persistence import qb
from pgqueuer.domain.settings import DBSettings, Durability

from sluice.journal import JournalRefusedError

SCHEMA = "sluice"
LOCK = int.from_bytes(b"Slce", "big")  # of the advisory lock that migrations are made under
# Seconds that a migration waits for each table, one try after another. All who use the table wait behind it, so it
# must not be long, and as a rule shorter than `deadlock_timeout` (1 s): then it is never one of them who has to give
# way. After that time, on the other hand, PostgreSQL ends an autovacuum that is in the way.
LOCK_TIMEOUTS = [*[0.3] * 9, 1.5] * 6
LOCK_PAUSE = 0.2  # seconds
# Migration k leads from version k to version k + 1. Only ever append, and only what the version before can
# live with, for its processes still run while this one's start: add tables, add columns that have a default.
MIGRATIONS = [
    """
    -- Every time is a number of Unix seconds by the clock of this database, which all machines share.
    CREATE FUNCTION database_time() RETURNS double precision LANGUAGE sql VOLATILE
        AS 'SELECT extract(epoch FROM clock_timestamp())::double precision';
    CREATE SEQUENCE seqs;
    CREATE TABLE lanes (
        name text PRIMARY KEY,
        head bigint NOT NULL DEFAULT 0,     -- the position of the last event
        trimmed bigint NOT NULL DEFAULT 0,  -- the position of the last event that is no longer kept
        epoch bigint NOT NULL DEFAULT 0,    -- how often a dispatcher took the lane; the last one has it
        latest_created_time double precision NOT NULL DEFAULT 0,
        last_start double precision,
        running_id uuid,
        running_positions integer[],
        held_until double precision,
        held_reason text,
        paused_time double precision,
        paused_reason text
    ) WITH (fillfactor = 10);               -- rewritten with every event: room for it in its own page
    CREATE TABLE ingestions (
        lane text NOT NULL,
        seq bigint NOT NULL DEFAULT nextval('seqs'),
        ingestion_id uuid NOT NULL UNIQUE,
        priority smallint NOT NULL,
        created_time double precision NOT NULL,
        batch_size integer NOT NULL,
        ids bytea NOT NULL,                 -- four bytes each, the lowest first
        started integer NOT NULL DEFAULT 0,
        is_cancelled boolean NOT NULL DEFAULT false,
        gives_up boolean NOT NULL DEFAULT false,
        changed_time double precision NOT NULL,
        PRIMARY KEY (lane, seq)
    ) WITH (fillfactor = 90);
    ALTER TABLE ingestions ALTER ids SET STORAGE EXTERNAL;
    CREATE TABLE waiting (
        seq bigint NOT NULL,
        position integer NOT NULL,
        retry_at double precision NOT NULL,
        attempts integer NOT NULL,
        error text NOT NULL,
        PRIMARY KEY (seq, position)
    );
    CREATE TABLE results (
        seq bigint NOT NULL,
        position integer NOT NULL,
        attempts integer NOT NULL,
        data bytea,
        error text,
        finished_time double precision NOT NULL,
        PRIMARY KEY (seq, position)
    );
    CREATE INDEX failures ON results (seq) WHERE error IS NOT NULL;
    CREATE TABLE keys (
        key text PRIMARY KEY,
        digest bytea NOT NULL,
        ingestion_id uuid NOT NULL,
        created_time double precision NOT NULL,
        lane text NOT NULL
    );
    CREATE INDEX keys_by_age ON keys (lane, created_time);
    -- Forgotten ingestions that have left rows elsewhere.
    CREATE TABLE expired (seq bigint PRIMARY KEY, lane text NOT NULL);
    -- The tail: what the processes that follow have not all read yet.
    CREATE TABLE events (
        lane text NOT NULL,
        position bigint NOT NULL,
        kind text NOT NULL,
        body text NOT NULL,                 -- JSON
        added double precision NOT NULL,
        seq bigint,                         -- these two: of what was accepted
        ids bytea,
        PRIMARY KEY (lane, position)
    );
    ALTER TABLE events ALTER ids SET STORAGE EXTERNAL;
    -- In one call, so that nobody who freezes in the middle of it can keep the lane's row from all others. Returns what
    -- the keys let through, and where it is in the order; no position for what an earlier try had committed.
    CREATE FUNCTION accept(
        lane_name text, key_seconds double precision, ingestion_ids uuid[], priorities smallint[],
        batch_sizes integer[], all_ids bytea[], all_keys text[], digests bytea[]
    ) RETURNS TABLE (number bigint, "position" bigint, seq bigint, created_time double precision)
    LANGUAGE plpgsql AS $$
    #variable_conflict use_column
    DECLARE
        base bigint;
        now double precision;
    BEGIN
        UPDATE lanes SET latest_created_time = greatest(latest_created_time, database_time()) WHERE name = lane_name
            RETURNING head, latest_created_time INTO STRICT base, now;
        RETURN QUERY
        WITH wanted AS (
            SELECT each.*, old.seq AS old_seq, old.created_time AS old_time
            FROM unnest(ingestion_ids, priorities, batch_sizes, all_ids, all_keys, digests)
                WITH ORDINALITY AS each (ingestion_id, priority, batch_size, ids, key, digest, number)
            LEFT JOIN ingestions AS old ON old.ingestion_id = each.ingestion_id
        ), claimed AS (
            INSERT INTO keys AS used (key, digest, ingestion_id, created_time, lane)
            SELECT key, digest, ingestion_id, now, lane_name FROM wanted
                WHERE key IS NOT NULL AND old_seq IS NULL ORDER BY key
            ON CONFLICT (key) DO UPDATE SET digest = excluded.digest, ingestion_id = excluded.ingestion_id,
                created_time = excluded.created_time, lane = excluded.lane
                WHERE used.created_time <= excluded.created_time - key_seconds
            RETURNING ingestion_id
        ), accepted AS (
            INSERT INTO ingestions (lane, ingestion_id, priority, created_time, batch_size, ids, changed_time)
            SELECT lane_name, ingestion_id, priority, now, batch_size, ids, now FROM wanted
            WHERE old_seq IS NULL AND (key IS NULL OR ingestion_id IN (SELECT ingestion_id FROM claimed))
            ORDER BY number
            RETURNING ingestion_id, seq
        ), numbered AS (
            SELECT wanted.*, accepted.seq, base + row_number() OVER (ORDER BY accepted.seq) AS position
            FROM accepted JOIN wanted USING (ingestion_id)
        ), moved AS (
            UPDATE lanes SET head = head + (SELECT count(*) FROM accepted) WHERE name = lane_name
        ), logged AS (
            INSERT INTO events (lane, position, kind, body, added, seq, ids)
            SELECT lane_name, position, 'accepted', json_build_array(ingestion_id, priority, now, batch_size, key,
                encode(digest, 'base64'))::text, now, seq, ids FROM numbered
        )
        SELECT number, position, seq, now FROM numbered
        UNION ALL SELECT number, NULL, old_seq, old_time FROM wanted WHERE old_seq IS NOT NULL
        ORDER BY 1;
    END $$;
    -- Who stands by to run lanes: to share them out evenly.
    CREATE TABLE workers (worker_id uuid PRIMARY KEY, seen timestamptz NOT NULL, lanes text[] NOT NULL);
    """,
    """
    ALTER TABLE ingestions ADD COLUMN owner text NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN owner text NOT NULL DEFAULT '';      -- of what was accepted
    -- What is in the same slot as `running_positions`: further [ingestion_id, positions].
    ALTER TABLE lanes ADD COLUMN running_also jsonb NOT NULL DEFAULT '[]';
    CREATE FUNCTION accept(
        lane_name text, key_seconds double precision, ingestion_ids uuid[], priorities smallint[],
        batch_sizes integer[], all_ids bytea[], all_keys text[], digests bytea[], owners text[]
    ) RETURNS TABLE (number bigint, "position" bigint, seq bigint, created_time double precision)
    LANGUAGE plpgsql AS $$
    #variable_conflict use_column
    DECLARE
        base bigint;
        now double precision;
    BEGIN
        UPDATE lanes SET latest_created_time = greatest(latest_created_time, database_time()) WHERE name = lane_name
            RETURNING head, latest_created_time INTO STRICT base, now;
        RETURN QUERY
        WITH wanted AS (
            SELECT each.*, old.seq AS old_seq, old.created_time AS old_time
            FROM unnest(ingestion_ids, priorities, batch_sizes, all_ids, all_keys, digests, owners)
                WITH ORDINALITY AS each (ingestion_id, priority, batch_size, ids, key, digest, owner, number)
            LEFT JOIN ingestions AS old ON old.ingestion_id = each.ingestion_id
        ), claimed AS (
            INSERT INTO keys AS used (key, digest, ingestion_id, created_time, lane)
            SELECT key, digest, ingestion_id, now, lane_name FROM wanted
                WHERE key IS NOT NULL AND old_seq IS NULL ORDER BY key
            ON CONFLICT (key) DO UPDATE SET digest = excluded.digest, ingestion_id = excluded.ingestion_id,
                created_time = excluded.created_time, lane = excluded.lane
                WHERE used.created_time <= excluded.created_time - key_seconds
            RETURNING ingestion_id
        ), accepted AS (
            INSERT INTO ingestions (lane, ingestion_id, priority, created_time, batch_size, ids, changed_time, owner)
            SELECT lane_name, ingestion_id, priority, now, batch_size, ids, now, owner FROM wanted
            WHERE old_seq IS NULL AND (key IS NULL OR ingestion_id IN (SELECT ingestion_id FROM claimed))
            ORDER BY number
            RETURNING ingestion_id, seq
        ), numbered AS (
            SELECT wanted.*, accepted.seq, base + row_number() OVER (ORDER BY accepted.seq) AS position
            FROM accepted JOIN wanted USING (ingestion_id)
        ), moved AS (
            UPDATE lanes SET head = head + (SELECT count(*) FROM accepted) WHERE name = lane_name
        ), logged AS (
            INSERT INTO events (lane, position, kind, body, added, seq, ids, owner)
            SELECT lane_name, position, 'accepted', json_build_array(ingestion_id, priority, now, batch_size, key,
                encode(digest, 'base64'))::text, now, seq, ids, owner FROM numbered
        )
        SELECT number, position, seq, now FROM numbered
        UNION ALL SELECT number, NULL, old_seq, old_time FROM wanted WHERE old_seq IS NOT NULL
        ORDER BY 1;
    END $$;
    -- As the processes of the version before call it.
    CREATE OR REPLACE FUNCTION accept(
        lane_name text, key_seconds double precision, ingestion_ids uuid[], priorities smallint[],
        batch_sizes integer[], all_ids bytea[], all_keys text[], digests bytea[]
    ) RETURNS TABLE (number bigint, "position" bigint, seq bigint, created_time double precision)
    LANGUAGE plpgsql AS $$
    BEGIN
        RETURN QUERY SELECT * FROM accept(lane_name, key_seconds, ingestion_ids, priorities, batch_sizes, all_ids,
            all_keys, digests, array_fill(''::text, ARRAY[cardinality(ingestion_ids)]));
    END $$;
    """,
]
VERSION = len(MIGRATIONS)
# The names of the engine's own objects, whatever the environment says.
ENGINE = DBSettings(
    prefix="",
    db_schema=None,
    channel="ch_pgqueuer",
    function="fn_pgqueuer_changed",
    statistics_table="pgqueuer_statistics",
    queue_status_type="pgqueuer_status",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    trigger="tg_pgqueuer_changed",
    schedules_table="pgqueuer_schedules",
    durability=Durability.durable,
)


def migrate(connection: psycopg.Connection) -> None:
    """Bring a database to the current schema, one process at a time; raise `JournalRefusedError` if it is foreign.

    Processes of the version before go on meanwhile: it gives way to them and tries again.
    """
    *timeouts, last = LOCK_TIMEOUTS
    for timeout in timeouts:
        with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            _migrate(connection, timeout)
            return
        time.sleep(LOCK_PAUSE)
    _migrate(connection, last)


def _migrate(connection: psycopg.Connection, lock_timeout: float) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10s'")  # who freezes holds up all others
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        exists = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (SCHEMA,)).fetchone() == (True,)
        if not exists:
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
        connection.execute(f"SET LOCAL search_path = {SCHEMA}")
        if not exists:
            connection.execute("CREATE TABLE migrations (version integer PRIMARY KEY)")
        elif connection.execute("SELECT to_regclass('migrations') IS NULL").fetchone() == (True,):
            raise JournalRefusedError(f"has a schema {SCHEMA} that is something else's; name another database")
        row = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()
        assert row is not None
        if 0 < row[0] < VERSION:
            connection.execute(f"SET LOCAL lock_timeout = '{lock_timeout}s'")
            # First, as whoever appends does: the other way round, each could hold what the other waits for.
            connection.execute("LOCK TABLE lanes")
        # A newer one's tables are not refused: whoever made them took care that this version can go on.
        for number in range(row[0], VERSION):
            connection.execute(MIGRATIONS[number].encode())
            connection.execute("INSERT INTO migrations VALUES (%s)", (number + 1,))
        if connection.execute("SELECT to_regclass('pgqueuer') IS NULL").fetchone() == (True,):
            connection.execute(qb.QueryBuilderEnvironment(ENGINE).build_install_query().encode())
