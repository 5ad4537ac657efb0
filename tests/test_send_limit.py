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

    assert run(scenario()) == pytest.approx(started + min(ago, TIMEOUT) + START_BUDGET, abs=1.0)


@pytest.mark.parametrize("ago", [10.0, 50.0])
def test_process_that_takes_over_a_lane_waits_from_then(database_url: str, run: Run, ago: float) -> None:
    clock = SystemClock()
    started = clock.now() - ago
    settings = networked(database_url)
    job = accepted(0)
    with opened_journal(settings, run) as journal:
        journal.attach(lambda event: None, lambda saved: None)
        run(journal.append([job]))
        run(journal.append([Started(job.ingestion_id, (0, 1, 2), started)]))
        # Whoever runs a lane records no start in the past.
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE sluice.lanes SET last_start = last_start - %s", (ago,))

    async def scenario() -> float:
        service = SharedService(settings, clock, {})
        async with service.running() as lanes:
            await until(lambda: lanes["default"].running is None)
            return lanes["default"].pace.last_start

    assert run(scenario()) == pytest.approx(started + min(ago, TIMEOUT) + START_BUDGET, abs=1.0)
