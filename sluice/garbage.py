"""The garbage collector, kept from looking through the backlog again and again."""

import asyncio
import gc

from sluice.clock import Clock
from sluice.lanes import Lanes

INTERVAL = 0.5  # seconds
GROWTH = 5_000  # ingestions: to look through so many takes milliseconds
# Objects after which the young ones are looked through. Python's 700 take a tenth of the requests; 10,000 would now and
# then take 20 ms at once.
YOUNG = 2_000
# Times that the young ones are looked through before those that were left are, and those before everything is:
# Python's own.
MIDDLE = 10
NEVER = 1_000_000_000
THOROUGH = 0.07  # seconds that it may take to look through everything


async def keep_out(lanes: Lanes, clock: Clock) -> None:
    """Have every ingestion looked through once, and those that are there by now not at all; cancel it to stop.

    Whatever takes long is done between two starts; until it is stopped Python does none of it by itself.

    Python looks through all there is whenever that has grown by a quarter, which takes
    a second for a million ingestions; nothing is served and no batch starts meanwhile.
    None of what they are made of is in a cycle: whatever ends goes when the last
    reference to it does, frozen or not; so does a connection, but on asyncio's own event
    loop, where each that was open once keeps its kilobyte.
    """
    before = gc.get_threshold()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    try:
        await _keep_out(lanes, clock)
    finally:
        gc.set_threshold(*before)


async def _keep_out(lanes: Lanes, clock: Clock) -> None:
    gc.freeze()
    quiet = next(iter(lanes.values())).quiet  # all lanes' is the same
    known = _count(lanes)
    while True:
        await asyncio.sleep(INTERVAL)
        has_changed = abs(_count(lanes) - known) >= GROWTH
        if has_changed or gc.get_count()[2] > MIDDLE:
            await quiet.clear(clock, THOROUGH)
            gc.collect()
        if has_changed:
            known = _count(lanes)
            # Nothing that was in a cycle is there any more, to be kept for ever.
            gc.freeze()


def _count(lanes: Lanes) -> int:
    return sum(len(lane.ingestions) for lane in lanes.values())
