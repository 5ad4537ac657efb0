"""PgQueuer on PostgreSQL: priorities and one job at a time, which lasts the interval; it has no rate limit any more."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence

import asyncpg
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job

from benchmarks.peers.job import HIGH, LOW, URL, batches, hold_interval
from benchmarks.peers.submitter import SUBMITTERS, in_tasks, obey

PRIORITIES = {HIGH: 1, LOW: 0}
ENTRYPOINT = "dispatch"


async def submit_all() -> None:
    """Submit what is asked for."""
    connection = await asyncpg.connect(os.environ[URL])
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()
    async with asyncpg.create_pool(os.environ[URL], min_size=SUBMITTERS, max_size=SUBMITTERS) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))

        async def submit(ids: Sequence[int], priority: str) -> None:
            payloads: list[bytes | None] = [json.dumps(batch).encode() for batch in batches(ids)]
            count = len(payloads)
            await queries.enqueue([ENTRYPOINT] * count, payloads, [PRIORITIES[priority]] * count)

        await obey(in_tasks(submit))


async def work() -> None:
    """Run what is enqueued."""
    queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(os.environ[URL]))

    @queuer.entrypoint(ENTRYPOINT, concurrency_limit=1)
    async def dispatch(job: Job) -> None:
        assert job.payload is not None
        await hold_interval(json.loads(job.payload))

    # More would have an ended job written down only with others, or after a while in which the next one waits.
    await queuer.run(batch_size=1)


if __name__ == "__main__":
    asyncio.run(submit_all() if sys.argv[1] == "submit" else work())
