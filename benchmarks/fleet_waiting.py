"""What a million waiting ingestions in PostgreSQL cost: at a dispatch, at an answer, and at a start."""

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import httpx
import uvloop

from benchmarks.backlog import MICROSECONDS, timed
from benchmarks.fleet_processes import fill, make_lanes
from benchmarks.table import uvicorn, verdict
from sluice.api.describe import Description
from sluice.clock import SystemClock
from sluice.ingestion import Batch
from sluice.models import DEFAULT_LANE
from sluice.settings import Settings
from sluice.shared import SharedService
from tests.postgres import PostgresServer

FEW, MANY = 1_000, 1_000_000
IDS = 5
DISPATCHES = 500
DEARER = 2.0  # times, at most
STARTS = 2
LONGEST_START = 5.0  # seconds


class Cost(NamedTuple):
    """Microseconds per dispatch (its start and its end recorded), per status page and per forecast."""

    dispatch: float
    status: float
    forecast: float


class Stopwatch:
    """An upstream that takes no time and notes when it is called."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.done = asyncio.Event()

    async def process(self, batch: Batch) -> Sequence[object] | None:
        """Note the time."""
        self.times.append(time.perf_counter())
        if len(self.times) > DISPATCHES:
            self.done.set()
        return None


async def measure(url: str) -> Cost:
    """Run the one process there is on what waits, then ask it about the last job."""
    clock, upstream = SystemClock(), Stopwatch()
    settings = Settings(database_url=url, batch_interval=0)
    service = SharedService(settings, clock, {DEFAULT_LANE: upstream})
    async with service.running() as lanes:
        gc.freeze()
        await upstream.done.wait()
    lane = lanes[DEFAULT_LANE]
    last = lane.by_seq.peekitem()[1]
    return Cost(
        median(after - before for before, after in pairwise(upstream.times)) * MICROSECONDS,
        timed(lambda: Description(lane, service.clock).status(last, range(last.total)).model_dump_json()),
        timed(lambda: lane.forecast(last, clock.now())),
    )


def measure_apart(url: str) -> Cost:
    """Measure in a process of its own, so that its memory goes with it."""
    command = [sys.executable, "-m", "benchmarks.fleet_waiting", url]
    return Cost(*json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def start(url: str) -> float:
    """Return the seconds from the start of a web process to its first answer."""
    began = time.perf_counter()
    with uvicorn("main:app", DATABASE_URL=url) as port:
        httpx.get(f"http://127.0.0.1:{port}/queue", timeout=60).raise_for_status()
        return time.perf_counter() - began


def waiting(server: PostgresServer) -> list[list[str]]:
    """Measure what much waiting work costs, beside little."""
    urls = {}
    for number in (FEW, MANY):
        urls[number] = server.create_database(f"waiting_{number}")
        make_lanes(urls[number])
        fill(urls[number], number, IDS)
    few, many = measure_apart(urls[FEW]), measure_apart(urls[MANY])
    rows = []
    for name, small, large in zip(Cost._fields, few, many, strict=True):
        ratio = large / small
        rows.append(
            [
                name,
                f"{large:,.0f} µs",
                f"{small:,.0f} µs: {ratio:.2f} x",
                f"≤ {DEARER:g} x",
                verdict(ratio <= DEARER),
            ]
        )
    seconds = max(start(urls[MANY]) for _ in range(STARTS))
    beside = f"with {FEW:,}: {start(urls[FEW]):.2f} s"
    target = f"≤ {LONGEST_START:g} s"
    return [*rows, ["start to first answer", f"{seconds:.2f} s", beside, target, verdict(seconds <= LONGEST_START)]]


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(sys.argv[1]))))
