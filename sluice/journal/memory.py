"""The default journal: nothing outlives the process."""

from collections.abc import Sequence

from sluice.events import Event


class MemoryJournal:
    """Remembers nothing beyond the state that the events are applied to."""

    async def append(self, events: Sequence[Event]) -> None:
        """Return at once."""
