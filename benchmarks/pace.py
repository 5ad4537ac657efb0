"""How exactly batches start: the dispatcher over real HTTP, beside a loop that processes, then sleeps."""

import asyncio
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, quantiles
from tempfile import TemporaryDirectory
from typing import NamedTuple

import uvloop

from benchmarks.distant import distant
from benchmarks.table import print_table, uvicorn, verdict
from sluice.clock import SystemClock
from sluice.dispatcher import Dispatcher, Limits
from sluice.events import Event, Finished
from sluice.http_upstream import HttpUpstream
from sluice.ingestion import Batch
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.models import Priority
from sluice.pace import Pace
from sluice.retry import RetryPolicy


class Target(NamedTuple):
    """The least share of the permitted rate, and the longest p99 of the lateness, in ms."""

    share: float
    late: float


RUNS = [(0.05, 200, Target(0.97, 5)), (1.0, 20, Target(0.998, 5))]  # interval in seconds, batches
FAR = (1.2, 20, Target(0.99, 10))  # likewise: too long for connections to be kept
DISTANCE = 0.05  # seconds each way


class Sent(NamedTuple):
    """When calls of a batch were sent, in seconds on the clock. The pace counts from the last."""

    first: float
    last: float


class CountingJournal(MemoryJournal):
    """Notes when enough batches have ended."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.done = asyncio.Event()
        self._left = batches

    async def append(self, events: Sequence[Event]) -> None:
        """Count."""
        for event in events:
            if isinstance(event, Finished):
                assert all(outcome.error is None for outcome in event.outcomes), event.outcomes
                self._left -= 1
                if not self._left:
                    self.done.set()
        await super().append(events)


class Upstream(HttpUpstream):
    """Notes when the calls of each batch are sent: the first, and the last of those that are notably later."""

    def __init__(self, url: str, clock: SystemClock, note: Callable[[float], object] = lambda at: None) -> None:
        super().__init__(url, 5.0, 65_536, clock.time, on_sent=self._on_call)
        self.sent: list[Sent] = []
        self._clock = clock
        self._note = note

    async def process(self, batch: Batch) -> list[object]:
        """Call it."""
        self.sent.append(Sent(0.0, 0.0))
        return await super().process(batch)

    def _on_call(self) -> None:
        now = self._clock.now()
        self.sent[-1] = Sent(self.sent[-1].first or now, now)
        self._note(now)


async def dispatch(url: str, interval: float, batches: int) -> list[Sent]:
    """Return when Sluice sent the calls of each of `batches` batches."""
    journal = CountingJournal(batches)
    lane = Lane(journal, Pace(interval), 3)
    clock = SystemClock()
    retry = RetryPolicy(attempts=1, base=1.0, longest=60.0, longest_hold=600.0)
    async with (
        Upstream(url, clock, note=lane.pace.started) as upstream,
        Dispatcher(lane, upstream, clock, retry, Limits(30.0, 65_536)).running(grace=1.0),
    ):
        await lane.record(lane.accept([1] * (3 * batches), Priority.LOW, 0.0))
        await journal.done.wait()
    return upstream.sent


async def process_then_sleep(url: str, interval: float, batches: int) -> list[Sent]:
    """Return when a naive loop sent the calls of each batch."""
    batch = Batch("an ingestion", (0, 1, 2), [1, 1, 1], ["a batch"] * 3)
    async with Upstream(url, SystemClock()) as upstream:
        for _ in range(batches):
            await upstream.process(batch)
            await asyncio.sleep(interval)
    return upstream.sent


def row(who: str, name: str, interval: float, target: Target | None, sent: list[Sent]) -> list[str]:
    """Return the figures of one run, judged against the targets where there are any."""
    gaps = [after.first - before.last for before, after in pairwise(sent)]
    late = [1000 * (gap - interval) for gap in gaps]
    p99 = quantiles(late, n=100, method="inclusive")[98]
    share = interval * len(gaps) / (sent[-1].first - sent[0].first)
    holds = target and verdict(min(gaps) >= interval and share >= target.share and p99 <= target.late)
    return [
        name,
        who,
        *(f"{value:.3f}" for value in (mean(late), p99, max(late), 1000 * min(gaps))),
        f"{share:.4f}",
        f"≥ {target.share}, p99 ≤ {target.late:g} ms" if target else "",
        holds or "",
    ]


async def compare(url: str, where: str, interval: float, batches: int, target: Target) -> list[list[str]]:
    """Return the rows of both ways to an upstream."""
    name = f"{interval:g} s{where}"
    return [
        row("Sluice", name, interval, target, await dispatch(url, interval, batches)),
        row("process, then sleep", name, interval, None, await process_then_sleep(url, interval, batches)),
    ]


async def measure() -> list[list[str]]:
    """Run everything against one local upstream, the last as if it were far away."""
    with TemporaryDirectory() as folder, uvicorn("benchmarks.apps:upstream") as port:
        rows = [row for run in RUNS for row in await compare(f"http://127.0.0.1:{port}/items/{{id}}", "", *run)]
        certificate = Path(folder) / "authority.pem"
        with distant(port, DISTANCE, certificate) as far:
            os.environ["SSL_CERT_FILE"] = str(certificate)
            rows += await compare(f"https://localhost:{far}/items/{{id}}", f", TLS, {DISTANCE:g} s away", *FAR)
    return rows


if __name__ == "__main__":
    print_table(
        "Pace: 3 calls of 20 ms a batch; lateness against the interval after the start before",
        ["interval", "who", "mean late ms", "p99 late ms", "max late ms", "min gap ms", "share of rate", "target", ""],
        uvloop.run(measure()),
    )
