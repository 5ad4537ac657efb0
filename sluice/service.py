"""What a process does beside answering requests, chosen by where the journals are."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sluice.clock import Clock
from sluice.lanes import Lanes
from sluice.local import LocalService
from sluice.settings import Settings
from sluice.upstream import Upstream


class Service(Protocol):
    """Keeps the lanes, and runs them or stands by to."""

    @property
    def clock(self) -> Clock:
        """The clocks that the lanes' times are of."""

    @property
    def trouble(self) -> str | None:
        """Why nothing can be accepted or decided at present, if so."""

    async def probe(self) -> None:
        """Find out whether what was the trouble is over."""

    def running(self) -> AbstractAsyncContextManager[Lanes]:
        """Run until the block is left; from SIGTERM on no batch starts."""


def open_service(
    settings: Settings, clock: Clock, upstreams: Mapping[str, Upstream], *, stands_by: bool = True
) -> Service:
    """Open what the settings name; end the process with one line if that cannot be used.

    `upstreams` are those that are not for the settings to say, by lane. A process of
    several that does not stand by leaves the lanes for others to run.
    """
    if not settings.is_shared:
        return LocalService(settings, clock, upstreams)
    # Not for a process that needs none of it: importing the engine takes as long as all the rest.
    from sluice.shared import SharedService  # noqa: PLC0415

    return SharedService(settings, clock, upstreams, stands_by=stands_by)
