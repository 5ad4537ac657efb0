"""The slots that come next: which IDs of which ingestion, and when, if nothing more arrives and nothing more fails."""

from heapq import heapify, heappop, heappush, nsmallest
from typing import NamedTuple

from sluice.backlog import Backlog
from sluice.ingestion import NEVER, Ingestion

MOST_SHARES = 1000  # ingestions that share a slot, at most: choosing them must not hold up the call


class Coming(NamedTuple):
    """What is in a slot to come. `start` is seconds on the monotonic clock; what shares a slot has the same."""

    ingestion: Ingestion
    positions: tuple[int, ...]
    start: float


class _Left:
    """What is left of one ingestion as the slots go by."""

    def __init__(self, backlog: Backlog, ingestion: Ingestion, most: int) -> None:
        self.rank = backlog.order.rank(ingestion)
        self.ingestion = ingestion
        # A slot that is shared may have several batches of it, where it was sliced for slots with less room.
        self.ready = nsmallest(max(most * ingestion.batch_size, backlog.room), ingestion.ready)
        self.started = ingestion.started
        self.unstarted = ingestion.unstarted
        self.is_active = False

    def __lt__(self, other: "_Left") -> bool:
        return self.rank < other.rank

    @property
    def next_length(self) -> int:
        """How many IDs go next."""
        if self.ready:
            return min(self.ingestion.batch_size, len(self.ready))
        return len(self.ingestion.positions_of(self.started))

    def take(self) -> tuple[int, ...]:
        """Take out what goes next, as `Ingestion.next_positions` says."""
        if self.ready:
            return tuple(heappop(self.ready) for _ in range(self.next_length))
        self.started += 1
        self.unstarted -= 1
        return tuple(self.ingestion.positions_of(self.started - 1))


class _Play:
    """The waiting work as the slots go by, `most` of them; the backlog itself stays as it is."""

    def __init__(self, backlog: Backlog, most: int) -> None:
        self._backlog = backlog
        self._most = most
        self._lefts: dict[int, _Left] = {}
        self._active: list[_Left] = []
        self._dues = [
            (due, seq, position, ingestion)
            for seq, (_, ingestion) in backlog.delayed.items()
            for due, position in ingestion.delayed
        ]
        heapify(self._dues)
        # Where no batch is started (a pause, another process's lane) nobody else takes out what is invalid at the head.
        backlog.head(-NEVER)
        self._queue = backlog.in_order()
        self._head = next(self._queue, None)

    @property
    def next_due(self) -> float:
        """When the next ID may be tried again that may not yet; never if there is none."""
        return self._dues[0][0] if self._dues else NEVER

    def slot(self, now: float) -> list[Coming]:
        """Take out what has the slot at `now`: the next batch, and what shares the slot with it; or nothing."""
        while self.next_due <= now:
            _, seq, position, ingestion = heappop(self._dues)
            due = self._lefts.get(seq) or self._left_of(ingestion)
            heappush(due.ready, position)
            self._activate(due)
        taken: list[Coming] = []
        filled = 0
        while (left := self._next()) is not None and len(taken) < MOST_SHARES:
            if taken and filled + left.next_length > self._backlog.room:
                break  # nothing that is behind it may go first, though it may be short enough
            filled += left.next_length
            taken.append(Coming(left.ingestion, left.take(), now))
            if not left.ready and not left.unstarted:
                heappop(self._active).is_active = False
        return taken

    def _next(self) -> _Left | None:
        """Return whose work is next, of all that is ready."""
        while self._head is not None and self._head.seq in self._lefts:
            self._head = next(self._queue, None)
        order = self._backlog.order
        if self._head is not None and (not self._active or order.rank(self._head) < self._active[0].rank):
            self._activate(self._left_of(self._head))
        return self._active[0] if self._active else None

    def _left_of(self, ingestion: Ingestion) -> _Left:
        left = self._lefts[ingestion.seq] = _Left(self._backlog, ingestion, self._most)
        return left

    def _activate(self, left: _Left) -> None:
        if not left.is_active:
            left.is_active = True
            heappush(self._active, left)


def next_slot(backlog: Backlog, now: float) -> list[Coming]:
    """Return what has the slot at `now`. O(log n) for each that shares it."""
    return _Play(backlog, 1).slot(now)


def coming(backlog: Backlog, start: float, spacing: float, count: int) -> list[Coming]:
    """Play the slots, the first at `start` and then every `spacing` seconds while there is work.

    Returns what is in them, `count` at most. O(log n) for each and for each ID whose
    time to be tried again has not come.
    """
    slots: list[Coming] = []
    play = _Play(backlog, count)
    now = start
    while len(slots) < count:
        if taken := play.slot(now):
            slots += taken
            now += spacing
        elif play.next_due < NEVER:
            now = play.next_due
        else:
            break
    return slots[:count]
