"""PostgresJournal: what a lane's row says of the slot that runs, and of when it started."""

import psycopg
import pytest

from sluice.events import Interrupted, Outcome, Part, Started
from sluice.journal import EarlyError, JournalError
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


SENT = 4.5


def test_pace_counts_from_when_the_call_was_sent_whoever_runs_the_lane_next(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running():
            await one.accept([1, 2, 3, 4])
            await one.journal.take()
            await one.start()
            pass_time(url, INTERVAL, one, other)
            await one.finish(sent=100.0 + SENT)

            last_start = await other.journal.take()

            assert last_start == pytest.approx(7000.0 + SENT)
            with pytest.raises(EarlyError) as early:
                await other.start()
            assert early.value.seconds == pytest.approx(SENT)
            pass_time(url, SENT, one, other)
            await other.start()

    run(scenario())


@pytest.mark.parametrize(("downtime", "latest"), [(2.0, 2.0), (40.0, 30.0)])
def test_call_that_is_in_flight_at_a_takeover_is_taken_to_be_sent_as_late_as_it_can_have_been(
    url: str, run: Run, downtime: float, latest: float
) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running():
            await one.accept([1, 2, 3, 4])
            await one.journal.take()
            await one.start()
            pass_time(url, downtime, one, other)

            first = await other.journal.take(30.0)
            await other.lane.decide(lambda: [Interrupted(other.machine.now())])
            second = await one.journal.take(30.0)

            assert first == pytest.approx(7000.0 + latest)
            assert second == pytest.approx(100.0 + latest)

    run(scenario())


def test_lane_that_nothing_was_started_in_has_no_last_start(url: str, run: Run) -> None:
    async def scenario() -> None:
        one = Process(url, 100.0)
        async with one.running():
            assert await one.journal.take(30.0) is None

    run(scenario())
