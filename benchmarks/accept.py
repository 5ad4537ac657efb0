"""How fast 5-ID jobs are accepted over HTTP: in memory beside two yardsticks, and on a file beside memory."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which
from statistics import median

from benchmarks.table import print_table, uvicorn, verdict

SLUICE, DURABLE = "Sluice, memory", "Sluice, file"
APPS = {
    SLUICE: "main:app",
    DURABLE: "main:app",
    "empty FastAPI route": "benchmarks.apps:empty",
    "naive": "benchmarks.apps:naive",
}
# Who is divided by whom, and what the least is.
TARGETS = {
    "empty FastAPI route": (SLUICE, "empty FastAPI route", 1.0),
    "naive": (SLUICE, "naive", 2.0),
    DURABLE: (DURABLE, SLUICE, 0.5),
}
ROUNDS = 5
SECONDS = 4
SCRIPT = """
wrk.method = "POST"
wrk.body = '{"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"}'
wrk.headers["Content-Type"] = "application/json"
"""


def load(port: int, script: Path, connections: int = 32, seconds: float = SECONDS) -> tuple[float, float]:
    """Return requests per second and p99 in milliseconds of one wrk run; fail on any answer but 2xx."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--latency",
        "-s",
        os.fspath(script),
        f"http://127.0.0.1:{port}/ingest",
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in output, output
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    assert rate, output
    assert p99, output
    return float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]


def measure() -> list[list[str]]:
    """Take turns, so that a drift of the machine's speed hits all alike, and compare the medians."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in APPS}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(SCRIPT)
        for number in range(ROUNDS):
            for name, app in APPS.items():
                file = {"DATABASE_URL": f"sqlite:///{folder}/{number}.db"} if name == DURABLE else {}
                with uvicorn(app, **file) as port:
                    figures[name].append(load(port, script))
    rates = {name: median(rate for rate, _ in runs) for name, runs in figures.items()}
    rows = []
    for name, runs in figures.items():
        dividend, divisor, least = TARGETS.get(name, (name, name, None))
        ratio = rates[dividend] / rates[divisor]
        rows.append(
            [
                name,
                f"{rates[name]:,.0f}",
                f"{min(rate for rate, _ in runs):,.0f} to {max(rate for rate, _ in runs):,.0f}",
                f"{median(p99 for _, p99 in runs):.1f}",
                "" if least is None else f"{dividend} / {divisor} = {ratio:.2f} (≥ {least})",
                "" if least is None else verdict(ratio >= least),
            ]
        )
    return rows


if __name__ == "__main__":
    if which("wrk") is None:
        sys.exit("benchmarks.accept needs wrk: apt-get install wrk")
    print_table(
        f"Accepting 5-ID jobs: wrk, 32 connections, median of {ROUNDS} runs of {SECONDS} s each, taking turns",
        ["server", "requests/s", "min to max", "p99 ms", "ratio", ""],
        measure(),
    )
