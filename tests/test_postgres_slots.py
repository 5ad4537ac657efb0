"""PostgresJournal: what a lane's row says of the slot that runs, and of when it started."""

import psycopg
import pytest

from sluice.events import Outcome, Part, Started
from sluice.journal import JournalError
from tests.postgres_process import INTERVAL, Process, pass_time
from tests.shared_database import fresh_database
from tests.sqlite import Run


@pytest.fixture
def url() -> str:
    return fresh_database()


# So many that the planner goes through them by their index.
OTHERS = """
    INSERT INTO ingestions (lane, ingestion_id, priority, created_time, batch_size, ids, changed_time)
    SELECT 'other', gen_random_uuid(), 0, 0, 3, '\\x01000000', 0 FROM generate_series(1, 20000)
"""


def test_slot_with_two_parts_of_one_ingestion_moves_its_cursor_past_both(url: str, run: Run) -> None:
    async def scenario() -> None:
        one = Process(url, 100.0, fills_slots=True)
        async with one.running():
            await one.journal.take()
            job = await one.accept([1, 2, 3, 4])
            await one.start()
            now = one.machine.now()
            await one.finish(
                Outcome(0, 1, error="answered 503", retry_at=now), Outcome(1, 1, data=b"1"), Outcome(2, 1, data=b"1")
            )
            with psycopg.connect(url, options="-c search_path=sluice", autocommit=True) as connection:
                connection.execute(OTHERS)
                connection.execute("ANALYZE ingestions")
                pass_time(url, INTERVAL, one)
                parts = [Part(*batch[:2]) for batch in one.lane.next_batches(one.machine.now())]
                await one.lane.decide(lambda: [Started(*parts[0], one.machine.now(), (*parts[1:],))])
                (started,) = connection.execute(
                    "SELECT started FROM ingestions WHERE ingestion_id = %s", (job.ingestion_id,)
                ).fetchall()

            assert [part.positions for part in parts] == [(0,), (3,)]
            assert started == (job.started,) == (2,)

    run(scenario())


def test_start_can_be_recorded_again_but_only_with_all_that_is_in_its_slot(url: str, run: Run) -> None:
    async def scenario() -> None:
        one = Process(url, 100.0, fills_slots=True)
        async with one.running():
            await one.journal.take()
            for _ in range(3):
                await one.accept([1])
            started = await one.start()

            with pytest.raises(JournalError, match="another batch runs"):
                await one.lane.decide(lambda: [started._replace(also=started.also[:1])])
            await one.lane.decide(lambda: [started._replace(at=started.at + 1.0)])

            assert len(started.parts) == 3
            assert one.lane.running == started._replace(at=started.at + 1.0)

    run(scenario())
