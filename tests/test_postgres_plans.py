"""How PostgreSQL finds what it is asked for: by an index, however little it knows of its tables."""

import asyncio

import psycopg
import pytest

from tests.postgres_steps import STEPS, Fleet
from tests.sqlite import Run

ROWS = 5_000
CROWD = 32  # ingestions at once, which share a commit
# As many of another lane in every table, and never an ANALYZE.
FILL = f"""
    CREATE TEMPORARY VIEW numbers AS SELECT generate_series(1, {ROWS}) AS number;
    INSERT INTO ingestions (lane, ingestion_id, priority, created_time, batch_size, ids, changed_time)
        SELECT 'other', gen_random_uuid(), 0, 0, 3, '\\x01000000', 0 FROM numbers;
    INSERT INTO results SELECT -number, 0, 1, NULL, 'answered 404', 0 FROM numbers;
    INSERT INTO waiting SELECT -number, 0, 0, 0, '' FROM numbers;
    INSERT INTO keys SELECT number, '', gen_random_uuid(), 0, 'other' FROM numbers;
    INSERT INTO events SELECT 'other', number, 'paused', '[]', 0 FROM numbers;
"""
# Everything that is appended is read from the events once by everyone, and rightly so.
READ = """
    SELECT relname, seq_tup_read + CASE relname WHEN 'events' THEN 0 ELSE idx_tup_fetch END FROM pg_stat_user_tables
    WHERE relname IN ('ingestions', 'results', 'waiting', 'keys', 'events')
"""


@pytest.mark.parametrize("fills_slots", [False, True])
def test_whatever_is_done_to_a_lane_no_table_that_has_grown_is_read_through(run: Run, fills_slots: bool) -> None:
    fleet = Fleet(7, aging=None, fills_slots=fills_slots)
    read: dict[str, int] = {}

    def told() -> dict[str, int]:
        # What a session has read is told when it ends.
        with psycopg.connect(fleet.url, autocommit=True) as connection:
            return dict(connection.execute(READ).fetchall())

    async def live() -> None:
        for step in STEPS * 10:
            if step == "accept":
                await asyncio.gather(*(fleet.step(step) for _ in range(CROWD)))
            elif step != "sever":  # new connections would make new plans
                await fleet.step(step)

    async def scenario() -> None:
        one, other = fleet.processes
        async with one.running(), other.running():
            await one.journal.take()
            await live()
            with psycopg.connect(fleet.url, options="-c search_path=sluice", autocommit=True) as connection:
                connection.execute(FILL.encode())
            read.update(told())
            await live()

    run(scenario())
    for table, count in told().items():
        assert count - read[table] < ROWS, table
