"""How fast web processes on one PostgreSQL accept, and how soon the others know."""

import asyncio
import itertools
import re
import subprocess
import tempfile
import time
from array import array
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from uuid import uuid4

import httpx
import psycopg
import uvloop

from benchmarks.accept import SCRIPT, load
from benchmarks.fleet_processes import make_lanes, wait_for_workers
from benchmarks.table import uvicorn, verdict
from sluice.clock import SystemClock
from sluice.ingestion import Ingestion
from sluice.models import DEFAULT_LANE
from sluice.settings import Settings
from sluice.shared import SharedService
from tests.postgres import PostgresServer, binaries

ROUNDS = 3
SECONDS = 2
CONNECTIONS = 32
PROCESSES = (1, 2)
MEMORY, BARE = "memory", "pgbench"
DRIVER = "psycopg"
LEAST = {MEMORY: 0.4, BARE: 1.0, DRIVER: None}
INSERT = """
INSERT INTO bare (lane, ingestion_id, priority, created_time, batch_size, ids, changed_time)
VALUES ('default', {ingestion_id}, 1, extract(epoch FROM now()), 3, {ids}, extract(epoch FROM now()))
"""
IDS = [1, 2, 3, 4, 5]
PACKED = array("I", IDS).tobytes()
JOB = {"ids": IDS, "priority": "MEDIUM"}
SUBMISSIONS = 300
PAUSE = 0.02  # seconds
LONGEST_LAG = 0.02  # seconds
WARM_UP = 20


def make_bare(url: str) -> None:
    """Make a table like the ingestions', without anything else that accepting one does."""
    make_lanes(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare (LIKE sluice.ingestions INCLUDING ALL)")


def insert(url: str, folder: Path) -> float:
    """Return how many rows pgbench inserts per second, one per transaction."""
    make_bare(url)
    script = folder / "insert.sql"
    script.write_text(INSERT.format(ingestion_id="gen_random_uuid()", ids=f"'\\x{PACKED.hex()}'"))
    command = [f"{binaries()}/pgbench", "-n", f"-c{CONNECTIONS}", "-j2", f"-T{SECONDS}", "-f", f"{script}", url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"tps = ([\d.]+)", output)
    assert rate, output
    return float(rate[1])


async def insert_by_driver(url: str) -> float:
    """Return how many rows one process inserts per second through our own driver, one per transaction."""
    statement = INSERT.format(ingestion_id="%s", ids="%s").encode()
    deadline = time.perf_counter() + SECONDS

    async def insert_some() -> int:
        done = 0
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while time.perf_counter() < deadline:
                await connection.execute(statement, (uuid4(), PACKED))
                done += 1
        return done

    return sum(await asyncio.gather(*(insert_some() for _ in range(CONNECTIONS)))) / SECONDS


def accept(script: Path, url: str | None = None, processes: int = 1) -> float:
    """Return how many jobs per second so many web processes accept, each from its part of the connections."""
    settings = {} if url is None else {"DATABASE_URL": url}
    with ExitStack() as stack, ThreadPoolExecutor(processes) as clients:
        ports = [stack.enter_context(uvicorn("main:app", **settings)) for _ in range(processes)]
        if url is not None:
            wait_for_workers(url, processes)
        return sum(rate for rate, _ in clients.map(lambda port: load(port, script, CONNECTIONS // processes), ports))


def accepting(server: PostgresServer) -> list[list[str]]:
    """Measure everything in turns, each on an empty database."""
    numbers = itertools.count()

    def fresh() -> str:
        return server.create_database(f"accept_{next(numbers)}")

    runs: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(SCRIPT)
        for _ in range(ROUNDS):
            runs[MEMORY].append(accept(script))
            url = fresh()
            runs[BARE].append(insert(url, Path(folder)))
            runs[DRIVER].append(uvloop.run(insert_by_driver(url)))
            for processes in PROCESSES:
                runs[f"{processes} web"].append(accept(script, fresh(), processes))
    rates = {name: median(each) for name, each in runs.items()}
    rows = []
    for name, each in runs.items():
        figure = f"{rates[name]:,.0f}/s ({min(each):,.0f} to {max(each):,.0f})"
        if name in LEAST:
            rows.append([name, figure, "", "", ""])
            continue
        for yardstick, least in LEAST.items():
            ratio = rates[name] / rates[yardstick]
            target = ["", ""] if least is None else [f"≥ {least} x", verdict(ratio >= least)]
            rows.append([name, figure, f"{ratio:.2f} x {yardstick}", *target])
    return rows


class Arrivals(dict[str, Ingestion]):
    """A lane's ingestions, and when each of them came to be known."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, float] = {}

    def __setitem__(self, ingestion_id: str, ingestion: Ingestion) -> None:
        self.times[ingestion_id] = time.perf_counter()
        super().__setitem__(ingestion_id, ingestion)


async def submit(client: httpx.AsyncClient) -> tuple[str, float]:
    """Submit a small job; return its id and when the answer was there."""
    response = await client.post("/ingest", json=JOB)
    accepted = time.perf_counter()
    response.raise_for_status()
    return str(response.json()["ingestion_id"]), accepted


async def lags(url: str, first: int, second: int) -> tuple[list[float], list[float]]:
    """Return the seconds until a process knew by itself what another had accepted; and until a third answered for it.

    Both count from when the client had the answer to its submission.
    """
    service = SharedService(Settings(database_url=url), SystemClock(), {}, stands_by=False)
    arrivals, answered, found = Arrivals(), {}, []
    async with (
        service.running() as lanes,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{first}") as one,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{second}") as other,
    ):
        lanes[DEFAULT_LANE].ingestions = arrivals
        for number in range(SUBMISSIONS):
            ingestion_id, accepted = await submit(one)
            answered[ingestion_id] = accepted
            await asyncio.sleep(PAUSE)
            if number % 2:
                ingestion_id, accepted = await submit(one)
                (await other.get(f"/status/{ingestion_id}")).raise_for_status()
                found.append(time.perf_counter() - accepted)
        await asyncio.sleep(1)
    # What is known before the client has its answer has no lag.
    seen = [max(0.0, arrivals.times[ingestion_id] - at) for ingestion_id, at in answered.items()]
    return seen[WARM_UP:], found[WARM_UP:]


def lag(server: PostgresServer) -> list[list[str]]:
    """Measure how soon other processes know."""
    url = server.create_database("lag")
    with ExitStack() as stack:
        first, second = (stack.enter_context(uvicorn("main:app", DATABASE_URL=url, WORKER="off")) for _ in range(2))
        seen, found = uvloop.run(lags(url, first, second))
    rows = []
    for name, seconds, longest in (("known by itself", seen, LONGEST_LAG), ("GET /status at once", found, None)):
        p99 = quantiles(seconds, n=100, method="inclusive")[98]
        rows.append(
            [
                name,
                f"p99 {1000 * p99:.1f} ms",
                f"p50 {1000 * median(seconds):.1f} ms, longest {1000 * max(seconds):.1f} ms",
                "" if longest is None else f"p99 ≤ {1000 * longest:g} ms",
                "" if longest is None else verdict(p99 <= longest),
            ]
        )
    return rows
