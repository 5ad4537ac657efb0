"""One accepted ingestion: its IDs, its cursor, what went wrong, and everything that follows from them."""

from array import array
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from uuid_utils import UUID, uuid5

from sluice.events import Accepted, Outcome
from sluice.models import BatchStatus, IngestionStatus, Priority

NEVER = float("inf")
INTERRUPTED = "interrupted by a restart"


def batch_id(ingestion_id: str, index: int) -> str:
    """Return the id of batch `index` of an ingestion."""
    return str(uuid5(UUID(ingestion_id), str(index)))


class Batch(NamedTuple):
    """Up to `batch_size` IDs that go to the upstream in one slot.

    First attempts are a batch as it was sliced. IDs tried again may come from
    several, so each ID has its own `batch_ids` entry, in the same order. Where batches
    of several ingestions share the slot, `ingestion_id` is the first one's, and each of
    the `positions` is in the ID's own ingestion.
    """

    ingestion_id: str
    positions: tuple[int, ...]
    ids: list[int]
    batch_ids: list[str]

    @property
    def distinct_batch_ids(self) -> list[str]:
        """The batches that the IDs are of, each once."""
        return list(dict.fromkeys(self.batch_ids))


class Trouble(NamedTuple):
    """The last error of an ID, the attempts that counted, and whether it has failed for good."""

    attempts: int
    error: str
    is_final: bool


