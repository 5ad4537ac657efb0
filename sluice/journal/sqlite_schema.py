"""The SQLite file's schema: its versions, and whether a file can be used at all."""

import os
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from sluice.journal import JournalRefusedError

APPLICATION_ID = int.from_bytes(b"Slce", "big")
# Migration k leads from version k to version k + 1; an empty file has version 0. Only ever append.
MIGRATIONS = [
    """
    CREATE TABLE lane (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        origin TEXT NOT NULL,       -- what the monotonic times of this file count from
        clock REAL NOT NULL,        -- the latest monotonic time recorded
        last_start REAL,
        running_seq INTEGER,
        running_positions TEXT,     -- a JSON array
        held_until REAL,
        held_reason TEXT,
        paused_time REAL,
        paused_reason TEXT
    ) STRICT;
    CREATE TABLE ingestions (
        seq INTEGER PRIMARY KEY,
        ingestion_id TEXT NOT NULL UNIQUE,
        priority INTEGER NOT NULL,
        created_time REAL NOT NULL,
        batch_size INTEGER NOT NULL,
        checksum INTEGER NOT NULL,  -- of what never changes, the IDs included
        started INTEGER NOT NULL DEFAULT 0,
        is_cancelled INTEGER NOT NULL DEFAULT 0,
        gives_up INTEGER NOT NULL DEFAULT 0,
        changed_time REAL NOT NULL
    ) STRICT;
    -- Apart, because changing a row rewrites all of it.
    CREATE TABLE ids (seq INTEGER PRIMARY KEY, ids BLOB NOT NULL) STRICT;
    CREATE TABLE waiting (
        seq INTEGER NOT NULL,
        position INTEGER NOT NULL,
        retry_at REAL NOT NULL,     -- monotonic
        attempts INTEGER NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (seq, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE results (
        seq INTEGER NOT NULL,
        position INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        data BLOB,
        error TEXT,
        finished_time REAL NOT NULL,
        PRIMARY KEY (seq, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX failures ON results (seq, position) WHERE error IS NOT NULL;
    CREATE TABLE keys (
        key TEXT PRIMARY KEY,
        digest BLOB NOT NULL,
        ingestion_id TEXT NOT NULL,
        created_time REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_age ON keys (created_time);
    -- Forgotten ingestions that have left rows elsewhere.
    CREATE TABLE expired (seq INTEGER PRIMARY KEY) STRICT;
    """,
    """
    -- Several lanes in one file: what is the machine's is kept apart from what is a lane's.
    CREATE TABLE machine (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        origin TEXT NOT NULL,       -- what the monotonic times of this file count from
        clock REAL NOT NULL         -- the latest monotonic time recorded
    ) STRICT;
    INSERT INTO machine SELECT id, origin, clock FROM lane;
    CREATE TABLE lanes (
        name TEXT PRIMARY KEY,
        last_start REAL,
        running_seq INTEGER,
        running_positions TEXT,     -- a JSON array
        held_until REAL,
        held_reason TEXT,
        paused_time REAL,
        paused_reason TEXT
    ) STRICT;
    INSERT INTO lanes
        SELECT 'default', last_start, running_seq, running_positions,
               held_until, held_reason, paused_time, paused_reason
        FROM lane;
    DROP TABLE lane;
    ALTER TABLE ingestions ADD COLUMN lane TEXT NOT NULL DEFAULT 'default';
    ALTER TABLE keys ADD COLUMN lane TEXT NOT NULL DEFAULT 'default';
    """,
    """
    ALTER TABLE ingestions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    ALTER TABLE lanes ADD COLUMN running_also TEXT;  -- a JSON array of further [seq, positions] in the same slot
    """,
]
VERSION = len(MIGRATIONS)
SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"


def open_to_read(path: Path) -> sqlite3.Connection | None:
    """Open a file without touching it, as the current schema has it; return None if it must be made or mended first.

    Raises `JournalRefusedError` unless it is a sound one of ours, or `sqlite3.Error`
    where SQLite itself can tell what is wrong.
    """
    if path.is_dir():
        raise JournalRefusedError("cannot be used: it is a folder")
    # A transaction that a crash left unfinished is undone by the first who may write, and not looked at before.
    if not path.exists() or Path(f"{path}-journal").exists():
        return None
    if not os.access(path, os.W_OK):
        raise JournalRefusedError("cannot be written: it is read-only")
    # Not read as a plain file: closing that would drop the lock of whoever in this process has it open.
    # Whoever has it open keeps a -wal; with none there is nothing to lock, and no need to make one.
    immutable = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{immutable}", uri=True, timeout=0)
    try:
        connection.text_factory = partial(str, errors="replace")
        if (version := _check_kind(connection)) == 0:
            connection.close()
            return None
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise JournalRefusedError(f"is damaged: {' '.join(verdict.split())}")
        if version < VERSION:
            # What it would be is looked at in a copy: a damaged one must not be changed first.
            with closing(connection) as file:
                connection = sqlite3.connect(":memory:", isolation_level=None)
                file.backup(connection)
            migrate(connection)
        _check_tables(connection)
    except BaseException:
        connection.close()
        raise
    connection.text_factory = str
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an open file to the current schema; raise `JournalRefusedError` if it is foreign or newer."""
    for number in range(_check_kind(connection), VERSION):
        connection.executescript(
            f"BEGIN EXCLUSIVE; {MIGRATIONS[number]};"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number + 1}; COMMIT;"
        )
    _check_tables(connection)


def _check_tables(connection: sqlite3.Connection) -> None:
    """Raise `JournalRefusedError` unless the stored schema, text that a flipped bit can change, is the current one."""
    with closing(sqlite3.connect(":memory:")) as model:
        for migration in MIGRATIONS:
            model.executescript(migration)
        expected = model.execute(SCHEMA).fetchall()
    if connection.execute(SCHEMA).fetchall() != expected:
        raise JournalRefusedError("is damaged: its tables are not as they were made")


def _check_kind(connection: sqlite3.Connection) -> int:
    """Return the version of the schema; raise `JournalRefusedError` if it is foreign or newer."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application_id != APPLICATION_ID:
        raise JournalRefusedError("is the database of something else; name another file")
    if version > VERSION:
        raise JournalRefusedError(f"was written by a newer Sluice (schema {version}, this one knows {VERSION})")
    return int(version)
