"""Other job queues beside Sluice, doing the same work: 5-ID jobs of two priorities, a batch of 3 per 0.2 s.

`python -m benchmarks.peers [part of a name ...]`
"""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from math import inf
from pathlib import Path
from shutil import which
from statistics import median
from typing import NamedTuple

from benchmarks.fleet_processes import wait_until
from benchmarks.peers.contenders import Contender, FailedError, Peer, peer, sluice
from benchmarks.peers.environment import make_environment, redis_server
from benchmarks.peers.job import FIRST, HIGH, INTERVAL, LOW
from benchmarks.peers.recorder import Recorder, recorder
from benchmarks.peers.starts import JITTER, KNOWN, Start, inversions, share, starts, too_early
from benchmarks.peers.submitter import SUBMITTERS
from benchmarks.table import print_table, verdict
from tests.postgres import PostgresServer, postgres_server

MEMORY = "Sluice, memory"
FAILURES = (FailedError, TimeoutError, subprocess.CalledProcessError, OSError)
ROUNDS = 3
FLOOD = 2.0  # seconds
BACKLOG = 200  # jobs
WARM_UP = 5  # batches
SECONDS = 18.0
PAUSE = 0.93  # seconds from one job of `HIGH` to the next; not in step with the interval
LONGEST = 32.0  # seconds; some peers take a worker for dead after 30
HEADER = [
    "queue",
    "jobs/s accepted",
    "share of rate",
    "gaps too short",
    "LOW before a waiting HIGH",
    "kill -9: next start",
    "interrupted batch again",
    "",
]
NOTES = f"""
- Accepted: median (least to most) of {ROUNDS} runs in turns, {SUBMITTERS} submitters. Sluice's are wrk, over HTTP; the
  peers' are one Python process that calls the client library, which spares them a server in between. All but Sluice in
  memory have it on disk (fsync) when they say so. Peers cannot slice: a job is two tasks to them, put in together where
  the library can.
- Too short: {1000 * JITTER:g} ms less than the interval, or more, from when the upstream's kernel has a first call.
- LOW before a waiting HIGH: LOW batches that started while a HIGH one waited, accepted {KNOWN:g} s before or earlier.
- kill -9, once, a batch in flight: seconds from the restart, which follows at once; looked on for {LONGEST:g} s.

After how long a process is taken for dead is left at its default. The peers are set up as their documentation has it:

- Celery: rate_limit, one process, late acknowledgement, one task reserved, priorities in Redis (appendfsync always).
  What was in flight comes again after the visibility timeout, an hour. The rate limit is each worker's own.
- Procrastinate: no rate limit, so one job at a time, which sleeps out the interval. Priorities. What was in flight
  comes again by the documented recipe, a task every ten minutes.
- DBOS: limiter of one per interval, concurrency 1, priorities, polling every 0.02 s (1 s is the default).
- PgQueuer: no rate limit, so one job at a time, which sleeps out the interval. Priorities. heartbeat_timeout 30 s.
"""

# Opens a contender with an empty store, which is given a name.
Open = Callable[[str, Recorder], AbstractContextManager[Contender]]


class Recovery(NamedTuple):
    """Seconds from the restart to the next start, and to that of the batch that was in flight; infinity: not seen."""

    next: float
    again: float


def contenders(python: Path, postgres: PostgresServer, redis: str, folder: Path) -> dict[str, Open]:
    """Return how to open each, by its name."""
    redis_databases = itertools.count()

    def on_postgres(module: str) -> Open:
        return lambda name, upstream: peer(python, module, postgres.create_database(f"{module}_{name}"), upstream)

    return {
        MEMORY: lambda _, upstream: sluice(upstream),
        "Sluice, SQLite": lambda name, upstream: sluice(upstream, DATABASE_URL=f"sqlite:///{folder}/{name}.db"),
        "Sluice, PostgreSQL": lambda name, upstream: sluice(
            upstream, DATABASE_URL=postgres.create_database(f"sluice_{name}")
        ),
        "Celery, Redis": lambda _, upstream: peer(python, "celery_peer", f"{redis}/{next(redis_databases)}", upstream),
        "Procrastinate, PostgreSQL": on_postgres("procrastinate_peer"),
        "DBOS, PostgreSQL": on_postgres("dbos_peer"),
        "PgQueuer, PostgreSQL": on_postgres("pgqueuer_peer"),
    }


