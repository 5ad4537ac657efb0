"""A gate that notes when it is held, and a bench whose upstream ends the quiet."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from sluice.ingestion import Batch
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.lane_factory import LaneFactory
from sluice.models import Priority
from sluice.quiet import Gate, Quiet
from sluice.sequencer import Sequencer
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop


class RecordingGate:
    """Notes from when to when it was held: what `read` says, by default seconds on the loop."""

    def __init__(self, read: Callable[[], float] = lambda: asyncio.get_running_loop().time()) -> None:
        self.held: list[tuple[float, float]] = []
        self._read = read
        self._since: float | None = None

    def hold(self) -> None:
        assert self._since is None
        self._since = self._read()

    def go_on(self) -> None:
        assert self._since is not None
        self.held.append((self._since, self._read()))
        self._since = None


def approximately(*held: tuple[float, float]) -> list[object]:
    return [pytest.approx(each, abs=TICK) for each in held]


def quiet_around(loop: VirtualLoop, interval: float = 5.0) -> tuple[Bench, RecordingGate]:
    """Return a bench whose upstream tells when it is called, and takes a second per ID, and a gate."""

    async def tell(batch: Batch) -> None:
        bench.lane.quiet.end("default")
        await asyncio.sleep(len(batch.ids))

    bench, gate = Bench(loop, RecordingUpstream(tell), interval=interval), RecordingGate()
    bench.lane.quiet.add(gate)
    return bench, gate


@asynccontextmanager
async def dispatching(factory: LaneFactory, ids: Sequence[int], gate: Gate) -> AsyncIterator[Lane]:
    """Dispatch IDs as a service would whose lane, and what it calls, are made by a factory."""
    lane = factory.lane("default", MemoryJournal(), Sequencer(), Quiet())
    lane.quiet.add(gate)
    await lane.record(lane.accept(ids, Priority.LOW, 0.0))
    async with AsyncExitStack() as stack:
        dispatcher = await factory.dispatcher(lane, stack)
        await stack.enter_async_context(dispatcher.running(grace=0))
        yield lane
