"""What a thousand listeners to the events cost: memory, CPU, lateness, and how soon each of them hears."""

import asyncio
import json
import time
from datetime import datetime
from itertools import pairwise
from statistics import mean, median, quantiles
from typing import Any, NamedTuple, cast

import httpx
import uvloop

from benchmarks.table import print_table, uvicorn, verdict

LISTENERS = 1000
INTERVAL = 0.2  # seconds
BATCHES = 50
IDLE = 20.0  # seconds: a heartbeat and more
SUBMISSIONS = 2000
MOST_PER_LISTENER = 40_000  # bytes
MOST_IDLE_SHARE = 0.05  # of a core
MOST_LATER = 5.0  # ms


class Costs(NamedTuple):
    """What a run cost. `heard` is the seconds that an event took to each listener."""

    memory: float
    idle_share: float
    lateness: list[float]
    submissions: float
    heard: list[float]


class Listener(asyncio.Protocol):
    """Listens, and notes when it heard of the pause: nothing else, for it shares the machine with the server."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.paused_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the events."""
        cast(asyncio.WriteTransport, transport).write(b"GET /events HTTP/1.1\r\nHost: sluice\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        """Note what matters."""
        if not self.connected.is_set() and b"event: reset" in data:
            self.connected.set()
        if not self.paused_at and b"event: paused" in data:
            self.paused_at = time.perf_counter()


async def listen(port: int) -> Listener:
    """Listen to a server; return once it has said so."""
    _, listener = await asyncio.get_running_loop().create_connection(Listener, "127.0.0.1", port)
    await listener.connected.wait()
    return listener


async def measured(client: httpx.AsyncClient, name: str) -> float:
    """Return a metric without labels."""
    text = (await client.get("/metrics")).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def run(port: int, listeners: int) -> Costs:
    """Measure a server with so many listeners."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        before = await measured(client, "process_resident_memory_bytes")
        everyone = [await listen(port) for _ in range(listeners)]
        memory = await measured(client, "process_resident_memory_bytes") - before
        cpu = await measured(client, "process_cpu_seconds_total")
        await asyncio.sleep(IDLE)
        idle_share = (await measured(client, "process_cpu_seconds_total") - cpu) / IDLE
        begun = time.perf_counter()
        await client.post("/queue/pause")
        await asyncio.sleep(1)
        heard = [each.paused_at - begun for each in everyone]
        await client.post("/queue/resume")
        lateness = await lateness_of(client)
        submissions = await submissions_of(port)
    return Costs(memory, idle_share, lateness, submissions, heard)


async def lateness_of(client: httpx.AsyncClient) -> list[float]:
    """Return how late, in ms against the interval after the start before, each of some batches started."""
    await client.post("/ingest", json={"ids": [1] * 3 * BATCHES, "priority": "HIGH"})
    await asyncio.sleep(INTERVAL * (BATCHES + 2))
    past: list[dict[str, Any]] = (await client.get(f"/slots?past={BATCHES}")).json()["past"]
    starts = [datetime.fromisoformat(slot["started_at"]).timestamp() for slot in past]
    return [1000 * (after - before - INTERVAL) for before, after in pairwise(starts)]


async def submissions_of(port: int) -> float:
    """Return how many small submissions a second one connection makes, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"ids": [1, 2, 3, 4, 5], "priority": "LOW"}).encode()
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    begun = time.perf_counter()
    for _ in range(SUBMISSIONS):
        writer.write(head.encode() + body)
        await reader.readuntil(b"}")
    return SUBMISSIONS / (time.perf_counter() - begun)


def compare() -> list[list[str]]:
    """Run with and without listeners; return the rows."""
    settings = {"BATCH_INTERVAL": str(INTERVAL), "UPSTREAM_DELAY": "0.001", "LOG_LEVEL": "WARNING"}
    with uvicorn("main:app", **settings) as port:
        alone = uvloop.run(run(port, 0))
    with uvicorn("main:app", **settings) as port:
        many = uvloop.run(run(port, LISTENERS))
    each = many.memory / LISTENERS
    later = mean(many.lateness) - mean(alone.lateness)
    heard = quantiles(many.heard, n=100)[98]
    return [
        ["memory per listener", "", f"{each / 1000:.1f} kB", "≤ 40 kB", verdict(each <= MOST_PER_LISTENER)],
        [
            "CPU while nothing happens",
            f"{100 * alone.idle_share:.2f} %",
            f"{100 * many.idle_share:.2f} %",
            "≤ 5 %",
            verdict(many.idle_share <= MOST_IDLE_SHARE),
        ],
        [
            "mean lateness of starts",
            f"{mean(alone.lateness):.2f} ms",
            f"{mean(many.lateness):.2f} ms",
            "≤ 5 ms more",
            verdict(later <= MOST_LATER),
        ],
        ["an event, until half have heard", "", f"{1000 * median(many.heard):.0f} ms", "", ""],
        ["an event, until 99 % have heard", "", f"{1000 * heard:.0f} ms", "", ""],
        [
            "submissions, each an event",
            f"{alone.submissions:,.0f}/s",
            f"{many.submissions:,.0f}/s",
            "",
            f"{many.submissions / alone.submissions:.2f}x",
        ],
    ]


if __name__ == "__main__":
    print_table(
        f"{LISTENERS:,} listeners to everything, on the machine that serves them, beside none",
        ["what", "none", f"{LISTENERS:,}", "target", ""],
        compare(),
    )
