"""What becomes of an ingestion if nothing more arrives and nothing more fails."""

from collections import Counter
from heapq import heappop, heappush
from math import ceil
from typing import NamedTuple

from sluice.backlog import Backlog
from sluice.ingestion import Ingestion
from sluice.order import Work


class Slots(NamedTuple):
    """Which slots an ingestion will have: how many others are ahead, when its first and its last one start.

    `last_length` is how many IDs the last one has. Times are seconds on the monotonic clock.
    """

    position: int
    first: float
    last: float
    last_length: int


class _Retries:
    """The IDs of one ingestion that will be tried again: those that are ready, and those left in all."""

    def __init__(self, backlog: Backlog, ingestion: Ingestion, work: Work, uncounted: int) -> None:
        self.key = backlog.order.rank(ingestion)
        self.ahead = backlog.ahead(ingestion)
        if uncounted and self.key > backlog.order.rank(work):
            self.ahead += uncounted
        self.size = ingestion.batch_size
        self.ready = len(ingestion.ready)
        self.left = self.ready + len(ingestion.delayed)

    def __lt__(self, other: "_Retries") -> bool:
        return self.key < other.key


def slots_of(backlog: Backlog, work: Work, start: float, spacing: float) -> Slots:
    """Play the coming slots through, the first at `start` and then every `spacing` seconds while there is work.

    What is ready is counted, not played: the sums of the backlog tell how many
    slots lie between any two events. Only IDs whose time to be tried again has not
    come make events, and the longest backoff bounds how many of those there are:
    O(log n) for each of them and once more. Where short batches share slots, IDs
    tried again are taken to have slots of their own until they are ready.
    """
    if not work.is_new:
        return _played(backlog, work, 0, start, spacing)
    with backlog.trying(work) as uncounted:
        return _played(backlog, work, uncounted, start, spacing)


def _played(backlog: Backlog, work: Work, uncounted: int, start: float, spacing: float) -> Slots:
    own_first, own_end, own_last_length = backlog.place(work)
    if not backlog.delayed:
        # Nothing makes an event: one slot follows the other.
        return Slots(own_first, start + own_first * spacing, start + (own_end - 1) * spacing, own_last_length)
    retries = {seq: _Retries(backlog, each, work, uncounted) for seq, (_, each) in backlog.delayed.items()}
    # What failed in one slot is due at one time: far fewer events than IDs.
    counts = Counter((due, seq) for seq, (_, each) in backlog.delayed.items() for due, _ in each.delayed)
    dues = sorted(((due, seq, count) for (due, seq), count in counts.items()), reverse=True)
    candidates = sorted(each for each in retries.values() if each.ready)
    own = retries.get(work.seq) if work.awaits_retries else None
    everything = backlog.total + uncounted
    slot, taken, now = 0, 0, start  # slots gone by, those of ready work among them, the time of the next
    first: tuple[int, float] | None = None
    last, last_length = start, 0
    while taken < own_end or (own and own.left):
        while dues and dues[-1][0] <= now:
            _, seq, count = dues.pop()
            each = retries[seq]
            if not each.ready:
                heappush(candidates, each)
            each.ready += count
        if candidates and taken >= candidates[0].ahead:
            each = candidates[0]
            length = min(each.size, each.ready)
            each.ready -= length
            each.left -= length
            if not each.ready:
                heappop(candidates)
            if each is own:
                first = first or (slot, now)
                last, last_length = now, length
            run = 1
        elif taken < everything:
            run = (candidates[0].ahead if candidates else everything) - taken
            if dues and spacing:
                run = min(run, ceil((dues[-1][0] - now) / spacing))
            if taken <= own_first < min(own_end, taken + run):
                first = first or (slot + own_first - taken, now + (own_first - taken) * spacing)
            if max(taken, own_first) < own_end <= taken + run:
                last = now + (own_end - 1 - taken) * spacing
                last_length = own_last_length
            taken += run
        else:
            now = dues[-1][0]
            continue
        slot += run
        now += run * spacing
    assert first
    return Slots(*first, last, last_length)
