"""How fast 5-ID jobs are accepted and shown over HTTP: in memory beside two yardsticks, and on a file beside memory."""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from shutil import which
from statistics import median
from typing import NamedTuple

from benchmarks.table import print_table, uvicorn, verdict
from sluice.keys import Role, make_key

SLUICE, FULL, DURABLE = "Sluice, memory", "Sluice, memory, keys and idempotency keys", "Sluice, file"
EMPTY, NAIVE = "empty FastAPI route", "naive"
APPS = {
    SLUICE: "main:app",
    FULL: "main:app",
    DURABLE: "main:app",
    EMPTY: "benchmarks.apps:empty",
    NAIVE: "benchmarks.apps:naive",
}
# What is divided by what, and the least that may come of it.
LEAST = {FULL: (EMPTY, 1.2), SLUICE: (NAIVE, 2.5), DURABLE: (SLUICE, 0.5)}
MOST_P99 = 1 / 3  # of the naive one's
LEAST_STATUS = 1.2
ROUNDS = 5
SECONDS = 4
SCRIPT = """
wrk.method = "POST"
wrk.body = '{"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"}'
wrk.headers["Content-Type"] = "application/json"
"""
WITH_KEYS = """
wrk.headers["X-API-Key"] = "%s"
local number = 0
request = function()
    number = number + 1
    wrk.headers["Idempotency-Key"] = "job-" .. number
    return wrk.format()
end
"""


class Load(NamedTuple):
    """What one run of wrk came to: requests per second, and p99 in milliseconds."""

    rate: float
    p99: float


def load(port: int, script: Path, connections: int = 32, seconds: float = SECONDS) -> Load:
    """Return what wrk says of posting to `/ingest` as a script of its says; fail on any answer but 2xx."""
    return wrk(f"http://127.0.0.1:{port}/ingest", "-s", os.fspath(script), f"-c{connections}", f"-d{seconds:g}s")


def wrk(url: str, *options: str) -> Load:
    """Return what wrk says of a URL; fail on any answer but 2xx."""
    command = ["wrk", "-t1", "-c32", f"-d{SECONDS}s", "--latency", *options, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in output, output
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    assert rate, output
    assert p99, output
    return Load(float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]])


def accepting() -> list[list[str]]:
    """Take turns, so that a drift of the machine's speed hits all alike, and compare the medians."""
    runs: dict[str, list[Load]] = {name: [] for name in APPS}
    secret, entry = make_key("bench", Role.SUBMIT)
    with tempfile.TemporaryDirectory() as folder:
        plain, with_keys = Path(folder) / "plain.lua", Path(folder) / "keys.lua"
        plain.write_text(SCRIPT)
        with_keys.write_text(SCRIPT + WITH_KEYS % secret)
        for number in range(ROUNDS):
            for name, app in APPS.items():
                settings = {
                    DURABLE: {"DATABASE_URL": f"sqlite:///{folder}/{number}.db"},
                    FULL: {"API_KEYS": entry},
                }.get(name, {})
                with uvicorn(app, LOG_LEVEL="WARNING", **settings) as port:
                    runs[name].append(load(port, with_keys if name == FULL else plain))
    rows = [row(name, runs, *LEAST.get(name, (None, 0.0))) for name in APPS]
    ours, naive = (median(run.p99 for run in runs[name]) for name in (SLUICE, NAIVE))
    target = f"{ours / naive:.2f} x {NAIVE} (≤ {MOST_P99:.2f})"
    return [*rows, [f"p99 of {SLUICE}", "", "", f"{ours:.1f}", target, verdict(ours <= MOST_P99 * naive)]]


def showing() -> list[list[str]]:
    """Ask for the status of a job with two batches, taking turns with a route that answers nothing."""
    runs: dict[str, list[Load]] = {SLUICE: [], EMPTY: []}
    for _ in range(ROUNDS):
        for name, each in runs.items():
            with uvicorn(APPS[name], LOG_LEVEL="WARNING") as port:
                each.append(wrk(f"http://127.0.0.1:{port}{submit(port)}"))
    return [row(SLUICE, runs, EMPTY, LEAST_STATUS), row(EMPTY, runs, None, 0.0)]


def submit(port: int) -> str:
    """Submit a job with two batches; return where its status is."""
    body = json.dumps({"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/ingest", body, headers)
    with urllib.request.urlopen(request) as response:
        return str(response.headers.get("Location", "/status/none"))


def row(name: str, runs: dict[str, list[Load]], yardstick: str | None, least: float) -> list[str]:
    """Return the row of a server, beside what it is to be compared with."""
    rates = [run.rate for run in runs[name]]
    cells = [
        name,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{median(run.p99 for run in runs[name]):.1f}",
    ]
    if yardstick is None:
        return [*cells, "", ""]
    ratio = median(rates) / median(run.rate for run in runs[yardstick])
    return [*cells, f"{ratio:.2f} x {yardstick} (≥ {least})", verdict(ratio >= least)]


if __name__ == "__main__":
    if which("wrk") is None:
        sys.exit("benchmarks.accept needs wrk: apt-get install wrk")
    header = ["server", "requests/s", "min to max", "p99 ms", "target", ""]
    how = f"wrk, 32 connections, median of {ROUNDS} runs of {SECONDS} s each, taking turns"
    print_table(f"Accepting 5-ID jobs: {how}", header, accepting())
    print_table(f"Status of a 5-ID job: {how}", header, showing())
