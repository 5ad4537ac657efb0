"""Time, as everything else is given it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time and lets it pass."""

    def now(self) -> float:
        """Return seconds on a monotonic clock: for pace and durations."""

    def time(self) -> float:
        """Return Unix seconds (UTC): for what people are shown."""

    async def sleep_until(self, at: float) -> None:
        """Return once `now()` is `at` or later, never before."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Return seconds on the system's monotonic clock."""
        return time.monotonic()

    def time(self) -> float:
        """Return Unix seconds (UTC)."""
        return time.time()

    async def sleep_until(self, at: float) -> None:
        """Return once `now()` is `at` or later, never before."""
        # A timer may wake early (uvloop rounds to the millisecond), so look at the clock again.
        while (remaining := at - self.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(remaining)
