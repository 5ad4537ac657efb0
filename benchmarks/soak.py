"""A real server under mixed load at 80 % of what the machine can do: memory, losses, order, pace, answers.

`SOAK_SECONDS` is for how long. `SOAK_DATABASE` is `memory`, or a `DATABASE_URL`; unset: a SQLite file.
`SOAK_SEED` draws the same again.
"""

import asyncio
import gc
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import linear_regression
from typing import Any, NamedTuple

import uvloop

from benchmarks.plateau import megabytes_of_files, resident_megabytes, the_child
from benchmarks.soak_audit import Pace, Records, audit, inversions, pace
from benchmarks.soak_load import Held, closed_loop, open_loop
from benchmarks.soak_mix import BATCH_SIZE, CLIENT_TIMEOUT, Mix
from benchmarks.soak_witnesses import Call, Naps, sleeper, upstream, witness
from benchmarks.table import print_table, serving, verdict
from sluice.keys import Role, make_key

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
DATABASE = os.environ.get("SOAK_DATABASE", "")
SEED = int(os.environ.get("SOAK_SEED") or random.randrange(2**32))
SHARE = 0.8  # of the capacity
SETTLING, MEASURING = 45.0, 15.0  # seconds of a closed loop: as long as it takes to fill the backlog, then to count
INTERVAL = 0.1  # seconds
RETENTION = 30.0  # seconds
SETTINGS = {
    "BATCH_INTERVAL": str(INTERVAL),
    "BATCH_SIZE": str(BATCH_SIZE),
    "RETENTION": str(RETENTION),
    "IDEMPOTENCY_TTL": str(RETENTION),
    "MAX_WAITING": "2000",
    "MAX_BACKLOG_IDS": "1500000",
    "CLIENT_TIMEOUT": str(CLIENT_TIMEOUT),
}
WARM_UP = max(SECONDS / 5, min(60.0, SECONDS / 2))  # seconds
MOST_GROWTH = 1.0  # MB a minute
MOST_EARLY = 0.001  # seconds
MOST_LATE = 0.02  # seconds
NEAR = 0.1  # seconds around a late start within which a late nap tells that it was the machine
LEAST_HELD = 0.99
PAGE = 1000
SHOWN = 5  # findings of a kind
ASKED_FOR = re.compile(r"ID \d+: answered 500")


class Sample(NamedTuple):
    """What the server held at a time, in seconds from the begin of the load."""

    at: float
    memory: float  # MB
    file: float  # MB
    kept_waiting: float  # seconds until then that it could have run and had no core


class Run(NamedTuple):
    """All that a run left."""

    mix: Mix
    capacity: float
    held: Held
    samples: list[Sample]
    listed: dict[str, dict[str, Any]]
    metrics: str
    ended_at: float


# The run


async def soak(port: int, pid: int, keys: dict[str, str], file: Path) -> Run:
    """Find out the capacity, load the server, and have everything stand still in the end."""
    mix = Mix(port, keys, SEED)
    # No collection of garbage: there is none, and half a million records to look at each time.
    gc.freeze()
    gc.disable()
    await closed_loop(mix, SETTLING)
    capacity = await closed_loop(mix, MEASURING)
    mix.rate = rate = SHARE * capacity
    print(f"capacity {capacity:,.0f} requests/s; {rate:,.0f}/s for {SECONDS:g} s", flush=True)
    mix.kinds.clear()
    samples: list[Sample] = []
    sampler = asyncio.create_task(sample(samples, pid, file))
    held = await open_loop(mix, SECONDS, rate)
    sampler.cancel()
    metrics = (await mix.read("/metrics")).body.decode()
    await mix.end()
    await mix.command("/queue/pause")
    while json.loads((await mix.read("/queue")).body)["running"] is not None:  # noqa: ASYNC110 - it is told by asking
        await asyncio.sleep(INTERVAL)
    listed, ended_at = await everything(mix), time.monotonic()
    return Run(mix, capacity, held, samples, listed, metrics, ended_at)


