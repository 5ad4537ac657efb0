"""Celery on Redis: `rate_limit`, one process, and a list in Redis per priority."""

import asyncio
import os
import sys
from collections.abc import Sequence

from celery import Celery, group

from benchmarks.peers.job import HIGH, INTERVAL, LOW, URL, batches, call_upstream
from benchmarks.peers.submitter import in_threads, obey

PRIORITIES = {HIGH: 0, LOW: 9}

app = Celery("peer", broker=os.environ[URL])
app.conf.update(
    # From the page "Routing Tasks", on priorities in Redis.
    broker_transport_options={"queue_order_strategy": "priority", "priority_steps": list(range(10)), "sep": ":"},
    # From the page "Optimizing": reserve one task at a time. Late, so that a task outlives the process that has it.
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
)
dispatch = app.task(name="dispatch", rate_limit=f"{1 / INTERVAL:g}/s")(call_upstream)


def submit(ids: Sequence[int], priority: str) -> None:
    """Put a job's batches into Redis."""
    group(dispatch.s(batch) for batch in batches(ids)).apply_async(priority=PRIORITIES[priority])


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        asyncio.run(obey(in_threads(submit)))
    else:
        app.worker_main(["worker", "--concurrency=1", "--without-mingle", "--without-gossip", "--loglevel=WARNING"])
