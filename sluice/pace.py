"""When batches may start and how long they take: arithmetic on times, no clock of its own."""

# Seconds that a recorded start may be older than the call to the upstream. After a restart the pace counts from the
# record and this, unless the record says that the call was sent later still.
START_BUDGET = 0.05


class Pace:
    """One start per `interval`. Times are seconds on a monotonic clock.

    Start to start, not end to start: sleeping an interval after each batch would
    lose the batch's own duration every time. The next slot counts from when the
    last batch really started, so a late start moves the next one by as much and
    idle time earns no burst.
    """

    # The gain of TCP's smoothed round-trip time (RFC 6298, section 2.3).
    GAIN = 1 / 8

    def __init__(self, interval: float, seconds_per_id: float = 0.0) -> None:
        """Take the interval, and what an ID is thought to cost until a batch has been seen, in seconds."""
        self.interval = interval
        self._seconds_per_id = seconds_per_id
        self._durations: dict[int, float] = {}
        self.last_start = float("-inf")

    @property
    def ready_at(self) -> float:
        """When the next batch may start."""
        return self.last_start + self.interval

    def started(self, at: float) -> None:
        """Note a start: the next is allowed an interval later."""
        self.last_start = at

    def finished(self, length: int, at: float) -> None:
        """Learn from the batch that was last started, had `length` IDs, and ended at `at`."""
        duration = at - self.last_start
        expected = self._durations.get(length, duration)
        self._durations[length] = expected + self.GAIN * (duration - expected)

    def expected_duration(self, length: int) -> float:
        """Return the seconds that a batch of `length` IDs is expected to take: a smoothed mean of those seen."""
        return self._durations.get(length, self._seconds_per_id * length)

    def spacing(self, length: int) -> float:
        """Return the expected seconds from the start of a batch of `length` IDs to the next start."""
        return max(self.interval, self.expected_duration(length))