async def sample(samples: list[Sample], pid: int, file: Path) -> None:
    """Look at the server once a second until cancelled."""
    begun = time.monotonic()
    while True:
        held = resident_megabytes(pid), megabytes_of_files(file), kept_waiting(pid)
        samples.append(Sample(time.monotonic() - begun, *held))
        await asyncio.sleep(1)


def kept_waiting(pid: int) -> float:
    """Return for how many seconds the main thread of a process could have run and had no core."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


async def everything(mix: Mix) -> dict[str, dict[str, Any]]:
    """Return all ingestions that are listed."""
    listed: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        page = json.loads((await mix.read(f"/ingestions?limit={PAGE}{cursor}")).body)
        listed |= {each["ingestion_id"]: each for each in page["ingestions"]}
        if page["next_cursor"] is None:
            return listed
        cursor = f"&cursor={page['next_cursor']}"


def longer(metrics: str, histogram: str, bucket: str) -> str:
    """Return how many of how many values in a histogram are above a bucket's."""
    found = dict(re.findall(rf'^{histogram}_bucket\{{.*le="(.*?)".*\}} (\S+)$', metrics, re.MULTILINE))
    return f"{float(found['+Inf']) - float(found[bucket]):,.0f} of {float(found['+Inf']):,.0f}"


# What came of it


class Judged(NamedTuple):
    """A row of the table: a figure, what is asked of it, and whether that holds; `is_hard` if the soak fails by it."""

    what: str
    figure: str
    target: str = ""
    holds: bool | None = None
    is_hard: bool = False

    @property
    def cells(self) -> list[str]:
        """The cells of the row."""
        return [self.what, self.figure, self.target, "" if self.holds is None else verdict(self.holds)]


def none_of(what: str, lines: Sequence[str]) -> Judged:
    """Judge what there may be none of."""
    return Judged(what, f"{len(lines):,}", "0", holds=not lines, is_hard=True)


def growth(samples: Sequence[Sample]) -> list[Judged]:
    """Judge what was held after the warm-up."""
    warm = [each for each in samples if each.at >= WARM_UP]
    memory, file = [each.memory for each in warm], [each.file for each in warm]
    slope = 60 * linear_regression([each.at for each in warm], memory).slope
    return [
        Judged("memory: MB a minute", f"{slope:+.2f}", f"≤ {MOST_GROWTH:g}", slope <= MOST_GROWTH),
        Judged("memory: least to most", f"{min(memory):.1f} to {max(memory):.1f} MB"),
        Judged("file: least to most", f"{min(file):.1f} to {max(file):.1f} MB"),
    ]


def punctuality(kept: Pace, naps: Naps, run: Run) -> list[Judged]:
    """Judge when batches started: as the upstream saw it, as the server did, and as the machine permitted."""
    early = [each for each in kept.early if each > MOST_EARLY]
    late = [seconds for _, seconds in kept.late]
    too_late = [each for each in kept.late if each[1] > MOST_LATE]
    own = [
        (due, seconds)
        for due, seconds in too_late
        if not any(due - NEAR < at < due + seconds + NEAR for at, _ in naps.worst)
    ]
    first, last = run.samples[0], run.samples[-1]
    waited = (last.kept_waiting - first.kept_waiting) / (last.at - first.at)
    return [
        Judged(
            "early starts", f"{len(early)}; {1000 * max(kept.early):+.2f} ms the most", "0", not early, is_hard=True
        ),
        Judged("late starts: p50, p99, max", spread(late)),
        Judged("more than 20 ms late", f"{len(too_late)} of {len(late):,}"),
        Judged("of these while no nap was late", str(len(own)), "0", not own),
        Judged("the same by the server's clock", longer(run.metrics, "sluice_start_lateness_seconds", "0.02")),
        Judged("commits of more than 10 ms", longer(run.metrics, "sluice_journal_commit_seconds", "0.01")),
        Judged("the server kept waiting for a core", f"{waited:.0%} of the time"),
        Judged("naps of 1 ms: late by p50, p99, max", spread(naps.late)),
    ]


def spread(seconds: Sequence[float]) -> str:
    """Return p50, p99 and maximum."""
    return ", ".join(times([1000 * each for each in seconds])) + " ms"


