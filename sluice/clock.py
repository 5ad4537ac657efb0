"""Time, as everything else is given it."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from uuid_utils import uuid4

LAST_TIME = 253_402_300_799  # 9999-12-31T23:59:59Z: RFC 3339 has no later one


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


class SharedClock:
    """A machine's monotonic clock, and a wall clock that is the same on every machine: the database's.

    Each exchange with the database tells what its clock said at some instant between
    sending and receiving, as NTP does (RFC 5905); the shortest exchange counts until
    its age may have spoilt it.
    """

    DRIFT = 1e-4  # seconds a second that two machines' clocks run apart, at most

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.origin = clock.origin
        self.offset = clock.time() - clock.now()  # what turns monotonic times into the database's
        self._error = float("inf")
        self._noted_at = clock.now()

    def note(self, sent: float, time: float, received: float) -> None:
        """Learn from an exchange: monotonic times of this machine, and Unix seconds of the database's in between."""
        error = (received - sent) / 2
        if error <= self._error + (received - self._noted_at) * self.DRIFT:
            self.offset = time - (sent + received) / 2
            self._error, self._noted_at = error, received

    def now(self) -> float:
        """Return seconds on this machine's monotonic clock."""
        return self._clock.now()

    def time(self) -> float:
        """Return Unix seconds (UTC) as the database's clock says."""
        return self._clock.now() + self.offset

    async def sleep_until(self, at: float) -> None:
        """Return once `now()` is `at` or later, never before."""
        await self._clock.sleep_until(at)


def utc(time: float) -> datetime:
    """Return Unix seconds as a date."""
    return datetime.fromtimestamp(min(time, LAST_TIME), UTC)
