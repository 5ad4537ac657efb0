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


# Seconds that an upstream whose time is up has to let go of its calls before the next batch may start.
CANCEL_GRACE = 1.0
LONGEST_ERROR = 1000


class Dispatcher:
    """Starts one batch of a lane per slot, never two at a time.

    `upstream_timeout` is seconds per batch, None for no limit. Whatever the
    upstream does (raise, hang, be cancelled from within), the batch ends and the
    next has its slot.
    """

    def __init__(self, lane: Lane, upstream: Upstream, clock: Clock, upstream_timeout: float | None) -> None:
        self.lane = lane
        self.lock = asyncio.Lock()
        self._upstream = upstream
        self._clock = clock
        self._upstream_timeout = upstream_timeout
        self._drained_at: float | None = None

    @asynccontextmanager
    async def running(self, grace: float) -> AsyncIterator[None]:
        """Dispatch in the background; a running batch has `grace` seconds from `drain`, or from leaving, to finish."""
        task = asyncio.create_task(self.run(), name="dispatcher")
        try:
            yield
        finally:
            left = self.drain() + grace - self._clock.now()
            try:
                async with asyncio.timeout(left):
                    await self.lock.acquire()
            except TimeoutError:
                logger.warning("a batch was still running after the grace of %g s and was cut off", grace)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def drain(self) -> float:
        """Start no further batch; return since when, in seconds on the clock."""
        if self._drained_at is None:
            self._drained_at = self._clock.now()
        return self._drained_at

    async def run(self) -> None:
        """Dispatch until drained or cancelled."""
        try:
            while self._drained_at is None:
                await self.lane.backlog.wait()
                await self._clock.sleep_until(self.lane.next_start(self._clock.now()))
                async with self.lock:
                    if self._drained_at is None:
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

        async def attempt() -> None:
            # The upstream counts from the call, and other tasks may have taken time since the decision.
            self.lane.pace.started(self._clock.now())
            await self._upstream.process(batch)

        # A task of its own: a cancellation that the upstream raises itself must not end the
        # dispatcher, and one that it swallows must not hold it.
        call = asyncio.create_task(attempt())
        try:
            await asyncio.wait({call}, timeout=self._upstream_timeout)
            in_time = call.done()
        finally:
            call.cancel()
        if not in_time:
            await asyncio.wait({call}, timeout=CANCEL_GRACE)
            return f"no answer within {self._upstream_timeout:g} s"
        if call.cancelled():
            return "the upstream call was cancelled"
        match call.exception():
            case None:
                return None
            case UpstreamError() as error:
                # What a client could not be shown, it is not shown; nor is a whole page of it kept.
                return str(error).encode(errors="replace").decode()[:LONGEST_ERROR]
            case error:
                # Only the kind goes to clients: the text of a foreign error may hold a secret.
                logger.warning("the upstream raised", exc_info=error)
                return type(error).__name__
