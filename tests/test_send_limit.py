"""After a crash, a call that was in flight counts as sent as late as its upstream can have sent it."""

from pathlib import Path

import psycopg
import pytest

from sluice.clock import SystemClock
from sluice.events import Started
from sluice.lane_factory import LaneFactory
from sluice.local import LocalService
from sluice.pace import START_BUDGET
from sluice.settings import Settings
from sluice.shared import SharedService
from tests.api_steps import EndlessUpstream
from tests.journals import opened_journal
from tests.postgres_process import until
from tests.sqlite import FileJournal, Run, accepted

INTERVAL = 60.0
TIMEOUT = 30.0
CLOCKS = 0.2  # seconds that two clocks may be read apart


def networked(database_url: str | None = None) -> Settings:
    return Settings(
        batch_interval=INTERVAL,
        upstream_url="http://127.0.0.1:1/{id}",
        upstream_timeout=TIMEOUT,
        database_url=database_url,
    )


def test_only_what_is_called_over_the_network_can_be_sent_late() -> None:
    clock, settings = SystemClock(), networked()

    assert LaneFactory(settings, clock, {}).send_limit("default") == TIMEOUT
    assert LaneFactory(settings, clock, {"default": EndlessUpstream()}).send_limit("default") == 0
    assert LaneFactory(Settings(), clock, {}).send_limit("default") == 0


def assert_waits_from(last_start: float, started: float, begun: float, now: float) -> None:
    """It counts from when the call was sent at the latest: when its time was up, or this process began."""
    sent = last_start - START_BUDGET
    earliest, latest = min(begun, started + TIMEOUT), min(now, started + TIMEOUT)
    assert earliest - CLOCKS <= sent <= latest + CLOCKS


@pytest.mark.parametrize("ago", [10.0, 50.0])
def test_process_that_takes_up_a_file_waits_from_then(path: Path, run: Run, ago: float) -> None:
    clock = SystemClock()
    started = clock.now() - ago
    journal = FileJournal(path, clock)
    job = accepted(0)
    run(journal.append([job, Started(job.ingestion_id, (0, 1, 2), started)]))
    run(journal.close())

    async def scenario() -> float:
        service = LocalService(networked(f"sqlite:///{path}"), clock, {})
        async with service.running() as lanes:
            return lanes["default"].pace.last_start

    begun = clock.now()
    assert_waits_from(run(scenario()), started, begun, clock.now())


@pytest.mark.parametrize("ago", [10.0, 50.0])
def test_process_that_takes_over_a_lane_waits_from_then(database_url: str, run: Run, ago: float) -> None:
    clock = SystemClock()
    settings = networked(database_url)
    job = accepted(0)
    with opened_journal(settings, run) as journal:
        journal.attach(lambda event: None, lambda saved: None)
        run(journal.append([job]))
        run(journal.append([Started(job.ingestion_id, (0, 1, 2), clock.now())]))
        # Whoever runs a lane records no start in the past.
        with psycopg.connect(database_url) as connection:
            row = connection.execute(
                "UPDATE sluice.lanes SET last_start = last_start - %s RETURNING last_start - sluice.database_time()",
                (ago,),
            ).fetchone()
            assert row
            started = clock.now() + row[0]

    async def scenario() -> float:
        service = SharedService(settings, clock, {})
        async with service.running() as lanes:
            await until(lambda: lanes["default"].running is None)
            return lanes["default"].pace.last_start

    begun = clock.now()
    assert_waits_from(run(scenario()), started, begun, clock.now())
