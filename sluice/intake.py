"""Takes in submissions: once for each idempotency key, and only where there is room."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from sluice.admission import Room
from sluice.clock import Clock
from sluice.control import ConflictError
from sluice.events import Idempotency
from sluice.journal import KeyTakenError, SavedKey
from sluice.lane import Lane
from sluice.lanes import Lanes
from sluice.models import Priority

LARGE = 100_000  # IDs: more than so many keep the journal busy for
LARGE_RECORD = 0.05  # seconds

IN_FLIGHT = "The submission with this Idempotency-Key is being accepted right now; ask again for its answer."


class OtherSubmissionError(Exception):
    """The idempotency key was used for something else."""


class Submission(NamedTuple):
    """What is to be taken in, by the key named `owner`."""

    ids: Sequence[int]
    priority: Priority
    owner: str
    idempotency: Idempotency | None = None


class Intake:
    """Takes in submissions. `key_seconds` is for how long an idempotency key is remembered."""

    def __init__(self, room: Room, key_seconds: float, clock: Clock) -> None:
        self._room = room
        self._key_seconds = key_seconds
        self._clock = clock

    async def take(self, lane: Lane, submission: Submission) -> str:
        """Return the id of a new ingestion; raise `FullError` or `JournalError`, with nothing changed."""
        count = len(submission.ids)
        self._room.check(lane, count, self._clock.now())
        # It takes up room from now on.
        lane.arriving += 1
        lane.arriving_ids += count
        try:
            if count > LARGE:
                return await self._take_large(lane, submission)
            return await self._record(lane, submission)
        finally:
            lane.arriving -= 1
            lane.arriving_ids -= count

    async def _take_large(self, lane: Lane, submission: Submission) -> str:
        """Take them one at a time, as they came, each when no start waits for the journal."""
        is_being_recorded = False
        try:
            async with lane.quiet.alone:
                await lane.quiet.clear(self._clock, LARGE_RECORD)
                is_being_recorded = True
                return await self._record(lane, submission)
        except asyncio.CancelledError:
            if submission.idempotency and not is_being_recorded:
                lane.keys_in_flight.discard(submission.idempotency.key)
            raise

    async def _record(self, lane: Lane, submission: Submission) -> str:
        ids, priority, owner, idempotency = submission
        accepted = lane.accept(ids, priority, self._clock.time(), idempotency, owner)
        await lane.record(accepted)
        return accepted.ingestion_id

    async def take_once(self, lanes: Lanes, lane: Lane, submission: Submission) -> tuple[str, bool]:
        """Return the id of the ingestion of the submission's idempotency key, and whether it was there before.

        Raises what `take` does, `ConflictError` while the same is being recorded, and
        `OtherSubmissionError`.
        """
        idempotency = submission.idempotency
        assert idempotency is not None
        if saved := self._used_before(lanes, idempotency):
            return saved.ingestion_id, True
        if lanes.is_key_in_flight(idempotency.key):
            raise ConflictError(IN_FLIGHT)
        lane.keys_in_flight.add(idempotency.key)
        # Not in a `finally`: if the caller is cancelled, it may be being recorded all the same.
        try:
            ingestion_id = await self.take(lane, submission)
        except KeyTakenError:
            lane.keys_in_flight.discard(idempotency.key)
            await lanes.catch_up()
            if saved := self._used_before(lanes, idempotency):
                return saved.ingestion_id, True
            raise ConflictError(IN_FLIGHT) from None
        except Exception:
            lane.keys_in_flight.discard(idempotency.key)
            raise
        # The event does this when it is applied; but it may have come with a state that was restored.
        lane.keys_in_flight.discard(idempotency.key)
        return ingestion_id, False

    def _used_before(self, lanes: Lanes, idempotency: Idempotency) -> SavedKey | None:
        saved = lanes.key(idempotency.key)
        if saved is None or self._clock.time() >= saved.created_time + self._key_seconds:
            return None
        if saved.idempotency != idempotency:
            raise OtherSubmissionError
        return saved
