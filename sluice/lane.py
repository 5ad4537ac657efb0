"""One upstream's state machine: events change it, decisions read it and propose events."""

from array import array
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from uuid_utils import uuid4

from sluice.backlog import Backlog
from sluice.events import Accepted, Event, Finished, Started
from sluice.ingestion import Batch, Ingestion
from sluice.journal import Journal
from sluice.models import Priority
from sluice.pace import Pace


class Forecast(NamedTuple):
    """What becomes of an ingestion if nothing more arrives. Times are seconds on the monotonic clock."""

    position: int
    start: float
    completion: float


class Lane:
    """One upstream, its pace, its backlog and every ingestion it was given.

    Whatever must be remembered is an event: `record` appends it to the journal,
    then applies it. Everything else only reads, and answers for a given time.
    """

    def __init__(self, journal: Journal, pace: Pace, batch_size: int) -> None:
        self.journal = journal
        self.pace = pace
        self.batch_size = batch_size
        self.backlog = Backlog()
        self.ingestions: dict[str, Ingestion] = {}
        self.running: Started | None = None
        self._seq = count()
        self._latest_created_time = 0.0

    async def record(self, event: Event) -> None:
        """Append an event to the journal, then apply it; what the journal raises is raised and nothing changes."""
        await self.journal.append([event])
        self.apply(event)

    def apply(self, event: Event) -> None:
        """Change the state as the event says. Deterministic: the same events give the same state."""
        match event:
            case Accepted():
                ingestion = Ingestion(event)
                self.ingestions[event.ingestion_id] = ingestion
                self.backlog.add(ingestion)
            case Started():
                ingestion = self.ingestions[event.ingestion_id]
                ingestion.started += 1
                self.backlog.started(ingestion)
                self.pace.started(event.at)
                self.running = event
            case Finished():
                ingestion = self.ingestions[event.ingestion_id]
                ingestion.finished += 1
                if event.error is not None:
                    ingestion.errors[event.batch_index] = event.error
                if self.running is not None:
                    self.pace.finished(ingestion.batch_length(event.batch_index), event.at - self.running.at)
                self.running = None

    def accept(self, ids: Sequence[int], priority: Priority, time: float) -> Accepted:
        """Propose to take in `ids` at `time`, Unix seconds."""
        # A wall clock that is set back must not let a newcomer overtake.
        self._latest_created_time = max(self._latest_created_time, time)
        created_time, seq = self._latest_created_time, next(self._seq)
        return Accepted(str(uuid4()), priority, created_time, seq, self.batch_size, array("I", ids))

    def next_batch(self) -> Batch | None:
        """Decide which batch is next: the first unstarted one of the ingestion at the head of the backlog."""
        ingestion = self.backlog.head()
        return None if ingestion is None else ingestion.batch(ingestion.started)

    def next_start(self, now: float) -> float:
        """Return when the next batch may start: not before its slot, nor before the running one is expected to end."""
        ready_at = max(now, self.pace.ready_at)
        if self.running is None:
            return ready_at
        running = self.ingestions[self.running.ingestion_id]
        return max(
            ready_at, self.running.at + self.pace.expected_duration(running.batch_length(self.running.batch_index))
        )

    def forecast(self, ingestion: Ingestion, now: float) -> Forecast | None:
        """Return where `ingestion` stands and when it will run if nothing more arrives; None when it is done.

        The batches ahead and its own take one slot each. Exact while no batch
        takes longer than the interval; else every slot is taken to last as long
        as a full batch is expected to.
        """
        if ingestion.is_done:
            return None
        if ingestion.waiting:
            position = self.backlog.position(ingestion)
            spacing = self.pace.spacing(ingestion.batch_size)
            start = self.next_start(now) + position * spacing
            last_start = start + (ingestion.waiting - 1) * spacing
        else:
            assert self.running is not None
            position = 0
            start = last_start = self.running.at
        duration = self.pace.expected_duration(ingestion.batch_length(ingestion.total - 1))
        return Forecast(position, start, max(now, last_start + duration))