def accept(opened: Mapping[str, Open]) -> dict[str, list[float]]:
    """Return the jobs per second that each accepted, in turns: a drift of the machine's speed hits all alike."""
    rates: dict[str, list[float]] = {name: [] for name in opened}
    for number in range(ROUNDS):
        for name, open_contender in opened.items():
            with suppress(*FAILURES), recorder() as upstream, open_contender(f"accept{number}", upstream) as contender:
                rates[name].append(contender.flood(FLOOD))
    return rates


def dispatch(contender: Contender, upstream: Recorder) -> tuple[list[Start], int]:
    """Have `HIGH` jobs come in beside a backlog of `LOW`; return what started, and how often out of order."""

    def started() -> list[Start]:
        contender.dispatcher.check()
        return starts(upstream.calls())

    wait_until(lambda: len(started()) > WARM_UP, "batches start", 0.05)
    accepted: dict[int, float] = {}
    began = time.monotonic()
    while (now := time.monotonic()) < began + SECONDS:
        number = FIRST[HIGH] + len(accepted)
        contender.submit(number, 1, HIGH)
        accepted[number] = time.monotonic()
        time.sleep(max(0.0, now + PAUSE - time.monotonic()))
    run = [start for start in started() if start.at >= began]
    return run, inversions(run, accepted)


def recover(contender: Contender, upstream: Recorder) -> Recovery:
    """Kill the dispatching process with a batch in flight, and restart it."""
    before = len(starts(upstream.calls()))
    wait_until(lambda: len(starts(upstream.calls())) > before, "a batch starts", 0.001)
    contender.dispatcher.kill()
    interrupted = starts(upstream.calls())[-1]
    restarted = time.monotonic()
    contender.dispatcher.start()

    def after(is_wanted: Callable[[Start], bool]) -> float:
        found = (start.at for start in starts(upstream.calls()) if start.at > restarted and is_wanted(start))
        return next(found, inf) - restarted

    recovery = Recovery(inf, inf)
    while recovery.again == inf and time.monotonic() < restarted + LONGEST:
        contender.dispatcher.check()
        time.sleep(0.05)
        recovery = Recovery(after(lambda _: True), after(lambda start: start.is_again(interrupted)))
    return recovery


def told(seconds: float) -> str:
    """Return it for people."""
    return f"{seconds:.1f} s" if seconds < inf else f"> {LONGEST:g} s"


def row(name: str, open_contender: Open, rates: Sequence[float]) -> list[str]:
    """Measure one, but for what it accepts; if it fails, say so."""
    try:
        with recorder() as upstream, open_contender("dispatch", upstream) as contender:
            contender.submit(FIRST[LOW], BACKLOG, LOW)
            is_peer = isinstance(contender, Peer)
            if is_peer:
                contender.dispatcher.start()
            run, broken = dispatch(contender, upstream)
            after_kill = ["none: all is lost", "never"]
            if name != MEMORY:
                after_kill = [told(seconds) for seconds in recover(contender, upstream)]
    except FAILURES as error:
        return [name, f"failed: {error}".replace("|", "/")[:100], *[""] * (len(HEADER) - 2)]
    early = too_early(run)
    return [
        name,
        f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})" if rates else "failed",
        f"{share(run):.3f}",
        f"{early} of {len(run) - 1}",
        f"{broken} of {sum(not start.is_high for start in run)}",
        *after_kill,
        "" if is_peer else verdict(not early and not broken),
    ]


if __name__ == "__main__":
    for program in ("wrk", "redis-server"):
        if which(program) is None:
            sys.exit(f"benchmarks.peers needs {program}: apt-get install {program}")
    with (
        postgres_server(durable=True) as postgres,
        redis_server() as redis,
        tempfile.TemporaryDirectory() as folder,
    ):
        opened = contenders(make_environment(), postgres, redis, Path(folder))
        if sys.argv[1:]:
            opened = {name: each for name, each in opened.items() if any(word in name for word in sys.argv[1:])}
        rates = accept(opened)
        rows = [row(name, each, rates[name]) for name, each in opened.items()]
    print_table(f"Job queues at the same work: 5-ID jobs, one batch per {INTERVAL:g} s, HIGH before LOW", HEADER, rows)
    print(NOTES)
