import asyncio
import subprocess
import sys
import time

import pytest

from sluice.clock import SystemClock

PRINT_ORIGIN_AND_NOW = "from sluice.clock import SystemClock as C; clock = C(); print(clock.origin, clock.now())"


def test_sleep_until_looks_at_the_clock_again_when_the_timer_wakes_early(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    sleep = asyncio.sleep

    async def sleep_too_short(seconds: float) -> None:
        await sleep(seconds / 2)

    monkeypatch.setattr(asyncio, "sleep", sleep_too_short)
    at = clock.now() + 0.02

    asyncio.run(clock.sleep_until(at))

    assert clock.now() >= at


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process counts from its own origin")
def test_two_processes_of_one_boot_can_compare_their_readings() -> None:
    clock = SystemClock()
    before = clock.now()

    origin, now = subprocess.check_output([sys.executable, "-c", PRINT_ORIGIN_AND_NOW], text=True).split()

    assert origin == clock.origin
    assert before <= float(now) <= clock.now()


def test_time_is_unix_seconds() -> None:
    assert SystemClock().time() == pytest.approx(time.time(), abs=1)
