"""The order: which ingestion is next, and how many batches are ahead of any other."""

import asyncio

from sluice.ingestion import Ingestion
from sluice.models import Priority


class Backlog:
    """The waiting ingestions, smallest `(priority, created_time, seq)` first.

    One queue entry per ingestion, which keeps its key while batches of it wait.
    Per priority, two running totals (batches accepted, batches started) make
    `position` O(1); the rest is O(log waiting ingestions).
    """

    def __init__(self) -> None:
        self._queue: asyncio.PriorityQueue[tuple[Priority, float, int, Ingestion]] = asyncio.PriorityQueue()
        self._accepted = [0] * len(Priority)
        self._started = [0] * len(Priority)

    def add(self, ingestion: Ingestion) -> None:
        """Let an ingestion wait. Within a priority, call in the order of `(created_time, seq)`."""
        ingestion.accepted_before = self._accepted[ingestion.priority]
        self._accepted[ingestion.priority] += ingestion.total
        self._queue.put_nowait((ingestion.priority, ingestion.created_time, ingestion.seq, ingestion))

    def started(self, ingestion: Ingestion) -> None:
        """Note that one more batch of this ingestion has started."""
        self._started[ingestion.priority] += 1

    def head(self) -> Ingestion | None:
        """Return the ingestion whose batch is next, or None when nothing waits."""
        while not self._queue.empty():
            entry = self._queue.get_nowait()
            if entry[-1].waiting:
                self._queue.put_nowait(entry)
                return entry[-1]
        return None

    async def wait(self) -> None:
        """Return as soon as something waits."""
        if self.head() is None:
            self._queue.put_nowait(await self._queue.get())

    def waiting(self, priority: Priority) -> int:
        """Return how many batches of this priority have not started."""
        return self._accepted[priority] - self._started[priority]

    def position(self, ingestion: Ingestion) -> int:
        """Return how many batches go before this ingestion's next one, if nothing more arrives."""
        above = sum(self.waiting(priority) for priority in Priority if priority < ingestion.priority)
        # First come first served: whatever of its class was accepted before it starts before it.
        ahead = ingestion.accepted_before + ingestion.started - self._started[ingestion.priority]
        return above + ahead
