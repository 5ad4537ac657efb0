"""A journal that tells how long recording takes."""

from collections.abc import Callable, Sequence
from time import perf_counter

from sluice.events import Event
from sluice.journal import Journal


class MeasuredJournal:
    """Does as another journal does, and gives `observe` the seconds that each record took."""

    def __init__(self, journal: Journal, observe: Callable[[float], object]) -> None:
        self._journal = journal
        self._observe = observe
        self.attach = journal.attach
        self.replay = journal.replay
        self.catch_up = journal.catch_up
        self.results = journal.results
        self.sweep = journal.sweep

    async def append(self, events: Sequence[Event]) -> None:
        """Make the events durable, all or none, then apply each; raise what the journal does."""
        begun = perf_counter()
        await self._journal.append(events)
        self._observe(perf_counter() - begun)

    async def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Append what `propose` makes of the state; raise what the journal does. To record nothing does not count."""
        events: Sequence[Event] = ()

        def proposed() -> Sequence[Event]:
            nonlocal events
            events = propose()
            return events

        begun = perf_counter()
        await self._journal.decide(proposed)
        if events:
            self._observe(perf_counter() - begun)
