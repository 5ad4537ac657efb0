"""Whether memory and the file stop growing under endless load, once as much expires as arrives."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import httpx
import uvloop

from benchmarks.table import print_table, uvicorn, verdict

RETENTION = 3.0  # seconds
SECONDS = 30
SAMPLES = 6
CLIENTS = 4
# How much more than at half-time there may be at the end.
TOLERANCE = 1.15


def the_child() -> int:
    """Return the id of the server's process."""
    return int(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()[-1])


def resident_megabytes(pid: int) -> float:
    """Return the resident set size of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def megabytes_of_files(path: Path) -> float:
    """Return the size of a database and of what SQLite keeps beside it."""
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*")) / 1e6


async def submit(client: httpx.AsyncClient, until: float) -> None:
    """Submit one small job after another."""
    while time.monotonic() < until:
        response = await client.post("/ingest", json={"ids": list(range(1, 10)), "priority": "LOW"})
        response.raise_for_status()
        await asyncio.sleep(0.02)


async def measure(backend: str, path: Path) -> list[str]:
    """Keep a server busy; return its memory and the size of its file from time to time, and a verdict."""
    file = {"DATABASE_URL": f"sqlite:///{path}"} if backend == "file" else {}
    settings = {"BATCH_INTERVAL": "0", "UPSTREAM_DELAY": "0", "BATCH_SIZE": "9", "RETENTION": str(RETENTION)}
    memory, size = [], []
    with uvicorn("main:app", **file, **settings) as port:
        pid = the_child()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until = time.monotonic() + SECONDS
            clients = [asyncio.create_task(submit(client, until)) for _ in range(CLIENTS)]
            for _ in range(SAMPLES):
                await asyncio.sleep(SECONDS / SAMPLES)
                memory.append(resident_megabytes(pid))
                size.append(megabytes_of_files(path))
            await asyncio.gather(*clients)
    half = SAMPLES // 2 - 1
    holds = memory[-1] <= TOLERANCE * memory[half] and size[-1] <= TOLERANCE * size[half]
    return [
        backend,
        " ".join(f"{each:.1f}" for each in memory),
        " ".join(f"{each:.1f}" for each in size) if file else "",
        verdict(holds),
    ]


async def rows() -> list[list[str]]:
    """Measure both backends."""
    with tempfile.TemporaryDirectory() as folder:
        return [await measure(backend, Path(folder) / "plateau.db") for backend in ("memory", "file")]


if __name__ == "__main__":
    print_table(
        f"Plateau: {CLIENTS} clients for {SECONDS} s, kept for {RETENTION:g} s, a look every {SECONDS / SAMPLES:g} s",
        ["backend", "memory MB", "file MB", ""],
        uvloop.run(rows()),
    )
