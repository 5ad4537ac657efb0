"""A peer's process that submits jobs: it reads orders in JSON, one a line, and answers each when it is done."""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf

from benchmarks.peers.job import FIRST, LOW, job_ids

SUBMITTERS = 8

# Submits jobs with these numbers and this priority, until a time in monotonic seconds; returns how many.
Run = Callable[[Iterable[int], str, float], Awaitable[int]]


def in_tasks(submit: Callable[[Sequence[int], str], Awaitable[None]]) -> Run:
    """Run with an asynchronous client: all submitters in one loop. `submit` returns when its job is kept."""

    async def run(numbers: Iterable[int], priority: str, end: float) -> int:
        count = 0
        for number in numbers:
            await submit(job_ids(number), priority)
            count += 1
            if time.monotonic() >= end:
                break
        return count

    return run


def in_threads(submit: Callable[[Sequence[int], str], None]) -> Run:
    """Run with a client that blocks: each submitter in a thread. `submit` returns when its job is kept."""

    def run(numbers: Iterable[int], priority: str, end: float) -> int:
        count = 0
        for number in numbers:
            submit(job_ids(number), priority)
            count += 1
            if time.monotonic() >= end:
                break
        return count

    async def run_in_thread(numbers: Iterable[int], priority: str, end: float) -> int:
        return await asyncio.to_thread(run, numbers, priority, end)

    return run_in_thread


async def obey(run: Run) -> None:
    """Submit what is asked for, until nothing more can come."""
    answers, sys.stdout = sys.stdout, sys.stderr
    numbers = itertools.count(FIRST[LOW])
    print("ready", file=answers, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        if "seconds" in order:
            end = time.monotonic() + order["seconds"]
            count = sum(await asyncio.gather(*(run(numbers, LOW, end) for _ in range(SUBMITTERS))))
        else:
            wanted = range(order["first"], order["first"] + order["count"])
            count = await run(wanted, order["priority"], inf)
        print(count, file=answers, flush=True)
