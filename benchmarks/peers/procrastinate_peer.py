"""Procrastinate on PostgreSQL: priorities and one job at a time, which lasts the interval; it has no rate limit."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.peers.job import HIGH, LOW, URL, batches, hold_interval
from benchmarks.peers.submitter import SUBMITTERS, in_tasks, obey

PRIORITIES = {HIGH: 1, LOW: 0}

app = App(connector=PsycopgConnector(conninfo=os.environ[URL], max_size=SUBMITTERS))
dispatch = app.task(name="dispatch")(hold_interval)


async def retry_stalled_jobs(context: Any, timestamp: int) -> None:
    """Have jobs of workers that died run again: the documentation's own recipe, with its times."""
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)


retry = app.task(name="retry_stalled_jobs", queueing_lock="retry_stalled_jobs", pass_context=True)(retry_stalled_jobs)
app.periodic(cron="*/10 * * * *")(retry)


async def submit(ids: Sequence[int], priority: str) -> None:
    """Insert a job's batches in one statement."""
    await dispatch.configure(priority=PRIORITIES[priority]).batch_defer_async(*({"ids": each} for each in batches(ids)))


async def main(role: str) -> None:
    """Submit, or work."""
    async with app.open_async():
        if role == "submit":
            await app.schema_manager.apply_schema_async()
            await obey(in_tasks(submit))
        else:
            await app.run_worker_async(concurrency=1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