class Ingestion:
    """An accepted list of IDs and how far it has come.

    Batches are derived, never stored: batch k is `ids[size * k : size * (k + 1)]`,
    its id is `uuid5(ingestion_id, str(k))`, and its status follows from the cursor
    `started` (in batches) but for the exceptions, which are kept sparsely: `open`
    (started batches and how many of their IDs have not ended) and `troubles`
    (IDs whose last attempt failed). An ID that waits for another attempt is in
    `ready` or, until its time has come, in `delayed`.
    """

    __slots__ = (
        "batch_size",
        "created_time",
        "delayed",
        "failed_batches",
        "finished_time",
        "gives_up",
        "ids",
        "in_flight",
        "ingestion_id",
        "is_cancelled",
        "open",
        "owner",
        "priority",
        "queue_ticket",
        "ready",
        "seq",
        "started",
        "troubles",
        "weight",
    )

    def __init__(self, accepted: Accepted) -> None:
        self.ingestion_id: str
        self.priority: Priority
        self.created_time: float
        self.seq: int
        self.batch_size: int
        self.ids: array[int]
        # In one go, for millions may be made at a start.
        self.ingestion_id, self.priority, self.created_time, self.seq, self.batch_size, self.ids, _, self.owner = (
            accepted
        )
        self.started = 0
        self.is_cancelled = False  # what has not started never will
        self.gives_up = False  # what fails is not tried again
        self.finished_time: float | None = None
        self.in_flight: tuple[int, ...] = ()
        self.open: dict[int, int] = {}
        self.troubles: dict[int, Trouble] = {}
        self.ready: list[int] = []  # a heap
        self.delayed: list[tuple[float, int]] = []  # a heap of (when, position)
        self.failed_batches = 0
        self.weight = 0  # these two are the backlog's: the slots it counts for it, and its valid queue entry
        self.queue_ticket = -1

    # What follows from the state

    @property
    def total(self) -> int:
        """Batches in all."""
        return -(-len(self.ids) // self.batch_size)

    @property
    def unstarted(self) -> int:
        """Batches that wait for their first attempt."""
        return 0 if self.is_cancelled else self.total - self.started

    @property
    def waiting_ids(self) -> int:
        """IDs that wait for their first attempt."""
        return 0 if self.is_cancelled else max(0, len(self.ids) - self.started * self.batch_size)

    @property
    def ready_slots(self) -> int:
        """Slots that its work takes that could start now: IDs tried again share batches."""
        return self.unstarted + -(-len(self.ready) // self.batch_size)

    @property
    def is_done(self) -> bool:
        """Whether every batch has ended."""
        return not self.open and not self.unstarted

    @property
    def status(self) -> IngestionStatus:
        """The overall status, as the API words it."""
        if self.is_done:
            return IngestionStatus.COMPLETED
        return IngestionStatus.TRIGGERED if self.started else IngestionStatus.YET_TO_START

    def batch_counts(self) -> dict[BatchStatus, int]:
        """Return how many batches have each status. O(1)."""
        left = self.total - self.started
        return {
            BatchStatus.YET_TO_START: 0 if self.is_cancelled else left,
            BatchStatus.TRIGGERED: len(self.open),
            BatchStatus.COMPLETED: self.started - len(self.open) - self.failed_batches,
            BatchStatus.FAILED: self.failed_batches,
            BatchStatus.CANCELLED: left if self.is_cancelled else 0,
        }

    def batch_status(self, index: int) -> BatchStatus:
        """Return the status of batch `index` (0 to `total - 1`). O(batch_size)."""
        if index >= self.started:
            return BatchStatus.CANCELLED if self.is_cancelled else BatchStatus.YET_TO_START
        if index in self.open:
            return BatchStatus.TRIGGERED
        return BatchStatus.FAILED if self._has_failures(index) else BatchStatus.COMPLETED

    def positions_of(self, index: int) -> range:
        """Return the positions of the IDs of batch `index`."""
        return range(index * self.batch_size, min((index + 1) * self.batch_size, len(self.ids)))

    def batch_id(self, index: int) -> str:
        """Return the id of batch `index`."""
        return batch_id(self.ingestion_id, index)

    def batch(self, positions: tuple[int, ...]) -> Batch:
        """Return the IDs at `positions` as what the upstream is given."""
        ids = [self.ids[position] for position in positions]
        batch_ids = {index: self.batch_id(index) for index in {position // self.batch_size for position in positions}}
        return Batch(
            self.ingestion_id, positions, ids, [batch_ids[position // self.batch_size] for position in positions]
        )

    def has_ended(self, position: int) -> bool:
        """Return whether the ID at `position` has its answer or has failed for good (or never will be called)."""
        index = position // self.batch_size
        if index >= self.started:
            return self.is_cancelled
        if index not in self.open:
            return True
        trouble = self.troubles.get(position)
        return position not in self.in_flight and (trouble is None or trouble.is_final)

    def is_retry(self, positions: tuple[int, ...]) -> bool:
        """Return whether these IDs, which go or went together, were tried before."""
        return positions[0] in self.troubles

    def failures(self) -> Iterator[int]:
        """Yield the positions of the IDs that have failed for good."""
        return (position for position, trouble in self.troubles.items() if trouble.is_final)

    def next_positions(self) -> tuple[int, ...]:
        """Return the IDs that go next: those ready to be tried again, else the first unstarted batch."""
        if not self.ready:
            return tuple(self.positions_of(self.started))
        if len(self.ready) <= self.batch_size:
            return tuple(sorted(self.ready))
        ready = self.ready.copy()
        return tuple(heappop(ready) for _ in range(self.batch_size))

    # What events do

    def start(self, positions: tuple[int, ...]) -> None:
        """Put these IDs in flight: what `next_positions` said, wherever that was decided."""
        if positions[0] < self.started * self.batch_size:
            self._take(positions)
        else:
            self.open[self.started] = len(positions)
            self.started += 1
        self.in_flight += positions

    def finish(self, outcomes: Iterable[Outcome], time: float) -> None:
        """Settle the IDs in flight; those with a `retry_at` wait for another attempt."""
        self.in_flight = ()
        self._settle(outcomes, time)

    def interrupt(self, at: float) -> None:
        """Let the IDs in flight be tried again from `at` on."""
        for position in self.in_flight:
            self.troubles.setdefault(position, Trouble(0, INTERRUPTED, is_final=False))
            heappush(self.delayed, (at, position))
        self.in_flight = ()

    def release(self, now: float) -> None:
        """Let IDs whose time has come be tried again."""
        while self.delayed and self.delayed[0][0] <= now:
            heappush(self.ready, heappop(self.delayed)[1])

    def given_up(self) -> tuple[Outcome, ...]:
        """Return what waits for another attempt as what it is once that is given up: failed."""
        waiting = sorted([*self.ready, *(position for _, position in self.delayed)])
        return tuple(
            Outcome(position, self.troubles[position].attempts, error=self.troubles[position].error)
            for position in waiting
        )

    def cancel(self, failed: Iterable[Outcome], time: float) -> None:
        """Give up what has not started and, as `given_up` said, every further attempt; what is in flight goes on."""
        self.ready, self.delayed = [], []
        self.is_cancelled = self.gives_up = True
        self._settle(failed, time)

    def revive(self) -> None:
        """Let every failed ID be tried again, with no attempt counted yet."""
        failed = list(self.failures())
        for position in failed:
            index = position // self.batch_size
            if index not in self.open:
                self.failed_batches -= 1
            self.open[index] = self.open.get(index, 0) + 1
            self.troubles[position] = self.troubles[position]._replace(attempts=0, is_final=False)
        self.gives_up = False
        self.ready += failed
        heapify(self.ready)
        self.finished_time = None

    def restore(
        self,
        started: int,
        waiting: Iterable[tuple[int, float, Trouble]],
        time: float,
        in_flight: tuple[int, ...] = (),
    ) -> None:
        """Take up a saved state: the cursor, the IDs that wait for another attempt and until when, the last change.

        `troubles` already holds those that have failed for good. What is in flight may
        be among what waits: its next attempt is under way.
        """
        self.started = started
        self.in_flight = in_flight
        for position, retry_at, trouble in waiting:
            self.troubles[position] = trouble
            if position not in in_flight:
                heappush(self.delayed, (retry_at, position))
        for position in [*in_flight, *(position for _, position in self.delayed)]:
            index = position // self.batch_size
            self.open[index] = self.open.get(index, 0) + 1
        failed = {position // self.batch_size for position in self.failures()}
        self.failed_batches = len(failed - self.open.keys())
        self._note_end(time)

    def _take(self, positions: tuple[int, ...]) -> None:
        """Take out IDs that are tried again."""
        if self.ready[:1] == [positions[0]] and len(self.ready) >= len(positions):
            ready = [heappop(self.ready) for _ in positions]
            if tuple(ready) == positions:
                return
            self.ready += ready
        # Another process decided, whose clock is not quite this one's: what is due there need not be here.
        self.ready = [each for each in self.ready if each not in positions]
        self.delayed = [each for each in self.delayed if each[1] not in positions]
        heapify(self.ready)
        heapify(self.delayed)

    def _settle(self, outcomes: Iterable[Outcome], time: float) -> None:
        for position, attempts, _, error, retry_at in outcomes:
            if error is None:
                self.troubles.pop(position, None)
            else:
                self.troubles[position] = Trouble(attempts, error, is_final=retry_at is None)
            if retry_at is not None:
                heappush(self.delayed, (retry_at, position))
                continue
            index = position // self.batch_size
            self.open[index] -= 1
            if not self.open[index]:
                del self.open[index]
                self.failed_batches += self._has_failures(index)
        self._note_end(time)

    def _note_end(self, time: float) -> None:
        if self.finished_time is None and self.is_done:
            self.finished_time = time

    def _has_failures(self, index: int) -> bool:
        return any(position in self.troubles for position in self.positions_of(index))
