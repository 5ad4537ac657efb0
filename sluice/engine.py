"""PgQueuer as it must be where a job never ends: its queries, its way to the database, and the leases it gives."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from math import ceil
from typing import Any, Self
from uuid import uuid4

from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.tm import TaskManager
from pgqueuer.domain.models import Job, TracebackRecord
from pgqueuer.domain.types import JOB_STATUS, JobId
from pgqueuer.ports.repository import EntrypointExecutionParameter
from psycopg import AsyncRawCursor
from psycopg.rows import dict_row

from sluice.journal import JournalError
from sluice.journal.postgres_database import Database
from sluice.journal.postgres_schema import ENGINE

RETRY = 0.25  # seconds
ENQUEUE = 2.0  # seconds between two looks at whether every lane has its job


class Lease:
    """The right to run a lane, for `seconds` from when its last renewal was asked for."""

    def __init__(self, lane: str, seconds: float, asked: float) -> None:
        self.lane = lane
        self._seconds = seconds
        self._until = asked + seconds
        self._changed = asyncio.Event()

    def is_held(self) -> bool:
        """Return whether it lasts."""
        return time.monotonic() < self._until

    def renew(self, asked: float) -> None:
        """Take note of a renewal that was asked for at `asked`, in monotonic seconds; what has run out stays so."""
        if self.is_held():
            self._until = max(self._until, asked + self._seconds)

    def lose(self) -> None:
        """Take note that another process has it."""
        self._until = 0.0
        self._changed.set()

    async def lost(self) -> None:
        """Return when it has run out."""
        while (left := self._until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()


class LaneQueries(Queries):
    """The engine's queries, as they must be where a job never ends and belongs to the process that has its lease."""

    driver: "PoolDriver"

    def __init__(
        self,
        driver: "PoolDriver",
        lanes: Sequence[str],
        seconds: float,
        held: Callable[[], int],
        give_back: Callable[[int], object],
    ) -> None:
        """Take the lanes that this process can run, and the seconds of a lease.

        `held` says how many lanes it runs, and `give_back` has it run no more than so many.
        """
        super().__init__(driver, qb.QueryBuilderEnvironment(ENGINE), qb.QueryQueueBuilder(ENGINE))
        self.leases: dict[JobId, Lease] = {}  # of each lane that this process has and has not yet given back
        self.manager_id = ""
        self._lanes = list(lanes)
        self._seconds = seconds
        self._held = held
        self._give_back = give_back
        self._worker_id = str(uuid4())
        self._enqueued_at = float("-inf")

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[Any, EntrypointExecutionParameter],
        queue_manager_id: Any,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        """Return a lane that nobody runs, unless this process has its share."""
        try:
            await self._enqueue_lanes()
            share = await self._share()
            self._give_back(share)
            # A lane whose lease ran out here is given back first: else that would give its next lease here away.
            held = {lease.lane for lease in self.leases.values()}
            others = {lane: parameters for lane, parameters in entrypoints.items() if lane not in held}
            if not others or self._held() >= share:
                return []
            asked = time.monotonic()
            jobs = await super().dequeue(
                batch_size, others, queue_manager_id, global_concurrency_limit, heartbeat_timeout
            )
        except Exception:
            self._give_back(0)  # the engine, which ends by it, waits for all that runs
            raise
        self.leases |= {job.id: Lease(str(job.entrypoint), self._seconds, asked) for job in jobs}
        return jobs

    async def update_heartbeat(self, job_ids: list[JobId]) -> None:
        """Renew the leases that are still this process's; raise `JournalError` if that is impossible now."""
        held = {job_id: lease for job_id in job_ids if (lease := self.leases.get(job_id)) and lease.is_held()}
        if not held:
            return  # a sign of life that comes late would keep the lane from whoever could run it
        asked = time.monotonic()
        rows = await self.driver.fetch_once(
            "UPDATE pgqueuer SET heartbeat = now()"
            " WHERE id = ANY($1::bigint[]) AND status = 'picked' AND queue_manager_id = $2::uuid RETURNING id",
            [*held],
            self.manager_id,
        )
        renewed = {row["id"] for row in rows}
        for job_id, lease in held.items():
            if job_id in renewed:
                lease.renew(asked)
            else:
                lease.lose()

    async def retry_job(self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None) -> None:
        """Give a lane back, if it still is this process's, and wake whoever may take it."""
        # The engine's trigger tells of no update: everyone would find out by looking only.
        await self.driver.execute(
            "WITH given AS (UPDATE pgqueuer SET status = 'queued', execute_after = now() + $2::interval,"
            " updated = now(), queue_manager_id = NULL"
            " WHERE id = $1::bigint AND queue_manager_id = $3::uuid AND updated = $5::timestamptz RETURNING id)"
            " SELECT pg_notify($4, json_build_object('channel', $4::text, 'operation', 'update', 'sent_at', now(),"
            " 'table', 'pgqueuer', 'type', 'table_changed_event')::text) FROM given",
            job.id,
            delay,
            self.manager_id,
            ENGINE.channel,
            job.updated,  # whoever picks it changes that
        )
        self.leases.pop(job.id, None)

    async def log_jobs(self, job_status: list[tuple[Job, JOB_STATUS, TracebackRecord | None]]) -> None:
        """Leave the job: whoever's turn with it ended without giving it back had lost it."""
        for job, _, _ in job_status:
            self.leases.pop(job.id, None)

    async def leave(self) -> None:
        """Say that this process stands by no more, so that the others take its share."""
        await self.driver.fetch_once("DELETE FROM workers WHERE worker_id = $1::uuid", self._worker_id)

    async def _enqueue_lanes(self) -> None:
        """See to it now and then that every lane has its job, whatever became of that."""
        if time.monotonic() < self._enqueued_at + ENQUEUE:
            return
        count = len(self._lanes)
        await self.enqueue(self._lanes, [None] * count, [0] * count, dedupe_key=[*self._lanes], on_conflict="skip")
        self._enqueued_at = time.monotonic()

    async def _share(self) -> int:
        """Say that this process stands by, and return how many lanes it may run: each lane's workers share it."""
        rows = await self.driver.fetch(
            "WITH me AS (INSERT INTO workers VALUES ($1::uuid, now(), $3::text[])"
            " ON CONFLICT (worker_id) DO UPDATE SET seen = excluded.seen),"
            " old AS (SELECT worker_id FROM workers WHERE seen < now() - $2::interval FOR UPDATE SKIP LOCKED),"
            " gone AS (DELETE FROM workers USING old WHERE workers.worker_id = old.worker_id)"
            " SELECT lane, count(*) AS others FROM workers, unnest(lanes) AS lane"
            " WHERE worker_id != $1::uuid AND seen >= now() - $2::interval GROUP BY lane",
            self._worker_id,
            timedelta(seconds=self._seconds),
            self._lanes,
        )
        others = {str(row["lane"]): int(str(row["others"])) for row in rows}
        return ceil(sum(Fraction(1, 1 + others.get(lane, 0)) for lane in self._lanes))


