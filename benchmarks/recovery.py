"""How soon the service answers again after a restart on a file with much waiting work, beside an empty file."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import httpx

from benchmarks.table import print_table, uvicorn, verdict
from sluice.clock import SystemClock
from sluice.events import Event
from sluice.journal.sqlite import SqliteFile
from sluice.lane import Lane
from sluice.models import DEFAULT_LANE, Priority
from sluice.pace import Pace

SHAPES = {"nothing": (0, 0), "1,000 ingestions of 1,000 IDs": (1_000, 1_000), "100,000 ingestions of 10": (100_000, 10)}
TARGET = 2.0  # seconds
ROUNDS = 3
GROUP = 1_000


async def fill(path: Path, ingestions: int, ids: int) -> None:
    """Accept so much into a file, as a service would have."""
    clock = SystemClock()
    file = SqliteFile(path, clock)
    journal = file.journal(DEFAULT_LANE)
    lane = Lane(journal, Pace(5.0), 3)
    for first in range(0, ingestions, GROUP):
        events: Sequence[Event] = [
            lane.accept([1_000_000_007] * ids, Priority(number % 3), clock.time())
            for number in range(first, min(first + GROUP, ingestions))
        ]
        await lane.record(*events)
    await file.close()


def restart(path: Path) -> float:
    """Return the seconds from the start of a server to its first answer."""
    began = time.perf_counter()
    with uvicorn("main:app", DATABASE_URL=f"sqlite:///{path}") as port:
        httpx.get(f"http://127.0.0.1:{port}/queue", timeout=60).raise_for_status()
        return time.perf_counter() - began


def rows() -> list[list[str]]:
    """Measure every shape."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (ingestions, ids) in SHAPES.items():
            path = Path(folder) / f"{ingestions}.db"
            asyncio.run(fill(path, ingestions, ids))
            seconds = median(restart(path) for _ in range(ROUNDS))
            size = path.stat().st_size / 1e6
            table.append([name, f"{size:.1f}", f"{seconds:.2f} (< {TARGET:g})", verdict(seconds < TARGET)])
    return table


if __name__ == "__main__":
    print_table(
        f"Recovery: from the start of the process to its first answer, median of {ROUNDS}",
        ["waiting", "file MB", "seconds", ""],
        rows(),
    )
