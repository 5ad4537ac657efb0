"""The background task: wait for the slot, take a batch, call the upstream under the lock, record."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from sluice.clock import Clock
from sluice.events import Ended, Event, Finished, Held, Interrupted, Part, Started
from sluice.ingestion import NEVER, Batch
from sluice.journal import EarlyError, JournalError, LeaseLostError
from sluice.lane import Lane
from sluice.pace import START_BUDGET
from sluice.quiet import LEAD
from sluice.retry import RetryPolicy
from sluice.upstream import Answer, PreparedUpstream, Upstream, UpstreamError, UpstreamUnavailable, answers_of, together

logger = logging.getLogger(__name__)

# Seconds that an upstream whose time is up has to let go of its calls before the next batch may start.
CANCEL_GRACE = 1.0
JOURNAL_RETRY = 1.0  # seconds


class Limits(NamedTuple):
    """What an upstream is granted: seconds per batch (None for no limit) and bytes per answer."""

    timeout: float | None
    max_result_bytes: int


class Dispatcher:
    """Starts one batch of a lane per slot, never two at a time.

    Whatever the upstream does (raise, hang, be cancelled from within), the batch
    ends and the next has its slot.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is another's to make
        self,
        lane: Lane,
        upstream: Upstream,
        clock: Clock,
        retry: RetryPolicy,
        limits: Limits,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take what tells whether this process has the lane right now; if it does not, nothing is called."""
        self.lane = lane
        self.lock = asyncio.Lock()
        self._upstream = upstream
        self._preparing = upstream if isinstance(upstream, PreparedUpstream) else None
        self._clock = clock
        self._retry = retry
        self._limits = limits
        self._may_send = may_send
        self._drained_at: float | None = None

    @asynccontextmanager
    async def running(self, grace: float, on_failure: Callable[[], object] = lambda: None) -> AsyncIterator[None]:
        """Dispatch in the background; a running batch has `grace` seconds from `drain`, or from leaving, to finish.

        None if the block is left by an exception, or cancelled.
        `on_failure` is called should a bug end the dispatching.
        """
        task = asyncio.create_task(self.run(), name="dispatcher")
        task.add_done_callback(lambda task: task.cancelled() or task.exception() is None or on_failure())
        try:
            yield
            left = self.drain() + grace - self._clock.now()
            try:
                async with asyncio.timeout(left):
                    await self.lock.acquire()
            except TimeoutError:
                logger.warning("a batch was still running after the grace of %g s and was cut off", grace)
        finally:
            self.drain()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def drain(self) -> float:
        """Start no further batch; return since when, in seconds on the clock."""
        if self._drained_at is None:
            self._drained_at = self._clock.now()
        return self._drained_at

    async def run(self) -> None:
        """Dispatch until drained or cancelled; raise `LeaseLostError` if the lane is another's."""
        try:
            while self._drained_at is None:
                if self.lane.running is not None:
                    # Nothing of this dispatcher's runs here: its predecessor is gone, or a start was recorded unheard.
                    await self._decide_surely(self._interrupt)
                self.lane.backlog.became_ready.clear()
                now = self._clock.now()
                at = self.lane.next_start(now)
                prepare_at = at - self._lead
                if prepare_at <= now < at:
                    self._prepare(now)
                if now < at - LEAD:
                    self.lane.quiet.end(self.lane.name)
                    await self._wait(prepare_at if now < prepare_at else at - LEAD)
                    continue
                self.lane.quiet.begin(self.lane.name)
                if now < at:
                    await self._wait(at)
                    continue
                try:
                    async with self.lock:
                        if self._drained_at is None:
                            await self._dispatch()
                except EarlyError as error:
                    await self._clock.sleep_until(self._clock.now() + error.seconds)
        except LeaseLostError:
            raise
        except Exception:
            logger.critical("the dispatcher stopped: no further batch will start", exc_info=True)
            raise

    @property
    def _lead(self) -> float:
        return LEAD if self._preparing is None else max(LEAD, self._preparing.lead)

    def _prepare(self, now: float) -> None:
        """Have the upstream prepare for what would start now: what does start is decided when it does."""
        if self._preparing is not None and self._may_send():
            count = sum(len(batch.ids) for batch in self.lane.next_batches(now))
            try:
                self._preparing.prepare(count)
            except Exception:  # the batch has its slot all the same
                logger.warning("the upstream could not prepare", exc_info=True)

    def _runs(self, batches: Sequence[Batch]) -> bool:
        """Return whether it is these batches that are recorded as running."""
        running = self.lane.running
        return running is not None and running.parts == tuple(batch[:2] for batch in batches)

    def _interrupt(self) -> Sequence[Event]:
        return [Interrupted(self._clock.now())] if self.lane.running else []

    async def _wait(self, at: float) -> None:
        """Return at `at`, or when something becomes ready that was not, which may be earlier."""
        wakers: set[asyncio.Task[Any]] = {asyncio.create_task(self.lane.backlog.became_ready.wait())}
        if at < NEVER:
            wakers.add(asyncio.create_task(self._clock.sleep_until(at)))
        try:
            await asyncio.wait(wakers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waker in wakers:
                waker.cancel()

    async def _dispatch(self) -> None:
        batches = await self._start()
        if not batches:
            self.lane.quiet.end(self.lane.name)
            return
        answers = await self._call(together(batches))
        now, sent = self._clock.now(), self.lane.pace.last_start
        self._log_failures(batches, answers)

        def finish() -> Sequence[Event]:
            running = self.lane.running
            if running is None or not self._runs(batches):
                return []  # recorded before, though the journal could not say so
            first, *others = self._ended(batches, answers, now)
            late = sent if sent > running.at + START_BUDGET else None
            finished = Finished(*first, now, self._clock.time(), tuple(others), late)
            if hold := self._retry.hold(answers):
                return [finished, Held(now + hold.seconds, hold.reason)]
            return [finished]

        # The next start waits for this record.
        approaching = asyncio.create_task(self._approach())
        try:
            await self._decide_surely(finish)
        finally:
            approaching.cancel()

    async def _approach(self) -> None:
        """Have it quiet when the next start is near, if there is one to come."""
        await self._clock.sleep_until(self.lane.pace.ready_at - LEAD)
        if self.lane.waiting_ids and not self.lane.paused:
            self.lane.quiet.begin(self.lane.name)

    def _ended(self, batches: Sequence[Batch], answers: Sequence[Answer], now: float) -> Iterator[Ended]:
        """Yield what the answers to all IDs of a slot lead to, batch by batch."""
        left = iter(answers)
        for batch in batches:
            own = [*islice(left, len(batch.ids))]
            ingestion = self.lane.ingestions[batch.ingestion_id]
            yield Ended(batch.ingestion_id, self._retry.outcomes(ingestion, batch.positions, own, now))

    def _log_failures(self, batches: Sequence[Batch], answers: Sequence[Answer]) -> None:
        whose = ((item, batch) for batch in batches for item in batch.ids)
        for (item, batch), answer in zip(whose, answers, strict=True):
            if isinstance(answer, UpstreamError):
                about = {"lane": self.lane.name, "ingestion_id": batch.ingestion_id, "ids": batch.ids}
                logger.warning("ID %d: %s", item, answer, extra=about)

    async def _start(self) -> list[Batch]:
        """Take what has the next slot and record its start; return nothing if there is nothing, or no recording it."""
        batches: list[Batch] = []

        def start() -> Sequence[Event]:
            nonlocal batches
            if (running := self.lane.running) is not None:
                # If it is this one, a try recorded it whose success was not heard of: once more, if it still may.
                return [running] if self._runs(batches) else []
            batches = []
            now = self._clock.now()
            # A pause or a cancellation may have come while another decision was made.
            if self.lane.next_start(now) > now or not (batches := self.lane.next_batches(now)):
                return []
            first, *others = (Part(batch.ingestion_id, batch.positions) for batch in batches)
            return [Started(*first, now, tuple(others))]

        try:
            await self.lane.decide(start, is_urgent=True)
        except JournalError as error:
            logger.warning("no batch can start: %s", error)
            await self._clock.sleep_until(self._clock.now() + JOURNAL_RETRY)
            return []
        if not self._runs(batches):
            return []
        while (started := self.lane.running) and (late := self._clock.now() - started.at) > START_BUDGET:
            # As slow as this the journal will be again: what it records must not be long past by then.
            await self._decide_surely(partial(list[Event], [started._replace(at=self._clock.now() + 2 * late)]))
        return batches

    async def _decide_surely(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Decide, however often it takes until the journal can record it."""
        while True:
            try:
                await self.lane.decide(propose, is_urgent=True)
            except JournalError as error:
                logger.warning("a batch cannot be recorded: %s", error)
                await self._clock.sleep_until(self._clock.now() + JOURNAL_RETRY)
            else:
                return

    async def _call(self, batch: Batch) -> list[Answer]:
        """Call the upstream and return what came of each ID; raise `LeaseLostError` if that is another's to do."""

        async def attempt() -> object:
            if not self._may_send():
                raise LeaseLostError(f"lane {self.lane.name}: its lease ran out before the call")
            # The upstream counts from the call, and the journal and other tasks took time since the decision.
            self.lane.pace.started(self._clock.now())
            # Until it is sent, as it will tell; but a connection to be made can take long, and needs no quiet.
            asyncio.get_running_loop().call_later(LEAD, self.lane.quiet.end, self.lane.name)
            return await self._upstream.process(batch)

        # A task of its own: a cancellation that the upstream raises itself must not end the
        # dispatcher, and one that it swallows must not hold it.
        call = asyncio.create_task(attempt())
        try:
            await asyncio.wait({call}, timeout=self._limits.timeout)
            in_time = call.done()
        finally:
            call.cancel()
        result: object
        if not in_time:
            await asyncio.wait({call}, timeout=CANCEL_GRACE)
            result = UpstreamUnavailable(f"no answer within {self._limits.timeout:g} s")
        elif call.cancelled():
            result = UpstreamUnavailable("the upstream call was cancelled")
        elif (result := call.exception()) is None:
            result = call.result()
        elif isinstance(result, LeaseLostError):
            raise result
        elif not isinstance(result, UpstreamError):
            logger.warning("the upstream raised", exc_info=result)
        return answers_of(batch, result, self._limits.max_result_bytes)
