"""How exactly batches start: the dispatcher over real HTTP, beside a loop that processes, then sleeps."""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import mean, quantiles

import uvloop

from benchmarks.table import print_table, uvicorn, verdict
from sluice.clock import SystemClock
from sluice.dispatcher import Dispatcher, Limits
from sluice.events import Event, Finished, Started
from sluice.http_upstream import HttpUpstream
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.models import Priority
from sluice.pace import Pace
from sluice.retry import RetryPolicy

RUNS = [(0.05, 200, 0.97), (1.0, 20, 0.998)]  # interval in seconds, batches, least share of the permitted rate


class StartsJournal(MemoryJournal):
    """Notes when batches start, and when enough of them have ended."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.starts: list[float] = []
        self.done = asyncio.Event()
        self._left = batches

    async def append(self, events: Sequence[Event]) -> None:
        """Note the times."""
        for event in events:
            if isinstance(event, Started):
                self.starts.append(event.at)
            if isinstance(event, Finished):
                assert all(outcome.error is None for outcome in event.outcomes), event.outcomes
                self._left -= 1
                if not self._left:
                    self.done.set()
        await super().append(events)


async def dispatch(upstream: HttpUpstream, interval: float, batches: int) -> list[float]:
    """Return the start times of `batches` batches that Sluice dispatched."""
    journal = StartsJournal(batches)
    lane = Lane(journal, Pace(interval), 3)
    retry = RetryPolicy(attempts=1, base=1.0, longest=60.0, longest_hold=600.0)
    async with Dispatcher(lane, upstream, SystemClock(), retry, Limits(30.0, 65_536)).running(grace=1.0):
        await lane.record(lane.accept([1] * (3 * batches), Priority.LOW, 0.0))
        await journal.done.wait()
    return journal.starts


async def process_then_sleep(upstream: HttpUpstream, interval: float, batches: int) -> list[float]:
    """Return the start times of the naive loop."""
    clock = SystemClock()
    lane = Lane(StartsJournal(batches), Pace(interval), 3)
    await lane.record(lane.accept([1] * (3 * batches), Priority.LOW, 0.0))
    batch = lane.next_batch(clock.now())
    assert batch is not None
    starts = []
    for _ in range(batches):
        starts.append(clock.now())
        await upstream.process(batch)
        await asyncio.sleep(interval)
    return starts


def row(name: str, interval: float, least_share: float | None, starts: list[float]) -> list[str]:
    """Return the figures of one run, judged against the targets where there are any."""
    gaps = [after - before for before, after in pairwise(starts)]
    late = [1000 * (gap - interval) for gap in gaps]
    p99 = quantiles(late, n=100, method="inclusive")[98]
    share = interval * len(gaps) / sum(gaps)
    holds = "" if least_share is None else verdict(min(gaps) >= interval and share >= least_share and p99 <= 5)
    return [
        f"{interval:g} s",
        name,
        *(f"{value:.3f}" for value in (mean(late), p99, max(late), 1000 * min(gaps))),
        f"{share:.4f}",
        "" if least_share is None else f"≥ {least_share}",
        holds,
    ]


async def measure() -> list[list[str]]:
    """Run everything against one local upstream."""
    rows = []
    with uvicorn("benchmarks.apps:upstream") as port:
        async with HttpUpstream(f"http://127.0.0.1:{port}/items/{{id}}", 5.0, 65_536, time.time) as upstream:
            for interval, batches, least_share in RUNS:
                rows.append(row("Sluice", interval, least_share, await dispatch(upstream, interval, batches)))
                naive = await process_then_sleep(upstream, interval, batches)
                rows.append(row("process, then sleep", interval, None, naive))
    return rows


if __name__ == "__main__":
    print_table(
        "Pace: 3 calls of 20 ms a batch; lateness against the interval after the start before",
        ["interval", "who", "mean late ms", "p99 late ms", "max late ms", "min gap ms", "share of rate", "target", ""],
        uvloop.run(measure()),
    )
