"""What a fleet's workers achieve: dispatches per second, an exact pace, and how soon another takes over."""

import asyncio
import json
import signal
import tempfile
import time
from datetime import timedelta
from itertools import pairwise
from statistics import mean, median, quantiles
from uuid import uuid4

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter

from benchmarks.fleet_processes import (
    Recorder,
    Worker,
    ask,
    fill,
    make_lanes,
    recorder,
    wait_for_workers,
    wait_until,
    workers,
)
from benchmarks.table import verdict
from sluice.models import DEFAULT_LANE
from tests.postgres import PostgresServer

LANES = (1, 4, 16)
WAITING = 32_000  # ingestions of one batch each
SECONDS = 3.0
GROUPS = (1, 10)  # jobs at a time; 10 is the engine's default
GROUP = 1_000
PACES = [(0.05, 200, None), (1.0, 20, 0.995)]  # interval in seconds, batches, least share of the permitted rate
JITTER = 0.005  # seconds by which the way to the upstream may bring two calls nearer to each other
INTERVAL = 0.1  # seconds
LEASES = {5.0: 3, 2.0: 3}  # seconds: how often
HANDOVERS = 5
LONGEST_HANDOVER = 0.5  # seconds


def dispatch_rate(url: str, count: int) -> float:
    """Return how many batches per second two workers dispatch of so many lanes that have no pace to keep."""
    names = [DEFAULT_LANE, *(f"lane{number}" for number in range(1, count))]
    make_lanes(url, names)
    for name in names:
        fill(url, WAITING // count, lane=name)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"lanes": [{"name": name} for name in names]}, file)
        file.flush()
        with workers(2, url, LANES=file.name, BATCH_INTERVAL="0", UPSTREAM_DELAY="0"):
            # Whoever came first took more than its share, and gives it back by and by.
            held = "SELECT coalesce(max(held), 0) FROM (SELECT count(*) AS held FROM sluice.pgqueuer"
            wait_until(
                lambda: (
                    ask(url, "SELECT count(*) FROM sluice.pgqueuer WHERE status = 'picked'") == count
                    and ask(url, f"{held} WHERE status = 'picked' GROUP BY queue_manager_id) AS each")
                    <= (count + 1) // 2
                ),
                "the lanes are shared out",
            )
            began, before = time.perf_counter(), ask(url, "SELECT sum(started) FROM sluice.ingestions")
            time.sleep(SECONDS)
            after, ended = ask(url, "SELECT sum(started) FROM sluice.ingestions"), time.perf_counter()
    left = "SELECT count(DISTINCT lane) FROM sluice.ingestions WHERE started = 0"
    assert ask(url, left) == count, "a lane ran out of work"
    return (after - before) / (ended - began)


async def engine_rates(url: str, jobs: int) -> tuple[float, dict[int, float]]:
    """Return how many jobs per second PgQueuer enqueues, and dequeues and ends: so many at a time."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        queries = Queries(PsycopgDriver(connection))
        await queries.install()
        began = time.perf_counter()
        for _ in range(0, jobs, GROUP):
            await queries.enqueue(["job"] * GROUP, [None] * GROUP, [0] * GROUP)
        enqueued = jobs / (time.perf_counter() - began)
        await connection.execute("VACUUM ANALYZE pgqueuer")
        entrypoints = {QueueEntrypoint("job"): EntrypointExecutionParameter(concurrency_limit=0)}
        manager = QueueManagerId(uuid4())
        dequeued = {}
        for group in GROUPS:
            done, began = 0, time.perf_counter()
            while time.perf_counter() - began < SECONDS / 2:
                taken = await queries.dequeue(group, entrypoints, manager, None, timedelta(seconds=30))
                if not taken:
                    break
                await queries.log_jobs([(job, "successful", None) for job in taken])
                done += len(taken)
            dequeued[group] = done / (time.perf_counter() - began)
    return enqueued, dequeued


def dispatches(server: PostgresServer) -> list[list[str]]:
    """Measure how many batches start per second where nothing holds them up, beside the engine's own queue."""
    rates = {count: dispatch_rate(server.create_database(f"dispatch_{count}"), count) for count in LANES}
    enqueued, dequeued = asyncio.run(engine_rates(server.create_database("engine"), WAITING))
    rows = [
        [
            f"{count} lanes" if count > 1 else "1 lane",
            f"{rate:,.0f} batches/s",
            f"{rate / dequeued[1]:.2f} x PgQueuer's jobs one by one",
            "",
            "",
        ]
        for count, rate in rates.items()
    ]
    engine = ["PgQueuer, 1 process", f"{dequeued[1]:,.0f} jobs/s dequeued and ended one by one"]
    others = f"{dequeued[10]:,.0f} by 10, {enqueued:,.0f} enqueued by {GROUP:,}"
    return [*rows, [*engine, others, "", ""]]


def paced_starts(url: str, interval: float, batches: int) -> list[float]:
    """Return when batches reached the upstream while three workers stood by: one more than so many."""
    make_lanes(url)
    # Some start before all workers stand by.
    fill(url, 2 * batches + 200)
    with recorder() as upstream, workers(3, url, upstream, BATCH_INTERVAL=str(interval)):
        first = len(upstream.starts(interval / 2)) + 1
        last = first + batches
        wait_until(lambda: len(upstream.starts(interval / 2)) > last, "batches start", 0.1)
        return [start.at for start in upstream.starts(interval / 2)[first : last + 1]]


def pace(server: PostgresServer) -> list[list[str]]:
    """Measure how exactly batches start, as the upstream sees it."""
    rows = []
    for interval, batches, least in PACES:
        starts = paced_starts(server.create_database(f"pace_{batches}"), interval, batches)
        gaps = [after - before for before, after in pairwise(starts)]
        late = [1000 * (gap - interval) for gap in gaps]
        p99 = quantiles(late, n=100, method="inclusive")[98]
        share = interval * len(gaps) / sum(gaps)
        holds = min(gaps) >= interval - JITTER and (least is None or share >= least)
        rows.append(
            [
                f"{len(gaps)} batches, one per {interval:g} s",
                f"share {share:.4f}",
                f"late by {mean(late):.2f} ms, p99 {p99:.2f}; least gap {1000 * min(gaps):.2f} ms",
                f"gap ≥ {1000 * (interval - JITTER):g} ms" + ("" if least is None else f", share ≥ {least}"),
                verdict(holds),
            ]
        )
    return rows


def take_over(url: str, upstream: Recorder, places: list[Worker], how: signal.Signals, pause: float = 0) -> float:
    """End the worker that runs the lane, after a pause; return the seconds that the next batch came later by."""
    gap = INTERVAL / 2
    began = len(upstream.starts(gap))
    wait_until(lambda: len(upstream.starts(gap)) > began + 3, "batches start")
    time.sleep(pause)
    holder = next(place for place in places if place.name == upstream.starts(gap)[-1].caller)
    at = holder.end(how)

    def is_taken_over() -> bool:
        return upstream.starts(gap)[-1].caller != holder.name

    wait_until(is_taken_over, "another process takes over")
    starts = upstream.starts(gap)
    number = next(each for each in range(len(starts) - 1, -1, -1) if starts[each].caller == holder.name)
    due = max(at, starts[number].at + INTERVAL)
    taken = starts[number + 1].at
    holder.start()
    wait_for_workers(url, len(places))
    return taken - due


def takeovers(server: PostgresServer) -> list[list[str]]:
    """Measure for how long nothing starts after the worker that runs the lane was ended."""
    late: dict[tuple[signal.Signals, float], list[float]] = {}
    for lease, times in LEASES.items():
        url = server.create_database(f"lease_{lease:g}")
        make_lanes(url)
        fill(url, 5_000)
        with (
            recorder() as upstream,
            workers(3, url, upstream, BATCH_INTERVAL=str(INTERVAL), LEASE=str(lease)) as places,
        ):
            if lease == max(LEASES):
                late[signal.SIGTERM, lease] = [
                    take_over(url, upstream, places, signal.SIGTERM) for _ in range(HANDOVERS)
                ]
            # How long it takes depends on when the last sign of life was: they come two a lease.
            late[signal.SIGKILL, lease] = [
                take_over(url, upstream, places, signal.SIGKILL, pause=lease / 2 * number / times)
                for number in range(times)
            ]
    rows = []
    for (how, lease), seconds in late.items():
        longest = LONGEST_HANDOVER if how == signal.SIGTERM else lease + 1
        rows.append(
            [
                f"{how.name}, lease {lease:g} s",
                f"{max(seconds):.2f} s at most",
                f"median of {len(seconds)}: {median(seconds):.2f} s",
                f"≤ {longest:g} s",
                verdict(max(seconds) <= longest),
            ]
        )
    return rows
