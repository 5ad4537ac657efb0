"""Virtual time: an event loop that jumps to its next timer, the clock that reads it, and a bench on both."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import async_solipsism

from sluice.dispatcher import Dispatcher, Limits
from sluice.events import Event
from sluice.ingestion import Batch, Ingestion
from sluice.journal import Journal, Result
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.models import Priority
from sluice.order import Order
from sluice.pace import Pace
from sluice.retry import RetryPolicy
from sluice.upstream import Upstream

EPOCH = 1_800_000_000.0
MILLISECOND = 0.001
MICROSECOND = 1e-6
TICK = 2e-6  # what the loop's microsecond resolution can be off by


class VirtualLoop(async_solipsism.EventLoop):  # type: ignore[misc]
    """Runs everything due in a stretch of virtual time, in order, at once."""

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.run_until_complete(asyncio.sleep(seconds))

    def finish(self) -> None:
        """End whatever still runs and close."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.close()


class VirtualClock:
    """The clock of a virtual loop; `wall_offset` sets the wall clock off, as an operator would."""

    def __init__(self, loop: VirtualLoop, origin: str = "boot") -> None:
        self._loop = loop
        self.origin = origin
        self.wall_offset = 0.0

    def now(self) -> float:
        return float(self._loop.time())

    def time(self) -> float:
        return EPOCH + self.wall_offset + self.now()

    async def sleep_until(self, at: float) -> None:
        while (remaining := at - self.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(max(remaining, MICROSECOND))


class Call(NamedTuple):
    """One batch as the upstream saw it."""

    at: float
    batch: Batch


class RecordingUpstream:
    """Notes when each batch came and behaves as `behave(batch)` says; by default it takes a second per ID."""

    def __init__(self, behave: Callable[[Batch], Coroutine[Any, Any, object]] | None = None) -> None:
        self.calls: list[Call] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._behave = behave

    async def process(self, batch: Batch) -> Any:
        self.calls.append(Call(asyncio.get_running_loop().time(), batch))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await (self._behave(batch) if self._behave else asyncio.sleep(len(batch.ids)))
        finally:
            self.in_flight -= 1

    @property
    def times(self) -> list[float]:
        return [call.at for call in self.calls]

    @property
    def ids(self) -> list[list[int]]:
        return [call.batch.ids for call in self.calls]


class Bench:
    """A lane with its dispatcher running in virtual time."""

    def __init__(
        self,
        loop: VirtualLoop,
        upstream: Upstream,
        *,
        interval: float = 5.0,
        batch_size: int = 3,
        timeout: float = 30.0,
        seconds_per_id: float = 1.0,
        journal: Journal | None = None,
        retry: RetryPolicy | None = None,
        aging: float | None = None,
        fills_slots: bool = False,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop)
        self.journal = journal or MemoryJournal()
        pace = Pace(interval, seconds_per_id)
        self.lane = Lane(self.journal, pace, batch_size, order=Order(aging), fills_slots=fills_slots)
        self.retry = retry or RetryPolicy(attempts=1, base=1.0, longest=60.0, longest_hold=600.0)
        limits = Limits(timeout, 65_536)
        self.dispatcher = Dispatcher(self.lane, upstream, self.clock, self.retry, limits, may_send)
        self._stopping = asyncio.Event()
        self._service: asyncio.Task[None] | None = None

    def start(self) -> "Bench":
        """Start the dispatcher and let it come to rest."""
        self._service = self.loop.create_task(self._serve())
        self.loop.advance(0)
        return self

    def stop(self) -> None:
        """Stop the dispatcher as the app's lifespan does."""
        assert self._service is not None
        self._stopping.set()
        self.loop.run_until_complete(self._service)

    def kill(self) -> None:
        """End the dispatcher, and what the upstream does for it, as a crash would."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.advance(0)

    async def _serve(self) -> None:
        async with self.dispatcher.running(grace=10.0):
            await self._stopping.wait()

    def submit(self, ids: Sequence[int], priority: Priority) -> Ingestion:
        """Accept an ingestion now, as the API does."""
        accepted = self.lane.accept(ids, priority, self.clock.time())
        self.loop.run_until_complete(self.lane.record(accepted))
        return self.lane.ingestions[accepted.ingestion_id]

    def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Decide something now, as the API does."""
        self.loop.run_until_complete(self.lane.decide(propose))

    def results(self, ingestion: Ingestion) -> list[Result]:
        """Return the results of an ingestion."""
        results: list[Result] = self.loop.run_until_complete(
            self.journal.results(ingestion.ingestion_id, 0, len(ingestion.ids))
        )
        return results

    def statuses(self, ingestion_id: str) -> list[str]:
        """Return the status of every batch of an ingestion."""
        ingestion = self.lane.ingestions[ingestion_id]
        return [ingestion.batch_status(index).value for index in range(ingestion.total)]
