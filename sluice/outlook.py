"""What comes next in a lane, and when. Only reads, and answers for a given time."""

from itertools import islice
from typing import NamedTuple

from sluice.backlog import Backlog
from sluice.coming import Coming, coming, next_slot
from sluice.events import Held, Paused, Started
from sluice.forecast import slots_of
from sluice.ingestion import NEVER, Batch, Ingestion
from sluice.models import Priority
from sluice.order import Stretch, Work, ready_work_of, work_of
from sluice.pace import Pace

MOST_WALKED = 1000  # ingestions: a refusal must not hold up the call


class Forecast(NamedTuple):
    """What becomes of an ingestion if nothing more arrives or fails.

    Times are seconds on the monotonic clock; never, while nothing is started.
    """

    position: int
    start: float
    completion: float


class Outlook:
    """What follows from the state of a lane: what its next slot is for, and what becomes of everything that waits."""

    pace: Pace
    backlog: Backlog
    batch_size: int
    latest_created_time: float
    running: Started | None
    held: Held | None
    paused: Paused | None

    def next_start(self, now: float) -> float:
        """Return when the next batch may start: `now`, later, or never while paused or without work."""
        return NEVER if self.paused else max(self.backlog.next_ready(now), self._next_slot(now))

    def next_batch(self, now: float) -> Batch | None:
        """Decide which IDs are next: those of the ingestion at the head of the backlog."""
        ingestion = self.backlog.head(now)
        return None if ingestion is None else ingestion.batch(ingestion.next_positions())

    def next_batches(self, now: float) -> list[Batch]:
        """Decide what has the next slot: the next batch, and what shares the slot with it; or nothing."""
        if not self.backlog.room:
            batch = self.next_batch(now)
            return [] if batch is None else [batch]
        self.backlog.release(now)
        return [each.ingestion.batch(each.positions) for each in next_slot(self.backlog, now)]

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
        return Forecast(forecast.position, forecast.start, max(now, running_until, forecast.completion))

    def quote(self, total_ids: int, priority: Priority, now: float, time: float) -> Forecast:
        """Return what the forecast would be for `total_ids` (at least 1) that are accepted at `now`, Unix `time`."""
        self.backlog.release(now)
        total, last_length = divmod(total_ids - 1, self.batch_size)
        created_time = max(self.latest_created_time, time)
        return self._forecast(Work(priority, created_time, (Stretch(total + 1, last_length + 1),)), now)

    def coming(self, count: int, now: float) -> list[Coming]:
        """Return the slots that come next, `count` at most, if nothing more arrives or fails; never while paused."""
        self.backlog.release(now)
        slots = coming(self.backlog, self._next_slot(now), self.pace.spacing(self.batch_size), count)
        return [each._replace(start=NEVER) for each in slots] if self.paused else slots

    def room_at(self, ingestions: int, ids: int, now: float) -> float:
        """Return when so many of those that wait, and so many IDs, will have started, if nothing more arrives or fails.

        At least one of either. Never while paused. No more than the first `MOST_WALKED` that wait are looked at:
        where more must go, these will have started then, and it is an estimate that is too low. Where slots are
        shared it can be a slot or two too high.
        """
        self.backlog.release(now)
        if self.paused:
            return NEVER
        spacing = self.pace.spacing(self.batch_size)
        at = self._next_slot(now)
        work: Work | None = None
        for each in islice(self.backlog.in_order(), MOST_WALKED):
            work = ready_work_of(each) if ingestions > 0 else ready_work_of(each, ids)
            ingestions, ids = ingestions - 1, ids - each.waiting_ids
            if ingestions <= 0 and ids <= 0:
                break
        return at if work is None else slots_of(self.backlog, work, at, spacing).last

    def waiting(self, priority: Priority) -> int:
        """Return how many slots the waiting work of this priority takes, as far as it is ready."""
        delayed = (ingestion for _, ingestion in self.backlog.delayed.values() if ingestion.priority == priority)
        return self.backlog.slots[priority].total + sum(each.ready_slots - each.weight for each in delayed)

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
        return self.pace.last_start + self.pace.expected_duration(
            sum(len(each.positions) for each in self.running.parts)
        )
