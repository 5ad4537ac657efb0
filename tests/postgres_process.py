"""Processes that share a lane in a PostgreSQL database, on machines whose clocks are set by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

from sluice.events import Ended, Event, Finished, Outcome, Part, Started
from sluice.ingestion import Ingestion
from sluice.journal.postgres import PostgresJournal
from sluice.journal.postgres_database import Database
from sluice.lane import Lane
from sluice.models import Priority
from sluice.order import Order
from sluice.pace import Pace
from tests.shared_database import set_clock
from tests.virtual import EPOCH

INTERVAL = 5.0
DAY = 86_400.0


class Machine:
    """The clocks of one machine: its monotonic one counts from a boot of its own."""

    def __init__(self, boot: float, passed: float) -> None:
        self.origin = f"boot {boot}"
        self.passed = passed
        self._boot = boot

    def now(self) -> float:
        return self._boot + self.passed

    def time(self) -> float:
        return 1.0  # no machine's wall clock is believed

    async def sleep_until(self, at: float) -> None:
        raise NotImplementedError


class Process:
    """A process that has one lane of a shared database, and follows it."""

    def __init__(
        self,
        url: str,
        boot: float,
        name: str = "default",
        passed: float = 0.0,
        *,
        aging: float | None = None,
        fills_slots: bool = False,
    ) -> None:
        self.machine = Machine(boot, passed)
        self.database = Database(url, self.machine, pool_size=3, timeout=5.0)
        self.database.add_lanes([name])
        self.journal = PostgresJournal(self.database, name, INTERVAL, DAY)
        self.lane = Lane(self.journal, Pace(INTERVAL), 3, name, order=Order(aging), fills_slots=fills_slots)

    @asynccontextmanager
    async def running(self, *, following: bool = True) -> AsyncIterator["Process"]:
        async with self.database.running(self.journal.follower.wake):
            follower = asyncio.create_task(self.follow() if following else asyncio.sleep(0))
            try:
                yield self
            finally:
                follower.cancel()

    async def follow(self) -> None:
        await self.journal.follower.follow()

    async def accept(self, ids: Sequence[int], priority: Priority = Priority.MEDIUM, **options: Any) -> Ingestion:
        accepted = self.lane.accept(ids, priority, self.database.clock.time(), **options)
        await self.lane.record(accepted)
        await self.journal.catch_up()
        return self.lane.ingestions[accepted.ingestion_id]

    async def start(self) -> Started:
        started: list[Event] = []

        def propose() -> Sequence[Event]:
            now = self.machine.now()
            first, *others = (Part(*batch[:2]) for batch in self.lane.next_batches(now))
            started[:] = [Started(*first, now, tuple(others))]
            return started

        await self.lane.decide(propose)
        assert isinstance(started[0], Started)
        return started[0]

    async def finish(self, *outcomes: Outcome, sent: float | None = None) -> None:
        """End the slot that runs, with what came of all that is in it, in order."""

        def propose() -> Sequence[Event]:
            running = self.lane.running
            assert running
            positions = [each for part in running.parts for each in part.positions]
            left = iter(outcomes or [Outcome(each, 1, data=b'"done"') for each in positions])
            first, *others = (
                Ended(part.ingestion_id, tuple(islice(left, len(part.positions)))) for part in running.parts
            )
            return [Finished(*first, self.machine.now(), self.database.clock.time(), tuple(others), sent)]

        await self.lane.decide(propose)


def state(process: Process) -> object:
    """Return what a lane is like, its times in terms that all machines share, to the microsecond."""
    lane, offset, now = process.lane, process.database.clock.offset, process.machine.now()
    lane.backlog.release(now)

    def shared(at: float) -> float:
        return round(at + offset, 6)

    return (
        [
            (
                each.ingestion_id,
                each.seq,
                each.priority,
                each.created_time,
                each.ids.tolist(),
                each.started,
                each.status,
                each.is_cancelled,
                each.gives_up,
                each.finished_time and round(each.finished_time, 6),
                each.in_flight,
                sorted(each.troubles.items()),
                sorted(each.ready),
                sorted((shared(at), position) for at, position in each.delayed),
                sorted(each.open.items()),
                lane.backlog.ahead(each),
            )
            for each in lane.by_seq.values()
        ],
        list(lane.keys.values()),
        lane.running and lane.running.parts,
        lane.held and (shared(lane.held.until), lane.held.reason),
        lane.paused,
        lane.backlog.total,
        [(batch.ingestion_id, batch.positions) for batch in lane.next_batches(now)],
    )


def pass_time(url: str, seconds: float, *processes: Process) -> None:
    """Let time pass in the database and on every machine."""
    for process in processes:
        process.machine.passed += seconds
    set_clock(url, EPOCH + processes[0].machine.passed)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
