"""What waiting work costs: 10 million IDs as a few large and as many small jobs, against 10 thousand."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.table import print_table, verdict
from sluice.api.describe import Description
from sluice.clock import SystemClock
from sluice.events import Finished, Outcome, Started
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.models import Priority
from sluice.pace import Pace
from sluice.schemas import ingest_request

SHAPES = {"10 jobs": (10, 1_000_000), "1,000,000 jobs": (1_000_000, 10)}
SMALLER_BY = {"10 jobs": (10, 1_000), "1,000,000 jobs": (1_000, 10)}
# Accepting a large job takes memory to parse it in, which is kept for the next one: it is not the backlog's.
WARM_UP = 3
REPEATS = 2_000
MEGABYTE = 1e6
MICROSECONDS = 1e6


class Cost(NamedTuple):
    """What one backlog cost: megabytes that accepting works in, seconds to accept it, bytes kept per ID, and more.

    Microseconds per dispatch and per status page.
    """

    working: float
    accept: float
    bytes_per_id: float
    dispatch: float
    status: float


def resident_bytes() -> int:
    """Return this process's resident set size."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def timed(act: Callable[[], object]) -> float:
    """Return the median microseconds of many calls."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return median(times) * MICROSECONDS


async def measure(jobs: int, ids_per_job: int) -> Cost:
    """Fill a fresh lane through the API's own validation, then dispatch from it and describe a job of it."""
    model = ingest_request(1_000_000)
    clock = SystemClock()
    lane = Lane(MemoryJournal(), Pace(0.0), 3)

    bodies = [
        json.dumps({"ids": [1_000_000_007] * ids_per_job, "priority": priority.name}).encode() for priority in Priority
    ]

    async def accept(job: int) -> None:
        wanted = model.model_validate_json(bodies[job % len(bodies)])
        await lane.record(lane.accept(wanted.ids, Priority[wanted.priority], clock.time()))

    idle = resident_bytes()
    for job in range(WARM_UP):
        await accept(job)
    before, began = resident_bytes(), time.perf_counter()
    for job in range(jobs):
        await accept(job)
    accepted = time.perf_counter() - began
    grown = resident_bytes() - before

    def dispatch() -> None:
        batch = lane.next_batch(clock.now())
        assert batch is not None
        lane.apply(Started(batch.ingestion_id, batch.positions, clock.now()))
        outcomes = tuple(Outcome(position, 1, data=b"null") for position in batch.positions)
        lane.apply(Finished(batch.ingestion_id, outcomes, clock.now(), clock.time()))

    last = list(lane.ingestions.values())[-1]
    page = range(min(last.total, 100))
    return Cost(
        (before - idle) / MEGABYTE,
        accepted,
        grown / (jobs * ids_per_job),
        timed(dispatch),
        timed(lambda: Description(lane, clock).status(last, page).model_dump_json()),
    )


def measure_apart(jobs: int, ids_per_job: int) -> Cost:
    """Measure in a process of its own, so that no run leaves memory to the next."""
    command = [sys.executable, "-m", "benchmarks.backlog", str(jobs), str(ids_per_job)]
    return Cost(*json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def rows() -> list[list[str]]:
    """Measure every shape, small and large."""
    table = []
    for name, (jobs, ids_per_job) in SHAPES.items():
        small = measure_apart(*SMALLER_BY[name])
        large = measure_apart(jobs, ids_per_job)
        dispatch, status = large.dispatch / small.dispatch, large.status / small.status
        few_bytes = large.bytes_per_id <= 6 or ids_per_job < 1000
        table.append(
            [
                f"10 M IDs as {name}",
                f"{large.working:.0f}",
                f"{large.accept:.2f}",
                f"{large.bytes_per_id:.2f}" + (" (≤ 6)" if ids_per_job > 1000 else ""),
                f"{large.dispatch:.1f} / {small.dispatch:.1f} = {dispatch:.2f} (≤ 2)",
                f"{large.status:.1f} / {small.status:.1f} = {status:.2f} (≤ 2)",
                verdict(few_bytes and dispatch <= 2 and status <= 2),
            ]
        )
    return table


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(measure(int(sys.argv[1]), int(sys.argv[2])))))
    else:
        print_table(
            "Waiting work: 10 million IDs against 10 thousand in jobs of the same number or size",
            [
                "backlog",
                "working MB",
                "accept s",
                "bytes per ID",
                "dispatch µs, against 10 k",
                "status µs, against 10 k",
                "",
            ],
            rows(),
        )
