"""What a flood by strangers does to those who have a key: how late batches start, how long small requests take."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from statistics import median, quantiles
from subprocess import DEVNULL, Popen
from typing import Any

import httpx
import uvloop

from benchmarks.table import print_table, uvicorn, verdict
from sluice.keys import Role, make_key

CONNECTIONS = (0, 64, 256)
INTERVAL = 0.1  # seconds
BATCHES = 100
PAUSE = 0.02  # seconds from one request of those with a key to the next
LATEST = 20.0  # ms, for 99 of 100 starts
LONGEST = 50.0  # ms, for 99 of 100 requests

SECRET, ENTRY = make_key("ann", Role.ADMIN)


@contextmanager
def flood(port: int, connections: int) -> Iterator[None]:
    """Have so many strangers ask as fast as they are turned away, from one core of the machine that serves them."""
    if not connections:
        yield
        return
    seconds = int(INTERVAL * BATCHES) + 10
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/queue"]
    strangers = Popen(command, stdout=DEVNULL)
    try:
        yield
    finally:
        strangers.terminate()
        strangers.wait()


async def measure(port: int) -> tuple[list[float], list[float]]:
    """Return how late batches started, and how long small submissions took, in ms."""
    headers = {"X-API-Key": SECRET}
    took: list[float] = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        await client.post("/ingest", json={"ids": [1] * 3 * (BATCHES + 1), "priority": "HIGH"})
        until = time.perf_counter() + INTERVAL * (BATCHES + 1)
        while (begun := time.perf_counter()) < until:
            response = await client.post("/ingest", json={"ids": [1, 2, 3], "priority": "LOW"})
            assert response.status_code == 200, response.text
            took.append(1000 * (time.perf_counter() - begun))
            await asyncio.sleep(PAUSE)
        past: list[dict[str, Any]] = (await client.get(f"/slots?past={BATCHES}")).json()["past"]
    starts = [datetime.fromisoformat(slot["started_at"]).timestamp() for slot in past]
    return [1000 * (after - before - INTERVAL) for before, after in pairwise(starts)], took


def compare() -> list[list[str]]:
    """Run with floods of several sizes; return the rows."""
    rows = []
    for connections in CONNECTIONS:
        settings = {"BATCH_INTERVAL": str(INTERVAL), "UPSTREAM_DELAY": "0.001", "LOG_LEVEL": "WARNING"}
        with uvicorn("main:app", API_KEYS=ENTRY, **settings) as port, flood(port, connections):
            late, took = uvloop.run(measure(port))
        late_99, took_99 = quantiles(late, n=100)[98], quantiles(took, n=100)[98]
        rows.append(
            [
                f"{connections}",
                f"{median(late):.1f}",
                f"{late_99:.1f}",
                f"{max(late):.1f}",
                verdict(late_99 <= LATEST),
                f"{median(took):.1f}",
                f"{took_99:.1f}",
                f"{max(took):.1f}",
                verdict(took_99 <= LONGEST),
            ]
        )
    return rows


if __name__ == "__main__":
    print_table(
        f"Strangers' connections that flood the server, ms: {BATCHES} starts {INTERVAL * 1000:.0f} ms apart,"
        " and submissions beside them",
        ["connections", "late p50", "p99", "max", "≤ 20", "submission p50", "p99", "max", "≤ 50"],
        compare(),
    )
