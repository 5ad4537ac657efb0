"""One upstream's state machine: events change it, decisions read it and propose events."""

import asyncio
import logging
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sortedcontainers import SortedDict, SortedList
from uuid_utils import uuid4

from sluice.backlog import Backlog
from sluice.coming import Coming, coming
from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Idempotency,
    Interrupted,
    KeysExpired,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.forecast import Work, slots_of, work_of
from sluice.ingestion import NEVER, Batch, Ingestion
from sluice.journal import Journal, Saved, SavedIngestion, SavedKey
from sluice.models import DEFAULT_LANE, Priority
from sluice.observer import Observer
from sluice.pace import START_BUDGET, Pace
from sluice.sequencer import Sequencer

logger = logging.getLogger(__name__)


class Forecast(NamedTuple):
    """What becomes of an ingestion if nothing more arrives or fails.

    Times are seconds on the monotonic clock; never, while nothing is started.
    """

    position: int
    start: float
    completion: float


class Lane:
    """One upstream, its pace, its backlog and every ingestion it was given.

    Whatever must be remembered is an event: `record` appends it to the journal,
    which has it applied once it is durable. Everything else only reads, and answers
    for a given time.
    """

    def __init__(
        self,
        journal: Journal,
        pace: Pace,
        batch_size: int,
        name: str = DEFAULT_LANE,
        sequencer: Sequencer | None = None,
    ) -> None:
        """Start from what the journal remembers."""
        self.journal = journal
        self.pace = pace
        self.batch_size = batch_size
        self.name = name
        self.sequencer = sequencer or Sequencer()
        self.keys_in_flight: set[str] = set()
        self.is_closing = False
        self.progress = asyncio.Event()
        self.observers: list[Observer] = []
        self._deciding = asyncio.Lock()
        self._latest_created_time = 0.0
        self.backlog = Backlog()
        journal.attach(self.apply, self.restore)
        self.restore(journal.replay())

    def restore(self, saved: Saved) -> None:
        """Take up a saved state instead of the present one."""
        replaced, self.backlog = self.backlog, Backlog()
        # Not a dict: the first key of one costs as much as all that were deleted before it.
        self.keys: OrderedDict[str, SavedKey] = OrderedDict()
        self.finished: SortedList[tuple[float, str]] = SortedList()
        self.running, self.held, self.paused = saved.running, saved.held, saved.paused
        ingestions = [_restored(each, saved.running) for each in saved.ingestions]
        self.ingestions = {each.ingestion_id: each for each in ingestions}
        self.by_seq: SortedDict[int, Ingestion] = SortedDict((each.seq, each) for each in ingestions)
        self.backlog.fill(ingestions)
        self.finished.update(
            (each.finished_time, each.ingestion_id) for each in ingestions if each.finished_time is not None
        )
        if ingestions:
            self._latest_created_time = max(self._latest_created_time, ingestions[-1].created_time)
        for key in saved.keys:
            self._remember(key)
            self._latest_created_time = max(self._latest_created_time, key.created_time)
        self.sequencer.skip_to(saved.next_seq)
        if saved.last_start is not None:
            self.pace.started(saved.last_start + START_BUDGET)
        # Whoever waits for the backlog or the progress looks at what there is now.
        replaced.became_ready.set()
        self._ring()
        for observer in self.observers:
            observer.restored()

    async def record(self, *events: Event) -> None:
        """Make the events durable and apply them; raise `JournalError`, with nothing changed, if that is impossible."""
        await self.journal.append(events)

    async def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Record what `propose` makes of the state, with no other decision between its look and the record."""
        # Even if the caller is cancelled meanwhile: what is being recorded is decided.
        decision = asyncio.ensure_future(self._decide(propose))
        decision.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(decision)

    async def _decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        async with self._deciding:
            await self.journal.decide(propose)

    def close(self) -> None:
        """Let those who follow the progress know that there will be no more."""
        self.is_closing = True
        self._ring()

    def apply(self, event: Event) -> None:
        """Change the state as the event says, and tell the observers. Deterministic but for them."""
        was_running = self.running
        self._apply(event)
        # A start can be recorded again, with a later time, and the end of what had ended.
        if (isinstance(event, Started) and was_running) or (isinstance(event, Interrupted) and not was_running):
            return
        for observer in self.observers:
            try:
                observer.applied(event)
            except Exception:  # whoever looks on must not stop what happens
                logger.exception("an observer failed")

    def _apply(self, event: Event) -> None:  # noqa: PLR0912, PLR0915 - one case an event
        match event:
            case Accepted():
                self._add(Ingestion(event))
                if event.idempotency:
                    self.keys_in_flight.discard(event.idempotency.key)
                    self._remember(SavedKey(event.idempotency, event.ingestion_id, event.created_time))
            case Started():
                self.pace.started(event.at)
                if self.running is None:
                    ingestion = self.ingestions[event.ingestion_id]
                    ingestion.start(event.positions)
                    self.backlog.update(ingestion)
                self.running = event
                self._ring()
            case Finished():
                ingestion = self.ingestions[event.ingestion_id]
                ingestion.finish(event.outcomes, event.time)
                self.pace.finished(len(event.outcomes), event.at)
                self.running = None
                self._changed(ingestion)
            case Interrupted():
                if self.running is not None:
                    ingestion = self.ingestions[self.running.ingestion_id]
                    ingestion.interrupt(event.at)
                    self.running = None
                    self._changed(ingestion)
            case Held():
                self.held = event
            case Paused():
                self.paused = event
            case Resumed():
                self.paused = None
                self.backlog.became_ready.set()
            case Cancelled():
                ingestion = self.ingestions[event.ingestion_id]
                ingestion.cancel(event.failed, event.time)
                self._changed(ingestion)
            case Reprioritised():
                ingestion = self.ingestions[event.ingestion_id]
                self.backlog.remove(ingestion)
                ingestion.priority = event.priority
                self.backlog.update(ingestion)
            case Revived():
                ingestion = self.ingestions[event.ingestion_id]
                ingestion.revive()
                self._changed(ingestion)
            case Expired():
                self._remove(self.ingestions[event.ingestion_id])
            case KeysExpired():
                while self.keys and next(iter(self.keys.values())).created_time <= event.time:
                    self.keys.popitem(last=False)

    # Decisions

    def accept(
        self, ids: Sequence[int], priority: Priority, time: float, idempotency: Idempotency | None = None
    ) -> Accepted:
        """Propose to take in `ids` at `time`, Unix seconds."""
        # A wall clock that is set back must not let a newcomer overtake.
        self._latest_created_time = max(self._latest_created_time, time)
        return Accepted(
            str(uuid4()),
            priority,
            self._latest_created_time,
            self.sequencer.take(),
            self.batch_size,
            array("I", ids),
            idempotency,
        )

    def next_start(self, now: float) -> float:
        """Return when the next batch may start: `now`, later, or never while paused or without work."""
        return NEVER if self.paused else max(self.backlog.next_ready(now), self._next_slot(now))

    def next_batch(self, now: float) -> Batch | None:
        """Decide which IDs are next: those of the ingestion at the head of the backlog."""
        ingestion = self.backlog.head(now)
        return None if ingestion is None else ingestion.batch(ingestion.next_positions())

    def forecast(self, ingestion: Ingestion, now: float) -> Forecast | None:
        """Return where `ingestion` stands and when it will run if nothing more arrives or fails; None when it is done.

        Each batch takes one slot. Exact while no batch takes longer than the
        interval; else every slot is taken to last as long as a full batch is
        expected to. Never while paused, for nobody knows when that ends.
        """
        self.backlog.release(now)
        if ingestion.is_done:
            return None
        running_until = self._running_until() if ingestion.in_flight else now
        if not ingestion.weight and not ingestion.ready and not ingestion.delayed:
            return Forecast(0, self.pace.last_start, max(now, running_until))
        forecast = self._forecast(work_of(ingestion), now)
        return forecast._replace(completion=max(now, running_until, forecast.completion))

    def quote(self, total_ids: int, priority: Priority, now: float) -> Forecast:
        """Return what the forecast would be for `total_ids` (at least 1) that are accepted at `now`."""
        self.backlog.release(now)
        total, last_length = divmod(total_ids - 1, self.batch_size)
        return self._forecast(Work(priority, total + 1, last_length + 1), now)

    def coming(self, count: int, now: float) -> list[Coming]:
        """Return the slots that come next, `count` at most, if nothing more arrives or fails; never while paused."""
        self.backlog.release(now)
        slots = coming(self.backlog, self._next_slot(now), self.pace.spacing(self.batch_size), count)
        return [each._replace(start=NEVER) for each in slots] if self.paused else slots

    def waiting(self, priority: Priority) -> int:
        """Return how many slots the waiting work of this priority takes, as far as it is ready."""
        delayed = (ingestion for _, ingestion in self.backlog.delayed.values() if ingestion.priority == priority)
        return self.backlog.slots[priority].total + sum(each.ready_slots - each.weight for each in delayed)

    # Plumbing

    def _forecast(self, work: Work, now: float) -> Forecast:
        slots = slots_of(self.backlog, work, self._next_slot(now), self.pace.spacing(self.batch_size))
        if self.paused:
            return Forecast(slots.position, NEVER, NEVER)
        return Forecast(slots.position, slots.first, slots.last + self.pace.expected_duration(slots.last_length))

    def _next_slot(self, now: float) -> float:
        """Return when the next slot opens: not before the running batch is expected to end, nor during a hold."""
        running_until = self._running_until() if self.running else now
        return max(now, self.pace.ready_at, self.held.until if self.held else now, running_until)

    def _running_until(self) -> float:
        assert self.running is not None
        return self.pace.last_start + self.pace.expected_duration(len(self.running.positions))

    def _changed(self, ingestion: Ingestion) -> None:
        self.backlog.update(ingestion)
        if ingestion.finished_time is not None:
            self.finished.add((ingestion.finished_time, ingestion.ingestion_id))
        self._ring()

    def _ring(self) -> None:
        rung, self.progress = self.progress, asyncio.Event()
        rung.set()

    def _add(self, ingestion: Ingestion) -> None:
        self.ingestions[ingestion.ingestion_id] = ingestion
        self.by_seq[ingestion.seq] = ingestion
        self.backlog.update(ingestion)

    def _remove(self, ingestion: Ingestion) -> None:
        del self.ingestions[ingestion.ingestion_id]
        del self.by_seq[ingestion.seq]
        self.backlog.remove(ingestion)
        if ingestion.finished_time is not None:
            self.finished.discard((ingestion.finished_time, ingestion.ingestion_id))
        self._ring()

    def _remember(self, key: SavedKey) -> None:
        self.keys[key.idempotency.key] = key
        self.keys.move_to_end(key.idempotency.key)


def _restored(saved: SavedIngestion, running: Started | None) -> Ingestion:
    ingestion = Ingestion(saved.accepted)
    if saved.started or saved.is_cancelled:
        ingestion.is_cancelled, ingestion.gives_up = saved.is_cancelled, saved.gives_up
        ingestion.troubles.update(saved.failed)
        in_flight = running.positions if running and running.ingestion_id == ingestion.ingestion_id else ()
        ingestion.restore(saved.started, saved.waiting, saved.changed_time, in_flight)
    return ingestion
