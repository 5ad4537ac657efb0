"""The background task: wait for the slot, take a batch, call the upstream under the lock, record."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sluice.clock import Clock
from sluice.events import Finished, Started
from sluice.ingestion import Batch
from sluice.lane import Lane
from sluice.upstream import Upstream, UpstreamError

logger = logging.getLogger(__name__)


class Dispatcher:
    """Starts one batch of a lane per slot, never two at a time.

    `upstream_timeout` is seconds per batch. Whatever the upstream does (raise,
    hang, be cancelled from within), the batch ends and the next has its slot.
    """

    def __init__(self, lane: Lane, upstream: Upstream, clock: Clock, upstream_timeout: float) -> None:
        self.lane = lane
        self.lock = asyncio.Lock()
        self._upstream = upstream
        self._clock = clock
        self._upstream_timeout = upstream_timeout
        self._draining = False

    @asynccontextmanager
    async def running(self, grace: float) -> AsyncIterator[None]:
        """Dispatch in the background; on leaving, let a running batch finish within `grace` seconds."""
        task = asyncio.create_task(self.run(), name="dispatcher")
        try:
            yield
        finally:
            self.drain()
            try:
                async with asyncio.timeout(grace):
                    await self.lock.acquire()
            except TimeoutError:
                logger.warning("a batch was still running after the grace of %g s and was cut off", grace)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def drain(self) -> None:
        """Start no further batch."""
        self._draining = True

    async def run(self) -> None:
        """Dispatch until drained or cancelled."""
        try:
            while not self._draining:
                await self.lane.backlog.wait()
                await self._clock.sleep_until(self.lane.next_start(self._clock.now()))
                async with self.lock:
                    if not self._draining:
                        await self._dispatch()
        except Exception:
            logger.critical("the dispatcher stopped: no further batch will start", exc_info=True)
            raise

    async def _dispatch(self) -> None:
        batch = self.lane.next_batch()
        if batch is None:
            return
        await self.lane.record(Started(batch.ingestion_id, batch.batch_index, self._clock.now()))
        error = await self._call(batch)
        if error is not None:
            logger.warning("batch %s failed: %s", batch.batch_id, error)
        await self.lane.record(Finished(batch.ingestion_id, batch.batch_index, self._clock.now(), error))

    async def _call(self, batch: Batch) -> str | None:
        """Call the upstream and return why the batch failed, or None."""
        # A task of its own: a cancellation that the upstream raises itself must not end the
        # dispatcher, and one that it swallows must not hold it.
        call = asyncio.ensure_future(self._upstream.process(batch))
        try:
            await asyncio.wait({call}, timeout=self._upstream_timeout)
        finally:
            in_time = call.done()
            call.cancel()
        if not in_time:
            return f"no answer within {self._upstream_timeout:g} s"
        if call.cancelled():
            return "the upstream call was cancelled"
        match call.exception():
            case None:
                return None
            case UpstreamError() as error:
                return str(error)
            case error:
                # Only the kind goes to clients: the text of a foreign error may hold a secret.
                logger.warning("the upstream raised", exc_info=error)
                return type(error).__name__
