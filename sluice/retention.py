"""The background task that forgets what was finished long ago, a little at a time."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice

from sluice.background import in_background
from sluice.clock import Clock
from sluice.events import Event, Expired, KeysExpired
from sluice.journal import JournalError
from sluice.lane import Lane

logger = logging.getLogger(__name__)

AT_ONCE = 20  # ingestions, or keys
STEP = 0.03  # seconds that removing a little may take
SHORTEST_REST, LONGEST_REST = 0.05, 60.0  # seconds


class Retention:
    """Forgets ingestions `seconds` after they finished, and idempotency keys `idempotency_ttl` after their use."""

    def __init__(self, lane: Lane, clock: Clock, seconds: float, idempotency_ttl: float) -> None:
        self._lane = lane
        self._clock = clock
        self._seconds = seconds
        self._idempotency_ttl = idempotency_ttl

    def running(self) -> AbstractAsyncContextManager[None]:
        """Forget in the background until the block is left."""
        return in_background(self.run(), "retention")

    async def run(self) -> None:
        """Forget until cancelled."""
        rest = max(SHORTEST_REST, min(LONGEST_REST, self._seconds / 100))
        while True:
            is_more = False
            try:
                is_more = await self.step()
            except JournalError as error:
                logger.warning("nothing can be forgotten: %s", error)
            except Exception:  # a bug here must not stop it for good, nor anything else
                logger.exception("nothing could be forgotten")
            # Between two steps everything else has its turn.
            await (asyncio.sleep(0) if is_more else self._clock.sleep_until(self._clock.now() + rest))

    async def step(self) -> bool:
        """Forget a little; return whether there is more that could be."""
        if self._propose():
            await self._lane.decide(self._propose)
        await self._lane.quiet.clear(self._clock, STEP)
        return await self._lane.journal.sweep() or bool(self._propose())

    def _propose(self) -> Sequence[Event]:
        time = self._clock.time()
        finished = self._lane.finished
        while finished and not self._is_current(*finished[0]):
            finished.pop(0)
        oldest = [each for each in islice(finished, AT_ONCE) if each[0] <= time - self._seconds]
        forgotten = dict.fromkeys(ingestion_id for each, ingestion_id in oldest if self._is_current(each, ingestion_id))
        events: list[Event] = [Expired(ingestion_id) for ingestion_id in forgotten]
        keys = [
            key.created_time
            for key in islice(self._lane.keys.values(), AT_ONCE)
            if key.created_time <= time - self._idempotency_ttl
        ]
        return [*events, KeysExpired(keys[-1])] if keys else events

    def _is_current(self, finished_time: float, ingestion_id: str) -> bool:
        """Return whether an ingestion is still there and finished then, and was not tried again since."""
        ingestion = self._lane.ingestions.get(ingestion_id)
        return ingestion is not None and ingestion.finished_time == finished_time
