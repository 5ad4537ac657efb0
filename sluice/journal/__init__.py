"""Where a lane's events are remembered."""

from collections.abc import Sequence
from typing import Protocol

from sluice.events import Event


class Journal(Protocol):
    """What a lane asks of the place that remembers its events."""

    async def append(self, events: Sequence[Event]) -> None:
        """Return when the events are as durable as this journal makes them; raise if they cannot be."""
