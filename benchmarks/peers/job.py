"""The job that all do; imports nothing that is not Python's own, for it runs in the peers' environment as well."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

IDS = 5  # per job
BATCH_SIZE = 3
INTERVAL = 0.2  # seconds
HIGH, LOW = "HIGH", "LOW"
# The number of the first job of each priority: so an ID tells which it has.
FIRST = {LOW: 0, HIGH: 100_000_000}

# Environment variables of a peer's processes.
URL = "PEER_URL"
UPSTREAM = "PEER_UPSTREAM"

_calls = ThreadPoolExecutor(BATCH_SIZE)


def job_ids(number: int) -> list[int]:
    """Return the IDs of a job."""
    return list(range(IDS * number + 1, IDS * (number + 1) + 1))


def batches(ids: Sequence[int]) -> list[list[int]]:
    """Slice a job."""
    return [list(ids[first : first + BATCH_SIZE]) for first in range(0, len(ids), BATCH_SIZE)]


def call_upstream(ids: Sequence[int]) -> None:
    """Call the upstream once per ID of a batch, at the same time; return when all are answered."""
    list(_calls.map(_call, ids))


def _call(item: int) -> None:
    with urlopen(os.environ[UPSTREAM].replace("{id}", str(item)), timeout=30) as answer:
        answer.read()


async def hold_interval(ids: Sequence[int]) -> None:
    """Call the upstream, then sleep out the interval: what is left where a queue can only say "one at a time"."""
    end = time.monotonic() + INTERVAL
    await asyncio.to_thread(call_upstream, ids)
    await asyncio.sleep(end - time.monotonic())
