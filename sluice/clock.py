"""Time, as everything else is given it."""

import asyncio
import time
from pathlib import Path
from typing import Protocol

from uuid_utils import uuid4


class Clock(Protocol):
    """What tells the time and lets it pass.

    `origin` names what `now()` counts from: two readings can be compared, even
    across processes, if theirs are the same.
    """

    origin: str

    def now(self) -> float:
        """Return seconds on a monotonic clock: for pace and durations."""

    def time(self) -> float:
        """Return Unix seconds (UTC): for what people are shown."""

    async def sleep_until(self, at: float) -> None:
        """Return once `now()` is `at` or later, never before."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        # Linux's monotonic clock counts from the boot, for every process; elsewhere it is taken to be this process's.
        boot_id = Path("/proc/sys/kernel/random/boot_id")
        self.origin = boot_id.read_text().strip() if boot_id.exists() else str(uuid4())

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
