"""Processes that stand by to run lanes of a real database, as the engine sees them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
from pgqueuer.domain.models import Job
from pgqueuer.ports.repository import EntrypointExecutionParameter
from psycopg.rows import dict_row

from sluice.clock import SystemClock
from sluice.engine import LaneQueries, Lease, PoolDriver
from sluice.journal.postgres_database import Database

LEASE = 60.0  # seconds, longer than any test takes
NOW = timedelta(0)


class Worker:
    """A process that stands by to run lanes, and runs those it gets for ever."""

    def __init__(self, url: str, lanes: Sequence[str] = ("default",)) -> None:
        self.database = Database(url, SystemClock(), pool_size=2, timeout=5.0)
        self.stopping = asyncio.Event()
        self.driver = PoolDriver(self.database, self.stopping)
        self.jobs: list[Job] = []
        self.shares: list[int] = []
        self._is_busy = False
        self._lanes = lanes
        self.queries = LaneQueries(self.driver, lanes, LEASE, self._held, self.shares.append)
        self.queries.manager_id = str(uuid4())

    async def ask(self) -> list[Job]:
        """Ask once for a lane."""
        entrypoints = {lane: EntrypointExecutionParameter(1) for lane in self._lanes}
        jobs = await self.queries.dequeue(1, entrypoints, self.queries.manager_id, None, timedelta(seconds=LEASE))
        self.jobs += jobs
        return jobs

    async def stand_by(self) -> None:
        """Ask once as one that runs all it can, so that the others know of this one."""
        self._is_busy = True
        assert await self.ask() == []
        self._is_busy = False

    async def take(self) -> Job:
        """Ask for a lane, and get one."""
        (job,) = await self.ask()
        return job

    async def take_all(self) -> list[Job]:
        """Ask for lanes until there is none."""
        jobs: list[Job] = []
        while more := await self.ask():
            jobs += more
        return jobs

    async def give_back(self, job: Job, delay: timedelta = NOW) -> None:
        """Run a lane no longer, and let others have it."""
        self.jobs = [each for each in self.jobs if each.id != job.id]
        await self.queries.retry_job(job, delay, None)

    def lease(self, job: Job) -> Lease:
        return self.queries.leases[job.id]

    def _held(self) -> int:
        return 1_000_000 if self._is_busy else len(self.jobs)


@asynccontextmanager
async def workers(url: str, *lanes: Sequence[str]) -> AsyncIterator[list[Worker]]:
    """Have a worker stand by for each of some sets of lanes."""
    async with AsyncExitStack() as stack:
        standing_by = [Worker(url, each) for each in lanes]
        for worker in standing_by:
            await stack.enter_async_context(worker.database.running(lambda: None))
            await worker.stand_by()
        yield standing_by


async def take_over(url: str, one: Worker, other: Worker) -> tuple[Job, Job]:
    """Have one take a lane and show no sign of life, and the other take it; return the turns of both."""
    lost = await one.take()
    grow_old(url, "pgqueuer", LEASE + 10)
    return lost, await other.take()


def only_job(url: str) -> dict[str, Any]:
    """Return the one job as it is in the table."""
    with psycopg.connect(url, options="-c search_path=sluice", row_factory=dict_row) as connection:
        (row,) = connection.execute("SELECT * FROM pgqueuer").fetchall()
        return row


def execute(url: str, statement: str, *parameters: object) -> None:
    with psycopg.connect(url, options="-c search_path=sluice") as connection:
        connection.execute(statement.encode(), parameters)


def grow_old(url: str, table: str, seconds: float) -> None:
    """Let the last signs of life in a table be so much older."""
    column = {"pgqueuer": "heartbeat", "workers": "seen"}[table]
    execute(url, f"UPDATE {table} SET {column} = {column} - %s", timedelta(seconds=seconds))
