import asyncio

import pytest

from sluice.clock import SystemClock


def test_sleep_until_looks_at_the_clock_again_when_the_timer_wakes_early(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    sleep = asyncio.sleep

    async def sleep_too_short(seconds: float) -> None:
        await sleep(seconds / 2)

    monkeypatch.setattr(asyncio, "sleep", sleep_too_short)
    at = clock.now() + 0.02

    asyncio.run(clock.sleep_until(at))

    assert clock.now() >= at
