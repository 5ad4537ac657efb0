"""A gate that notes when it is held, and a bench whose upstream ends the quiet."""

import asyncio

import pytest

from sluice.ingestion import Batch
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop


class RecordingGate:
    """Notes from when to when it was held, in seconds on the loop."""

    def __init__(self) -> None:
        self.held: list[tuple[float, float]] = []
        self._since: float | None = None

    def hold(self) -> None:
        assert self._since is None
        self._since = asyncio.get_running_loop().time()

    def go_on(self) -> None:
        assert self._since is not None
        self.held.append((self._since, asyncio.get_running_loop().time()))
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
