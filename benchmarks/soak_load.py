"""How much is asked in a soak: as much as is answered, or a steady rate whatever is answered."""

import asyncio
import time
from array import array
from typing import NamedTuple

from benchmarks.soak_mix import Mix

CLIENTS = 32
MOST_OUT = 400  # requests that wait for their answers
HUGE_EVERY = 15.0  # seconds
BESIDE = ("listen", "hostile", "submit 10,000 IDs")  # what takes seconds whatever the machine can do


class Held(NamedTuple):
    """How many requests a second were made, and the ms by which the load was late with each."""

    rate: float
    late: "array[float]"


async def closed_loop(mix: Mix, seconds: float) -> float:
    """Have clients ask one thing after another; return how many a second were answered."""
    until = time.monotonic() + seconds
    answered = 0

    async def ask() -> None:
        nonlocal answered
        while (now := time.monotonic()) < until:
            kind = mix.draw()
            if kind in BESIDE:
                mix.spawn(mix.act(kind, now))
                continue
            await mix.act(kind, now)
            answered += 1
            await asyncio.sleep(0)  # some have nothing to ask about yet

    await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    return answered / seconds


async def open_loop(mix: Mix, seconds: float, rate: float) -> Held:
    """Ask at a steady rate. One that is due waits only while very many are on their way."""
    late: array[float] = array("f")
    begun = time.monotonic()
    huge = asyncio.create_task(_submit_huge(mix))
    for number in range(int(seconds * rate)):
        due = begun + number / rate
        if due > time.monotonic():
            await asyncio.sleep(due - time.monotonic())
        elif number % 10 == 0:
            await asyncio.sleep(0)  # else nothing is read while the load catches up
        while len(mix.tasks) > MOST_OUT:  # noqa: ASYNC110 - rarely, and never for long
            await asyncio.sleep(0.001)
        late.append(1000 * max(0.0, time.monotonic() - due))
        mix.spawn(mix.act(mix.draw(), due))
        if time.monotonic() > begun + seconds:
            break
    huge.cancel()
    took = time.monotonic() - begun
    return Held(len(late) / took, late)


async def _submit_huge(mix: Mix) -> None:
    while True:
        await asyncio.sleep(HUGE_EVERY)
        mix.spawn(mix.submit_large("submit 1,000,000 IDs", time.monotonic()))