class PoolDriver:
    """The engine's way to the database, through the same connections as everything else."""

    def __init__(self, database: Database, stopping: asyncio.Event) -> None:
        """Take what says that there is no use in waiting for the database any more."""
        self._database = database
        self._stopping = stopping
        self._callback: Callable[[str | bytes | bytearray], None] | None = None
        self.shutdown = asyncio.Event()
        self.tm = TaskManager()
        database.add_listener(self._relay, ENGINE.channel)

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Return the rows, however long the database is away; raise `JournalError` if it is and the process stops."""
        while True:
            try:
                return await self.fetch_once(query, *args)
            except JournalError:
                if self._stopping.is_set():
                    raise
                await asyncio.sleep(RETRY)

    async def fetch_once(self, query: str, *args: object) -> list[dict[str, object]]:
        """Return the rows; raise `JournalError` if the database is away."""
        async with self._database.connection() as connection:
            cursor = AsyncRawCursor(connection, row_factory=dict_row)
            await cursor.execute(query.encode(), args or None)
            return await cursor.fetchall() if cursor.description else []

    async def execute(self, query: str, *args: object) -> str:
        """Do something that has no rows to show."""
        await self.fetch(query, *args)
        return ""

    async def notify(self, channel: str, payload: str) -> None:
        """Tell whoever listens."""
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: Callable[[str | bytes | bytearray], None]) -> None:
        """Call `callback` with what is notified on the engine's channel."""
        self._callback = callback  # one manager at a time

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the connections to whom they belong."""

    def _relay(self, payload: str) -> None:
        if self._callback is not None:
            self._callback(payload)
