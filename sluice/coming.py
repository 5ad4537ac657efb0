"""The slots that come next: which IDs of which ingestion, and when, if nothing more arrives and nothing more fails."""

from heapq import heapify, heappop, heappush, nsmallest
from typing import NamedTuple

from sluice.backlog import Backlog
from sluice.ingestion import NEVER, Ingestion
from sluice.models import Priority


class Coming(NamedTuple):
    """A slot to come. `start` is seconds on the monotonic clock."""

    ingestion: Ingestion
    positions: tuple[int, ...]
    start: float


def key_of(ingestion: Ingestion) -> tuple[Priority, float, int]:
    """Return what the order goes by."""
    return ingestion.priority, ingestion.created_time, ingestion.seq


class _Left:
    """What is left of one ingestion as the slots go by."""

    def __init__(self, ingestion: Ingestion, most: int) -> None:
        self.key = key_of(ingestion)
        self.ingestion = ingestion
        self.ready = nsmallest(most, ingestion.ready)
        self.started = ingestion.started
        self.unstarted = ingestion.unstarted
        self.is_active = False

    def __lt__(self, other: "_Left") -> bool:
        return self.key < other.key

    def take(self) -> tuple[int, ...]:
        """Take out what goes next, as `Ingestion.next_positions` says."""
        if self.ready:
            return tuple(heappop(self.ready) for _ in range(min(self.ingestion.batch_size, len(self.ready))))
        self.started += 1
        self.unstarted -= 1
        return tuple(self.ingestion.positions_of(self.started - 1))


def coming(backlog: Backlog, start: float, spacing: float, count: int) -> list[Coming]:
    """Play `count` slots at most, the first at `start` and then every `spacing` seconds while there is work.

    O(log n) a slot and for each ID whose time to be tried again has not come.
    """
    slots: list[Coming] = []
    lefts: dict[int, _Left] = {}
    active: list[_Left] = []
    dues = [
        (due, seq, position, ingestion)
        for seq, (_, ingestion) in backlog.delayed.items()
        for due, position in ingestion.delayed
    ]
    heapify(dues)
    # Where no batch is started (a pause, another process's lane) nobody else takes out what is invalid at the head.
    backlog.head(-NEVER)
    queue = backlog.in_order()
    head = next(queue, None)
    now = start

    def left_of(ingestion: Ingestion) -> _Left:
        return _Left(ingestion, count * ingestion.batch_size)

    def activate(left: _Left) -> None:
        if not left.is_active:
            left.is_active = True
            heappush(active, left)

    while len(slots) < count:
        while dues and dues[0][0] <= now:
            _, seq, position, ingestion = heappop(dues)
            left = lefts.get(seq) or lefts.setdefault(seq, left_of(ingestion))
            heappush(left.ready, position)
            activate(left)
        while head is not None and head.seq in lefts:
            head = next(queue, None)
        if head is not None and (not active or key_of(head) < active[0].key):
            lefts[head.seq] = left_of(head)
            activate(lefts[head.seq])
        elif not active:
            if not dues:
                break
            now = dues[0][0]
            continue
        left = active[0]
        slots.append(Coming(left.ingestion, left.take(), now))
        if not left.ready and not left.unstarted:
            heappop(active).is_active = False
        now += spacing
    return slots
