"""The default journal: nothing outlives the process."""

from collections.abc import Callable, Sequence

from sluice.events import Accepted, Cancelled, Event, Expired, Finished, Outcome, Revived
from sluice.journal import Result, Saved, page

SWEEP = 1000


class MemoryJournal:
    """Remembers what the upstream answered, and nothing else beyond the state that the events are applied to."""

    def __init__(self) -> None:
        self._results: dict[str, dict[int, Result]] = {}
        self._expired: list[dict[int, Result]] = []
        self._apply: Callable[[Event], None]

    def attach(self, apply: Callable[[Event], None], restore: Callable[[Saved], None]) -> None:
        """Take what applies an event to the state; nothing is ever restored."""
        self._apply = apply

    def replay(self) -> Saved:
        """Return an empty lane."""
        return Saved()

    async def append(self, events: Sequence[Event]) -> None:
        """Keep the results, apply the events, and return at once."""
        for event in events:
            match event:
                case Accepted():
                    pass  # the first to be asked for, for there may be thousands in a second
                case Finished():
                    for part in event.parts:
                        self._keep(*part, event.time)
                case Cancelled():
                    self._keep(event.ingestion_id, event.failed, event.time)
                case Revived():
                    results = self._results.get(event.ingestion_id, {})
                    self._results[event.ingestion_id] = {
                        position: result for position, result in results.items() if result.error is None
                    }
                case Expired():
                    self._expired.append(self._results.pop(event.ingestion_id, {}))
            self._apply(event)

    async def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Append what `propose` makes of the state."""
        await self.append(propose())

    async def catch_up(self) -> None:
        """Return at once: nobody else appends."""

    async def results(self, ingestion_id: str, start: int, end: int) -> list[Result]:
        """Return results of the positions from `start` to before `end`, in order: the first `PAGE_BYTES` or so."""
        results = self._results.get(ingestion_id, {})
        return page((results[each] for each in range(start, end) if each in results), lambda result: result.size)

    async def sweep(self) -> bool:
        """Remove a little of what expired ingestions left; return whether there is more."""
        # Freeing a million results at once would hold up everything else.
        if self._expired:
            results = self._expired[-1]
            for _ in range(min(SWEEP, len(results))):
                results.popitem()
            if not results:
                self._expired.pop()
        return bool(self._expired)

    def _keep(self, ingestion_id: str, outcomes: Sequence[Outcome], time: float) -> None:
        results = self._results.setdefault(ingestion_id, {})
        for outcome in outcomes:
            if outcome.retry_at is None:
                results[outcome.position] = Result(
                    outcome.position, outcome.attempts, outcome.data, outcome.error, time
                )
