"""The service of one of several processes: the journals are in PostgreSQL, and one process at a time runs a lane."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from sluice.background import in_background
from sluice.clock import Clock
from sluice.fleet import Fleet
from sluice.journal import JournalRefusedError, LeaseLostError
from sluice.journal.postgres import PostgresJournal
from sluice.journal.postgres_database import Database
from sluice.lane import Lane
from sluice.lane_factory import LaneFactory
from sluice.lanes import Lanes
from sluice.logs import logging_batches
from sluice.pace import START_BUDGET
from sluice.process import no_collections, on_stop
from sluice.quiet import Quiet
from sluice.sequencer import Sequencer
from sluice.settings import Settings, refuse_to_start
from sluice.upstream import Upstream


class SharedService:
    """Follows every lane, and stands by to run those that no other process does."""

    def __init__(
        self, settings: Settings, clock: Clock, upstreams: Mapping[str, Upstream], *, stands_by: bool = True
    ) -> None:
        """Bring the database to the current schema; refuse to start if it cannot be used."""
        assert settings.database_url is not None
        self._settings = settings
        self._stands_by = stands_by
        try:
            self._database = Database(
                settings.database_url, clock, settings.database_pool_size, settings.database_timeout
            )
            self.clock = self._database.clock
            self._factory = LaneFactory(settings, self.clock, upstreams)
            self._database.add_lanes(self._factory.by_lane)
        except JournalRefusedError as error:
            refuse_to_start(f"DATABASE_URL: {error}")

    @property
    def trouble(self) -> str | None:
        """Why nothing can be done at present, if so."""
        return self._database.trouble

    async def probe(self) -> None:
        """Return at once: whoever follows the lanes finds out."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Lanes]:
        """Run until the block is left; from SIGTERM on no batch starts here."""
        journals = {
            name: PostgresJournal(self._database, name, lane.interval, self._settings.idempotency_ttl)
            for name, lane in self._factory.by_lane.items()
        }
        sequencer, quiet = Sequencer(), Quiet()
        try:
            with no_collections():
                lanes = Lanes(
                    {name: self._factory.lane(name, each, sequencer, quiet) for name, each in journals.items()}
                )
        except JournalRefusedError as error:
            refuse_to_start(f"DATABASE_URL: {error}")

        def wake_all() -> None:
            for journal in journals.values():
                journal.follower.wake()

        def wake(payload: str) -> None:
            name, _, head = payload.partition(" ")
            if name in journals and (not head.isdecimal() or journals[name].follower.applied < int(head)):
                journals[name].follower.wake()

        self._database.add_listener(wake)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._database.running(wake_all))
            for name, lane in lanes.items():
                stack.push_async_callback(lane.settled)
                following = in_background(journals[name].follower.follow(), f"follow {name}")
                await stack.enter_async_context(following)
            fleet = None
            if self._stands_by:

                async def run_lane(name: str, release: asyncio.Event, may_send: Callable[[], bool]) -> None:
                    await self._run_lane(lanes[name], journals[name], release, may_send)

                fleet = Fleet(self._database, [*lanes], self._settings.lease, run_lane)
                await stack.enter_async_context(fleet.standing_by(self._settings.shutdown_grace))
            loop = asyncio.get_running_loop()

            def begin_to_stop() -> None:
                if fleet is not None:
                    fleet.stop()
                lanes.close()

            stack.enter_context(on_stop(lambda: loop.call_soon_threadsafe(begin_to_stop)))
            yield lanes

    async def _run_lane(
        self, lane: Lane, journal: PostgresJournal, release: asyncio.Event, may_send: Callable[[], bool]
    ) -> None:
        if not may_send():
            raise LeaseLostError(f"lane {lane.name}: stopped for longer than its lease")
        last_start = await journal.take(self._factory.send_limit(lane.name))
        # The call of the last recorded start may have come that much later; but none came in the future:
        # where it is recorded there, the database's clock was set back, and how long ago it came is not known.
        if last_start is not None:
            lane.pace.started(min(last_start + START_BUDGET, self.clock.now()))
        stopped = asyncio.Event()
        async with AsyncExitStack() as stack:
            dispatcher = await self._factory.dispatcher(lane, stack, may_send)
            await stack.enter_async_context(self._factory.retention(lane).running())
            stack.enter_context(logging_batches(lane))
            await stack.enter_async_context(dispatcher.running(self._settings.shutdown_grace, stopped.set))
            waiters = [asyncio.create_task(event.wait()) for event in (release, stopped)]
            try:
                await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiter in waiters:
                    waiter.cancel()
