"""The order: which ingestion is next, and how many slots are ahead of any other."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count

from sluice.ingestion import NEVER, Ingestion
from sluice.line import Line, Place
from sluice.models import Priority
from sluice.order import Order, Work, work_of
from sluice.prefix_sums import PrefixSums

LEAST_STALE = 1000

Entry = tuple[float, float, int, int, Ingestion]  # its rank, its ticket


class SweptQueue(asyncio.PriorityQueue[Entry]):
    """A priority queue that can drop what is no longer valid."""

    _queue: list[Entry]  # as asyncio.PriorityQueue makes it, for subclasses

    def fill(self, entries: list[Entry]) -> None:
        """Put in many entries at once, and nothing else."""
        heapify(entries)
        self._queue = entries

    def in_order(self) -> Iterator[Entry]:
        """Yield the entries, the smallest first; O(log n) each, for a heap is a tree that can be walked."""
        candidates = [(entry, 0) for entry in self._queue[:1]]
        while candidates:
            entry, place = heappop(candidates)
            yield entry
            for child in range(2 * place + 1, min(2 * place + 3, len(self._queue))):
                heappush(candidates, (self._queue[child], child))

    def sweep(self) -> None:
        """Drop every entry that its ingestion no longer holds the ticket of."""
        self._queue = [entry for entry in self._queue if is_valid(entry)]
        heapify(self._queue)


def is_valid(entry: Entry) -> bool:
    """Return whether this is the entry that its ingestion is queued with."""
    return entry[-2] == entry[-1].queue_ticket


class Backlog:
    """The ingestions with work that could start, in the order of their ranks.

    One valid queue entry per ingestion, which keeps its key while work of it
    waits. Entries that a cancellation or another priority made invalid are passed
    over when they come up, and swept when they are the majority, so that every
    operation is O(log waiting ingestions), amortised.

    Within a priority the order of `(created_time, seq)` is the order of `seq`, for
    `created_time` never goes back: so one sum per priority over places `seq` tells
    how many slots are ahead. Where work ages, or shares slots, a line tells it.
    """

    def __init__(self, order: Order | None = None, room: int = 0) -> None:
        """Take the order, and how many IDs a slot has room for where short batches share it, else 0."""
        self.order = order or Order()
        self.room = room
        self._line = Line(room) if room or self.order.aging is not None else None
        self.became_ready = asyncio.Event()
        self.slots = tuple(PrefixSums() for _ in Priority)
        # IDs whose time to be tried again has not come: few, for the longest backoff limits them.
        self.delayed: dict[int, tuple[float, Ingestion]] = {}
        self._due: list[tuple[float, int]] = []
        self._queue = SweptQueue()
        self.queued = 0  # ingestions with work that could start
        self._tickets = count()

    @property
    def total(self) -> int:
        """Slots that the work of all takes, without IDs that share with others yet to come."""
        return sum(slots.total for slots in self.slots) if self._line is None else self._line.slots

    def fill(self, ingestions: Iterable[Ingestion]) -> None:
        """Take note of many ingestions at once, in a backlog that is empty."""
        amounts: tuple[dict[int, int], ...] = tuple({} for _ in Priority)
        entries: list[Entry] = []
        others: list[Ingestion] = []
        for ingestion in ingestions:
            if ingestion.started or ingestion.is_cancelled:
                others.append(ingestion)
                continue
            ingestion.weight = amounts[ingestion.priority][ingestion.seq] = ingestion.total
            ingestion.queue_ticket = ticket = next(self._tickets)
            entries.append((*self.order.rank(ingestion), ticket, ingestion))
        self.slots = tuple(PrefixSums.of(each) for each in amounts)
        if self._line is not None:
            self._line = Line(self.room, ((entry[:3], work_of(entry[-1]).stretches) for entry in entries))
        self._queue.fill(entries)
        self.queued = len(entries)
        for ingestion in others:
            self.update(ingestion)
        self.became_ready.set()

    def add(self, ingestion: Ingestion) -> None:
        """Take note of an ingestion that is new. `update` would do as well, for one and a half times the price."""
        ingestion.weight = total = ingestion.total
        self.slots[ingestion.priority].add(ingestion.seq, total)
        if self._line is not None:
            self._line.put(self.order.rank(ingestion), work_of(ingestion).stretches)
        self._enqueue(ingestion)

    def update(self, ingestion: Ingestion) -> None:
        """Take note of an ingestion that has changed, but for its priority."""
        if not ingestion.delayed:
            if self.delayed:
                self.delayed.pop(ingestion.seq, None)
        elif self.delayed.get(ingestion.seq) != (due := (ingestion.delayed[0][0], ingestion)):
            self.delayed[ingestion.seq] = due
            heappush(self._due, (due[0], ingestion.seq))
        ready_slots = ingestion.ready_slots
        # With IDs yet to come that may share their slot, those ready to be tried again are the forecast's to count.
        weight = ingestion.unstarted if ingestion.delayed else ready_slots
        if weight != ingestion.weight:
            self.slots[ingestion.priority].add(ingestion.seq, weight - ingestion.weight)
            ingestion.weight = weight
        if self._line is not None:
            self._line.put(self.order.rank(ingestion), work_of(ingestion).stretches)
        if ready_slots and ingestion.queue_ticket < 0:
            self._enqueue(ingestion)
        elif not ready_slots and ingestion.queue_ticket >= 0:
            self._dequeue(ingestion)

    def remove(self, ingestion: Ingestion) -> None:
        """Forget an ingestion, for good or before it changes its priority; `update` brings it back."""
        self.slots[ingestion.priority].add(ingestion.seq, -ingestion.weight)
        ingestion.weight = 0
        if self._line is not None:
            self._line.put(self.order.rank(ingestion), ())
        self.delayed.pop(ingestion.seq, None)
        if ingestion.queue_ticket >= 0:
            self._dequeue(ingestion)

    def head(self, now: float) -> Ingestion | None:
        """Return the ingestion whose work is next at `now`, or None when nothing is ready."""
        self.release(now)
        while not self._queue.empty():
            entry = self._queue.get_nowait()
            if is_valid(entry):
                self._queue.put_nowait(entry)
                return entry[-1]
        return None

    def in_order(self) -> Iterator[Ingestion]:
        """Yield the ingestions with work that is ready, first come first, as long as nothing changes."""
        return (entry[-1] for entry in self._queue.in_order() if is_valid(entry))

    def release(self, now: float) -> None:
        """Let every ID whose time has come be tried again."""
        while self.next_due() <= now:
            _, ingestion = self.delayed[heappop(self._due)[1]]
            ingestion.release(now)
            self.update(ingestion)

    def next_due(self) -> float:
        """Return when the next ID may be tried again that may not now; never if there is none."""
        while self._due:
            due, seq = self._due[0]
            if seq in self.delayed and self.delayed[seq][0] == due:
                return due
            heappop(self._due)
        return NEVER

    def next_ready(self, now: float) -> float:
        """Return when something is ready to start: `now`, or later, or never."""
        self.release(now)
        return now if self.queued else self.next_due()

    def place(self, work: Work) -> Place:
        """Return which slots work has, but for IDs still delayed. O(log seq), or a step for every 512 that wait."""
        if self._line is not None:
            return self._line.place(self.order.rank(work), work.stretches)
        above = sum(slots.total for slots in self.slots[: work.priority])
        first = above + self.slots[work.priority].before(work.seq)
        return Place(first, first + work.slots, work.stretches[-1].last_length if work.stretches else 0)

    @contextmanager
    def trying(self, work: Work) -> Iterator[int]:
        """Count new work as if it were there, until the block is left; yield the slots of it that are not counted yet.

        How many slots it adds where it shares some, and what it does to the sharing of
        others, is known only once it is in the line.
        """
        if self._line is None:
            yield work.slots
            return
        rank = self.order.rank(work)
        self._line.put(rank, work.stretches)
        try:
            yield 0
        finally:
            self._line.put(rank, ())

    def ahead(self, ingestion: Ingestion) -> int:
        """Return how many slots come before those of an ingestion."""
        return self.place(work_of(ingestion)).first

    def _enqueue(self, ingestion: Ingestion) -> None:
        ingestion.queue_ticket = next(self._tickets)
        self._queue.put_nowait((*self.order.rank(ingestion), ingestion.queue_ticket, ingestion))
        self.queued += 1
        if self.queued == 1:
            self.became_ready.set()

    def _dequeue(self, ingestion: Ingestion) -> None:
        ingestion.queue_ticket = -1
        self.queued -= 1
        if self._queue.qsize() > 2 * self.queued + LEAST_STALE:
            self._queue.sweep()
