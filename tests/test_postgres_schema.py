"""migrate: a database is brought to the current schema while processes of the version before use it."""

from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest

from sluice.journal import postgres_schema
from sluice.journal.postgres_schema import VERSION, migrate

# As version 0.4.0 calls it.
ACCEPT = (
    "SELECT number, position FROM accept('default', 86400, %s::uuid[], '{1}', '{3}', %b::bytea[], '{NULL}', '{NULL}')"
)
BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND NOT pid = pg_backend_pid()
"""


@pytest.fixture
def old_url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a database as version 0.4.0 left it, with a lane."""
    with monkeypatch.context() as before, psycopg.connect(database_url, autocommit=True) as connection:
        before.setattr(postgres_schema, "VERSION", 1)
        migrate(connection)
        connection.execute("INSERT INTO sluice.lanes (name) VALUES ('default')")
    return database_url


@contextmanager
def migrating(url: str) -> Iterator[Future[None]]:
    """Migrate beside the block, which is entered once the migration has to wait."""

    def run() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            migrate(connection)

    with ThreadPoolExecutor(1) as thread, psycopg.connect(url, autocommit=True) as witness:
        migration = thread.submit(run)
        while witness.execute(BLOCKED).fetchone() == (0,):
            assert not migration.done()
        yield migration


def version(url: str) -> int:
    with psycopg.connect(url) as connection:
        (number,) = connection.execute("SELECT max(version) FROM sluice.migrations").fetchone() or (0,)
    return int(number)


def test_append_that_has_begun_goes_on_and_so_does_the_migration(old_url: str) -> None:
    ids = array("I", [1, 2]).tobytes()

    with psycopg.connect(old_url, options="-c search_path=sluice") as append:
        append.execute("UPDATE lanes SET latest_created_time = 1")
        with migrating(old_url) as migration:
            row = append.execute(ACCEPT, ([str(uuid4())], [ids])).fetchone()
            append.commit()
            migration.result()

    assert row == (1, 1)
    assert version(old_url) == VERSION


def test_reader_of_the_tail_goes_on_and_so_does_the_migration(old_url: str) -> None:
    with psycopg.connect(old_url, options="-c search_path=sluice") as follower:
        follower.execute("SELECT position FROM events")
        with migrating(old_url) as migration:
            head = follower.execute("SELECT head FROM lanes").fetchone()
            follower.commit()
            migration.result()

    assert head == (0,)
    assert version(old_url) == VERSION


def test_migration_gives_up_after_its_last_try(old_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_schema, "LOCK_TIMEOUTS", [0.001] * 3)
    monkeypatch.setattr(postgres_schema, "LOCK_PAUSE", 0)

    with (
        psycopg.connect(old_url, options="-c search_path=sluice") as other,
        psycopg.connect(old_url, autocommit=True) as connection,
    ):
        other.execute("SELECT head FROM lanes")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(connection)

    assert version(old_url) == 1
