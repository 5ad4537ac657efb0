"""Forgetting what was finished long ago: under endless work, nothing grows for ever."""

import asyncio
import gc
import tracemalloc
from pathlib import Path

import pytest

from sluice.journal import Journal
from sluice.models import Priority
from sluice.retention import AT_ONCE, Retention
from sluice.settings import Settings
from sluice.upstream import SimulatedUpstream, UpstreamError
from tests.api import DURABLE, ManualClock, ScriptedUpstream, serving, settings_for
from tests.journals import rows
from tests.virtual import Bench, RecordingUpstream, VirtualLoop

RETENTION = 1000.0
SUBMITTED = 20  # a round
REST = 10.0  # seconds from one look at what is due to the next
TABLES = ("ingestions", "waiting", "results", "keys", "expired", "events")


def answer(item: int) -> object:
    return UpstreamError("ID 400: answered 404") if item == 400 else item


def test_what_finished_while_the_wall_clock_was_ahead_keeps_nothing_else_from_being_forgotten(
    loop: VirtualLoop,
) -> None:
    bench = Bench(loop, SimulatedUpstream(0.0), interval=0.01).start()
    retention = Retention(bench.lane, bench.clock, seconds=60.0, idempotency_ttl=60.0)
    bench.clock.wall_offset = 1e6
    early = {bench.submit([1], Priority.LOW).ingestion_id for _ in range(2 * AT_ONCE)}
    loop.advance(10)
    bench.clock.wall_offset = 0.0
    for _ in range(5):
        bench.submit([1], Priority.LOW)
    loop.advance(120)

    loop.run_until_complete(retention.step())

    assert bench.lane.ingestions.keys() == early


def test_memory_reaches_a_plateau_under_endless_work(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream(lambda batch: asyncio.sleep(0))
    bench = Bench(loop, upstream, interval=1.0).start()
    retention = Retention(bench.lane, bench.clock, seconds=100.0, idempotency_ttl=100.0)
    task = loop.create_task(retention.run())
    memory: list[int] = []
    kept: list[int] = []
    tracemalloc.start()

    for _ in range(8):
        for _ in range(300):
            bench.submit([2, 3, 4], Priority.LOW)
            loop.advance(1)
        upstream.calls.clear()
        gc.collect()
        memory.append(tracemalloc.get_traced_memory()[0])
        kept.append(len(bench.lane.ingestions))
    tracemalloc.stop()
    task.cancel()

    assert max(kept) <= 105
    assert len(bench.lane.by_seq) == len(bench.lane.ingestions)
    assert len(bench.lane.finished) <= len(bench.lane.ingestions)
    assert max(memory[2:]) < memory[1] * 1.1


async def sweep(journal: Journal) -> None:
    while await journal.sweep():
        pass


def size(settings: Settings) -> int:
    """Return how much a journal keeps: the pages of a file that are in use, the rows of the tables of a database."""
    if settings.database_path:
        # How many more it has once needed, and will use again, depends on what was removed by when.
        ((pages,),), ((free,),) = rows(settings, "PRAGMA page_count"), rows(settings, "PRAGMA freelist_count")
        return int(pages) - int(free)
    counts = [rows(settings, f"SELECT count(*) FROM {table}") for table in TABLES]
    return sum(int(count) for ((count,),) in counts)


@pytest.mark.parametrize("backend", DURABLE)
def test_journal_reaches_a_plateau_under_endless_work(backend: str, tmp_path: Path) -> None:
    ages = {"retention": RETENTION, "idempotency_ttl": RETENTION}
    settings = settings_for(backend, tmp_path, batch_interval=0, batch_size=1000, **ages)
    sizes: list[int] = []

    for number in range(10):
        with serving(settings, ScriptedUpstream(answer), ManualClock(number * RETENTION / 2)) as service:
            for item in range(SUBMITTED):
                headers = {"Idempotency-Key": f"{number}-{item}"}
                body = {"ids": [*range(401, 700), 400], "priority": "LOW"}
                service.client.post("/ingest", json=body, headers=headers)
            service.until(lambda: service.get("/queue")["next_start"] is None)
            service.until(lambda: len(service.lane.finished) == len(service.lane.ingestions))
            service.advance(REST)
            service.until(lambda: len(service.lane.ingestions) <= 2 * SUBMITTED)  # of this round and the one before
            service.call(sweep, service.lane.journal)
        sizes.append(size(settings))

    assert max(sizes[5:]) <= max(sizes[:5]) * 1.05
