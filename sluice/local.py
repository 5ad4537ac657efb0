"""The service of one process: every lane's journal is its own, in memory or in a file, and it runs them all."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from sluice.clock import Clock
from sluice.journal import Journal, JournalRefusedError
from sluice.journal.memory import MemoryJournal
from sluice.lane_factory import LaneFactory
from sluice.lanes import Lanes
from sluice.logs import logging_batches
from sluice.process import claim_backlog, no_collections, on_stop, stop_server
from sluice.quiet import Quiet
from sluice.sequencer import Sequencer
from sluice.settings import Settings, refuse_to_start
from sluice.upstream import Upstream

if TYPE_CHECKING:
    from sluice.journal.sqlite import SqliteFile

logger = logging.getLogger(__name__)


class LocalService:
    """Keeps the lanes and, one dispatcher each, runs them."""

    def __init__(self, settings: Settings, clock: Clock, upstreams: Mapping[str, Upstream]) -> None:
        """Open the file, if there is one; refuse to start if it cannot be used, or as one of several processes."""
        self._claim = claim_backlog()
        self.clock = clock
        self._settings = settings
        self._factory = LaneFactory(settings, clock, upstreams)
        self._file: SqliteFile | None = None
        self._opened = [self._open()]

    @property
    def trouble(self) -> str | None:
        """Why nothing can be recorded at present, if so."""
        return self._file.trouble if self._file is not None else None

    async def probe(self) -> None:
        """Find out whether that is over."""
        if self._file is not None:
            await self._file.probe()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Lanes]:
        """Run until the block is left; from SIGTERM on no batch starts."""
        async with AsyncExitStack() as stack:
            file = self._file = self._opened.pop() if self._opened else self._open()
            if file is not None:
                stack.push_async_callback(file.close)
            sequencer, quiet = Sequencer(), Quiet()
            with no_collections():
                lanes = Lanes(
                    {
                        name: self._factory.lane(name, self._journal(file, name), sequencer, quiet)
                        for name in self._factory.by_lane
                    }
                )
            for lane in lanes.values():
                # Before the file is closed: what nobody waits for any more is decided all the same.
                stack.push_async_callback(lane.settled)
            if file is not None and file.left:
                logger.warning("these lanes have work but are not configured: %s", ", ".join(sorted(file.left)))
            dispatchers = [await self._factory.dispatcher(lane, stack) for lane in lanes.values()]
            loop = asyncio.get_running_loop()

            def begin_to_stop() -> None:
                for dispatcher in dispatchers:
                    dispatcher.drain()
                lanes.close()

            stack.enter_context(on_stop(lambda: loop.call_soon_threadsafe(begin_to_stop)))
            for lane in lanes.values():
                await stack.enter_async_context(self._factory.retention(lane).running())
            for dispatcher in dispatchers:
                stack.enter_context(logging_batches(dispatcher.lane))
                await stack.enter_async_context(dispatcher.running(self._settings.shutdown_grace, stop_server))
            yield lanes
            begin_to_stop()  # all at once, not one after the other

    @staticmethod
    def _journal(file: "SqliteFile | None", name: str) -> Journal:
        return MemoryJournal() if file is None else file.journal(name)

    def _open(self) -> "SqliteFile | None":
        if self._settings.database_path is None:
            return None
        from sluice.journal.sqlite import SqliteFile  # noqa: PLC0415, most have none

        try:
            with no_collections():
                send_limits = {name: self._factory.send_limit(name) for name in self._factory.by_lane}
                return SqliteFile(self._settings.database_path, self.clock, send_limits)
        except JournalRefusedError as error:
            refuse_to_start(f"DATABASE_URL: {error}")
