"""Who runs a lane's dispatcher, of several processes: PgQueuer decides, with one job per lane that never ends."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.qm import QueueManager

from sluice.engine import RETRY, LaneQueries, Lease, PoolDriver
from sluice.journal import JournalError, LeaseLostError
from sluice.journal.postgres_database import Database
from sluice.journal.postgres_schema import ENGINE

logger = logging.getLogger(__name__)

POLL = 0.5  # seconds, at most, after which a lane that nobody runs is noticed

RunLane = Callable[[str, asyncio.Event, Callable[[], bool]], Awaitable[None]]
"""Runs a lane's dispatcher until the event is set, and what then still runs is done; raises `LeaseLostError`.

The function tells whether this process has the lane's lease right now.
"""


class Fleet:
    """Stands by to run lanes, as many as are this process's share, until told to stop."""

    def __init__(self, database: Database, lanes: Sequence[str], lease: float, run_lane: RunLane) -> None:
        """Take the lanes that this process can run, and the seconds without a sign of life that a lease outlasts."""
        # What it logs, tracebacks and all, is what is told in here in a line.
        logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
        self._lanes = lanes
        self._lease = lease
        self._run_lane = run_lane
        self._stopping = asyncio.Event()
        self._releases: dict[str, asyncio.Event] = {}
        driver = PoolDriver(database, self._stopping)
        self._queries = LaneQueries(driver, lanes, lease, lambda: len(self._releases), self._give_back)

    @asynccontextmanager
    async def standing_by(self, grace: float) -> AsyncIterator[None]:
        """Run lanes in the background; when the block is left, what runs has `grace` seconds to be handed over."""
        task = asyncio.create_task(self._stand_by(), name="fleet")
        try:
            yield
        finally:
            self.stop()
            await asyncio.wait({task}, timeout=grace + self._lease)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def stop(self) -> None:
        """Hand every lane over as soon as its running batch is done, and take no other."""
        self._stopping.set()
        for release in self._releases.values():
            release.set()

    async def _stand_by(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._work()
            except JournalError as error:
                logger.warning("no lane can be taken over: %s", error)
            except Exception:  # a bug in here must not leave the lanes to nobody
                logger.exception("standing by failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY):
                    await self._stopping.wait()
        with suppress(JournalError):
            await self._queries.leave()

    async def _work(self) -> None:
        """Be one worker of the engine's until told to stop, or until it fails."""
        manager = QueueManager(self._queries, channel=ENGINE.channel)
        self._queries.manager_id = str(manager.queue_manager_id)
        self._queries.leases.clear()  # an earlier one's turns have all ended
        manager.shutdown = self._stopping
        for lane in self._lanes:
            manager.entrypoint(lane, concurrency_limit=1)(self._hold)
        await manager.run(
            dequeue_timeout=timedelta(seconds=min(POLL, self._lease / 4)),
            batch_size=1,
            heartbeat_timeout=timedelta(seconds=self._lease),
            log_aggregation_interval=timedelta(0),
        )

    async def _hold(self, job: Job) -> None:
        """Run a lane for as long as this process has its lease."""
        lane, lease = str(job.entrypoint), self._queries.leases[job.id]
        release = self._releases[lane] = asyncio.Event()
        if self._stopping.is_set():
            release.set()
        running = asyncio.create_task(self._run(lane, release, lease), name=f"lane {lane}")
        lost = asyncio.create_task(lease.lost())
        try:
            await asyncio.wait({running, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel()
            lost.cancel()
            await asyncio.wait({running, lost})
            del self._releases[lane]
        failure = None if running.cancelled() else running.exception()
        if running.cancelled() or isinstance(failure, LeaseLostError):
            logger.warning("lane %s: its lease is lost", lane)
        if self._stopping.is_set():
            with suppress(JournalError):
                await self._queries.leave()
        # A bug would be the next process's as well: not at once then.
        is_bug = failure is not None and not isinstance(failure, LeaseLostError)
        raise RetryRequested(timedelta(seconds=self._lease if is_bug else 0), "handed over") from failure

    async def _run(self, lane: str, release: asyncio.Event, lease: Lease) -> None:
        logger.info("lane %s: running it", lane)
        while True:
            try:
                await self._run_lane(lane, release, lease.is_held)
            except JournalError as error:
                logger.warning("lane %s: %s", lane, error)
                await asyncio.sleep(RETRY)
            else:
                return

    def _give_back(self, share: int) -> None:
        """Let other processes have what this one runs beyond its share."""
        kept = [release for release in self._releases.values() if not release.is_set()]
        for release in kept[share:]:
            release.set()
