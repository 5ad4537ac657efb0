"""The garbage collector, kept from looking through the backlog again and again."""

import asyncio
import gc

from sluice.lanes import Lanes

INTERVAL = 0.5  # seconds
GROWTH = 5_000  # ingestions: to look through so many takes milliseconds
# Objects after which the young ones are looked through. Python's 700 take a tenth of the requests; 10,000 would now and
# then take 20 ms at once.
YOUNG = 2_000


async def keep_out(lanes: Lanes) -> None:
    """Have every ingestion looked through once, and those that are there by now not at all; cancel it to stop.

    It sets the process's threshold for young objects as well, and leaves it so.

    Python looks through all there is whenever that has grown by a quarter, which takes
    a second for a million ingestions; nothing is served and no batch starts meanwhile.
    None of what they are made of is in a cycle: whatever ends goes when the last
    reference to it does, frozen or not; so does a connection, but on asyncio's own event
    loop, where each that was open once keeps its kilobyte.
    """
    gc.set_threshold(YOUNG)
    gc.freeze()
    known = _count(lanes)
    while True:
        await asyncio.sleep(INTERVAL)
        count = _count(lanes)
        if abs(count - known) >= GROWTH:
            known = count
            # What is in a cycle by now must not be kept for ever.
            gc.collect()
            gc.freeze()


def _count(lanes: Lanes) -> int:
    return sum(len(lane.ingestions) for lane in lanes.values())
