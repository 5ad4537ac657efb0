"""What is told of everything that happens to a lane, whichever process decided it."""

from typing import Protocol

from sluice.events import Event


class Observer(Protocol):
    """Looks on, and changes nothing. It is called between two steps of the lane, so it must be quick and never fail."""

    def applied(self, event: Event) -> None:
        """Learn that an event changed the lane, which is as it is after it."""

    def restored(self) -> None:
        """Learn that the lane went on from a saved state: what happened in between is not told one by one."""
