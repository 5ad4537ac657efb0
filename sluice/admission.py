"""What is let in: no faster than a key may submit, and no more than there is room for."""

from math import ceil
from typing import Any, NamedTuple

from sluice.ingestion import NEVER
from sluice.lane import Lane

NOBODY = "."  # what is no name of a key: submissions without one are counted together


class FullError(Exception):
    """There is no room in a lane. `retry_after` is in how many seconds there will be; None where nobody knows."""

    def __init__(self, text: str, retry_after: int | None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Quota(NamedTuple):
    """How many more submissions a key may make at once, and in how many seconds it may make all of them again.

    `retry_after` is in how many seconds it may make the next one, 0 for at once.
    """

    left: int
    reset_after: float
    retry_after: float


class SubmissionRate:
    """Counts the submissions of every key: `rate` a second, and as many at once after a pause (GCRA)."""

    def __init__(self, rate: int) -> None:
        # Not with this module: it brings its clients of Redis along, and an app that is only imported counts nothing.
        from throttled.rate_limiter.gcra import MemoryLimitActionLogic  # noqa: PLC0415

        # Of the libraries that count, the one with no thread of its own that also tells what is left. Its
        # arithmetic alone: the layers above it, which choose one and lock it, take four times as long.
        self._count = MemoryLimitActionLogic._do
        self._counts: Any = _Counts()
        self._quota = (1 / rate, rate, 1)  # seconds between two, how many at once, what one counts for

    def count(self, name: str) -> Quota:
        """Count a submission with the key of this name; with a `retry_after` it is one too many, and is not counted."""
        _, left, reset_after, retry_after = self._count(self._counts, (name or NOBODY,), self._quota)
        return Quota(left, reset_after, retry_after)


class _Counts(dict[str, Any]):
    """What was counted so far, by the name of the key: there are no more of those than were configured."""

    def set(self, key: str, value: Any, timeout: int) -> None:
        """Keep it, not only for its `timeout` in seconds: there is always one value for a name."""
        self[key] = value


class Room:
    """How much may wait in a lane: `max_waiting` ingestions, with `max_ids` IDs that have not started."""

    def __init__(self, max_waiting: int, max_ids: int) -> None:
        self.max_waiting = max_waiting
        self.max_ids = max_ids

    def check(self, lane: Lane, count: int, now: float) -> None:
        """Raise `FullError` if a lane has no room for an ingestion of `count` IDs at `now`."""
        waiting, ids = lane.backlog.queued + lane.arriving, lane.waiting_ids + lane.arriving_ids
        too_many, too_many_ids = waiting + 1 - self.max_waiting, ids + count - self.max_ids
        if too_many <= 0 and too_many_ids <= 0:
            return
        what = f"{waiting} ingestions" if too_many > 0 else f"{ids} IDs"
        at = lane.room_at(max(0, too_many), max(0, too_many_ids), now)
        if at == NEVER:
            raise FullError(f"{what} wait in the lane {lane.name}, as many as may; it is paused", None)
        seconds = max(1, ceil(at - now))
        raise FullError(f"{what} wait in the lane {lane.name}; there will be room in {seconds} s", seconds)