def report(run: Run, calls: list[Call], naps: Naps, log: Sequence[str]) -> bool:
    """Print the tables; return whether everything holds that must."""
    mix = run.mix
    starts, found = audit(Records(mix.submitted, calls, run.listed, run.ended_at, RETENTION))
    out_of_order = inversions(starts, mix.submitted, INTERVAL)
    complaints = complaints_of(log)
    held = run.held.rate / (SHARE * run.capacity)
    wrong = {
        "acknowledged and lost": found.lost,
        "called again after a good answer": found.repeated,
        "called or told otherwise than acknowledged": found.strange,
        "starts before something more urgent": out_of_order,
        "unexpected answers": mix.unexpected,
        "complaints in the log": complaints,
    }
    planned = SHARE * run.capacity
    rows = [
        Judged("requests/s", f"{run.held.rate:,.0f} of {planned:,.0f}", f"≥ {LEAST_HELD:.0%}", held >= LEAST_HELD),
        Judged("ingestions acknowledged", f"{len(mix.submitted):,}"),
        Judged("batches started, calls", f"{len(starts):,}, {len(calls):,}"),
        *(none_of(what, lines) for what, lines in wrong.items()),
        *punctuality(pace(starts[1:], INTERVAL), naps, run),
        *growth(run.samples),
    ]
    backend = DATABASE.partition(":")[0] or "sqlite"
    print_table(
        f"Soak: {SECONDS:g} s at {SHARE:.0%} of {run.capacity:,.0f} requests/s, {backend}, seed {SEED}",
        ["what", "figure", "target", ""],
        [row.cells for row in rows],
    )
    header = ["kind", "count", "answers", "p50 ms", "p99 ms", "max ms"]
    print_table("The requests, timed from when each was due", header, kinds(run))
    shown = run.samples[:: max(1, len(run.samples) // 40)]
    print("\nmemory, MB: " + " ".join(f"{each.memory:.0f}" for each in shown))
    for what, lines in wrong.items():
        for line in lines[:SHOWN]:
            print(f"{what}: {line}")
    return all(row.holds for row in rows if row.is_hard)


def kinds(run: Run) -> list[list[str]]:
    """Return a row for each kind of request, and one for how late the load itself was."""
    rows = []
    for name, kind in sorted(run.mix.kinds.items()):
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(kind.statuses.items()))
        is_timed = name != "listen"
        rows.append([name, f"{len(kind.took):,}", statuses, *(times(kind.took) if is_timed else [""] * 3)])
    return [*rows, ["(the load itself late)", f"{len(run.held.late):,}", "", *times(run.held.late)]]


def times(took: Sequence[float]) -> list[str]:
    """Return p50, p99 and maximum."""
    ordered = sorted(took)
    return [f"{ordered[int(share * (len(ordered) - 1))]:.1f}" for share in (0.5, 0.99, 1)]


def complaints_of(log: Sequence[str]) -> list[str]:
    """Return what a server logged that it was not asked for."""
    complaints = []
    for line in log:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {}
        if entry.get("level") != "info" and not ASKED_FOR.fullmatch(entry.get("event", "")):
            complaints.append(line)
    return complaints


def main() -> bool:
    """Run the soak; return whether everything holds that must."""
    secrets, entries = zip(*((role, make_key(f"soak-{role}", role)) for role in Role), strict=True)
    keys = {str(role): secret for role, (secret, _) in zip(secrets, entries, strict=True)}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log, witness(upstream) as called:
        file = Path(folder) / "soak.db"
        environment = {
            **SETTINGS,
            "API_KEYS": " ".join(entry for _, entry in entries),
            "UPSTREAM_URL": f"http://127.0.0.1:{called.first}/{{id}}",
        }
        if DATABASE != "memory":
            environment["DATABASE_URL"] = DATABASE or f"sqlite:///{file}"
        with serving("main:app", environment, log) as port:
            pid = the_child()
            with witness(sleeper) as slept:
                run = uvloop.run(soak(port, pid, keys, file))
                naps, calls = slept.end(), called.end()
        log.seek(0)
        return report(run, calls, naps, log.read().decode().splitlines())


if __name__ == "__main__":
    sys.exit(not main())
