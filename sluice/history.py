"""The slots that went by: what ran in each, what came of it, and how much of the permitted rate was used."""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from math import ceil, floor
from typing import NamedTuple

from sluice.clock import Clock
from sluice.events import Event, Finished, Interrupted, Started
from sluice.lane import Lane
from sluice.models import Priority

LENGTH = 100  # slots
WINDOW = 300.0  # seconds, at least
LEAST_STARTS = 20  # that the window has room for
GRAINS = 60  # that it is counted in


class Slot(NamedTuple):
    """A slot that was used: which batches of the ingestion its IDs were of, and what came of how many of them.

    Where several ingestions shared a slot, there is one of these for each. Times are
    seconds on the monotonic clock; `finished_at` is None while it runs.
    """

    ingestion_id: str
    priority: Priority
    batches: list[int]
    ids: list[int]
    is_retry: bool
    started_at: float
    finished_at: float | None = None
    completed: int = 0
    failed: int = 0
    retrying: int = 0


class Utilisation(NamedTuple):
    """The share (about 0 to 1) of the permitted starts that the last `seconds` saw."""

    seconds: float
    share: float


class History:
    """Remembers the last slots of a lane, as far as this process saw them."""

    def __init__(self, lane: Lane, clock: Clock) -> None:
        self.slots: deque[Slot] = deque(maxlen=LENGTH)
        self._lane = lane
        self._clock = clock
        self._since = clock.now()
        self._window = max(WINDOW, LEAST_STARTS * lane.pace.interval)
        self._grain = self._window / GRAINS
        self._used: defaultdict[int, float] = defaultdict(float)  # seconds that starts took up, by grain of time
        self._used_until = self._since
        lane.observers.append(self)
        if lane.running is not None:
            self._note(lane.running)

    def applied(self, event: Event) -> None:
        """Note a start or what it led to."""
        if isinstance(event, Started):
            self._note(event)
        elif isinstance(event, Finished):
            self._end(event.at, [Counter(outcome.status for outcome in part.outcomes) for part in event.parts])
        elif isinstance(event, Interrupted):
            self._end(event.at, [Counter(retrying=len(each.ids)) for each in self.slots if each.finished_at is None])

    def restored(self) -> None:
        """Forget: slots may have gone by unseen."""
        self.slots.clear()
        self._used.clear()
        self._since = self._used_until = self._clock.now()
        if self._lane.running is not None:
            self._note(self._lane.running)

    def utilisation(self, now: float) -> Utilisation | None:
        """Return how much of the permitted rate was used; None where there is no limit to it, or nothing seen yet."""
        first = max(self._since, ceil((now - self._window) / self._grain) * self._grain)
        if not self._lane.pace.interval or now <= first:
            return None
        used = sum(seconds for grain, seconds in self._used.items() if (grain + 1) * self._grain > first)
        yet_to_come = max(0.0, self._used_until - now)
        return Utilisation(now - first, min(1.0, max(0.0, used - yet_to_come) / (now - first)))

    def _note(self, started: Started) -> None:
        for ingestion_id, positions in started.parts:
            ingestion = self._lane.ingestions[ingestion_id]
            batches = sorted({position // ingestion.batch_size for position in positions})
            ids = [ingestion.ids[position] for position in positions]
            is_retry = ingestion.is_retry(positions)
            self.slots.append(Slot(ingestion_id, ingestion.priority, batches, ids, is_retry, started.at))
        if self._lane.pace.interval:
            # What took up time before this process looked is none of the time that it tells of.
            self._used_until = started.at + self._lane.pace.interval
            self._use(max(started.at, self._since), self._used_until)

    def _use(self, start: float, end: float) -> None:
        first, last = floor(start / self._grain), floor(end / self._grain)
        for grain in range(first, last + 1):
            self._used[grain] += max(0.0, min(end, (grain + 1) * self._grain) - max(start, grain * self._grain))
        while self._used and (oldest := next(iter(self._used))) < first - GRAINS:
            del self._used[oldest]

    def _end(self, at: float, counts: Sequence[Counter[str]]) -> None:
        """Note what came of what runs, part by part; the first parts may have had no place any more."""
        for place, count in zip(range(len(self.slots) - 1, -1, -1), reversed(counts), strict=False):
            if self.slots[place].finished_at is None:
                self.slots[place] = self.slots[place]._replace(
                    finished_at=at, completed=count["completed"], failed=count["failed"], retrying=count["retrying"]
                )
