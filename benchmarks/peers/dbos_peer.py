"""DBOS on PostgreSQL: a queue with a limiter, priorities and one workflow at a time."""

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from functools import partial

from dbos import DBOS, DBOSClient, run_dbos_database_migrations

from benchmarks.peers.job import HIGH, INTERVAL, LOW, URL, batches, call_upstream
from benchmarks.peers.submitter import SUBMITTERS, in_threads, obey

NAME = "peer"
QUEUE = "batches"
PRIORITIES = {HIGH: 1, LOW: 2}
POLLING = 0.02  # seconds; by default it is 1.0, which would be a fifth of the rate


def dispatch(ids: list[int]) -> None:
    """Call the upstream in a step, as whatever is done to the outside should be."""
    DBOS.run_step({"name": "call_upstream"}, call_upstream, ids)


DBOS.workflow(name="dispatch")(dispatch)


def submit(client: DBOSClient, ids: Sequence[int], priority: str) -> None:
    """Enqueue a job's batches."""
    for batch in batches(ids):
        options = {"workflow_name": "dispatch", "queue_name": QUEUE, "priority": PRIORITIES[priority]}
        client.enqueue(options, batch)


def work() -> None:
    """Run what is enqueued."""
    DBOS(config={"name": NAME, "system_database_url": os.environ[URL], "log_level": "WARNING"})
    DBOS.launch()
    DBOS.register_queue(
        QUEUE,
        global_concurrency=1,
        limiter={"limit": 1, "period": INTERVAL},
        polling_interval_sec=POLLING,
    )
    threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        run_dbos_database_migrations(os.environ[URL])
        client = DBOSClient(
            system_database_url=os.environ[URL], system_database_pool_size=SUBMITTERS, application_name=NAME
        )
        asyncio.run(obey(in_threads(partial(submit, client))))
    else:
        work()
