"""Lease: for how long it lasts, and who is told when it does no longer."""

import asyncio
from types import SimpleNamespace

import pytest

from sluice import engine
from sluice.engine import Lease
from tests.virtual import TICK, VirtualLoop

SECONDS = 5.0


@pytest.fixture
def lease(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """Return a lease that was asked for now, in virtual time."""
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=loop.time))
    return Lease("default", SECONDS, loop.time())


def held(loop: VirtualLoop, lease: Lease, *waits: float) -> list[bool]:
    """Return whether it is held after each of some stretches of time."""
    verdicts = []
    for seconds in waits:
        loop.advance(seconds)
        verdicts.append(lease.is_held())
    return verdicts


def test_lease_lasts_for_its_seconds_and_no_longer(loop: VirtualLoop, lease: Lease) -> None:
    assert held(loop, lease, 0, SECONDS - 0.1, 0.1 + TICK, 100) == [True, True, False, False]


def test_lease_counts_from_when_it_was_asked_for_and_not_from_the_answer(loop: VirtualLoop, lease: Lease) -> None:
    asked = loop.time()
    loop.advance(4)

    late = Lease("default", SECONDS, asked)

    assert held(loop, late, 0.9, 0.1 + TICK) == [True, False]


def test_renewal_prolongs_it_from_when_the_renewal_was_asked_for(loop: VirtualLoop, lease: Lease) -> None:
    loop.advance(2)
    asked = loop.time()
    loop.advance(2)

    lease.renew(asked)

    assert held(loop, lease, 2.9, 0.1 + TICK) == [True, False]


def test_renewal_that_is_answered_after_a_later_one_takes_nothing_back(loop: VirtualLoop, lease: Lease) -> None:
    first = loop.time()
    loop.advance(3)

    lease.renew(loop.time())
    lease.renew(first)

    assert held(loop, lease, 4.9, 0.1 + TICK) == [True, False]


def test_renewal_that_is_answered_after_it_has_run_out_comes_too_late(loop: VirtualLoop, lease: Lease) -> None:
    loop.advance(SECONDS - 1)
    asked = loop.time()
    loop.advance(1 + TICK)

    lease.renew(asked)

    assert held(loop, lease, 0) == [False]


def test_lease_that_is_lost_is_held_no_longer(loop: VirtualLoop, lease: Lease) -> None:
    lease.lose()

    assert held(loop, lease, 0) == [False]


def test_who_waits_is_told_when_it_has_run_out(loop: VirtualLoop, lease: Lease) -> None:
    waiting = loop.create_task(lease.lost())
    loop.advance(SECONDS - 0.1)
    before = waiting.done()
    loop.advance(0.1 + TICK)

    assert (before, waiting.done()) == (False, True)


def test_who_waits_goes_on_waiting_for_as_long_as_it_is_renewed(loop: VirtualLoop, lease: Lease) -> None:
    waiting = loop.create_task(lease.lost())
    for _ in range(10):
        loop.advance(SECONDS - 0.1)
        lease.renew(loop.time())
    loop.advance(SECONDS - 0.1)
    before = waiting.done()
    loop.advance(0.1 + TICK)

    assert (before, waiting.done()) == (False, True)


def test_who_waits_is_told_at_once_when_it_is_lost(loop: VirtualLoop, lease: Lease) -> None:
    waiting = loop.create_task(lease.lost())
    loop.advance(1)

    lease.lose()
    loop.advance(TICK)

    assert waiting.done()


def test_who_comes_when_it_is_lost_or_has_run_out_need_not_wait(loop: VirtualLoop, lease: Lease) -> None:
    loop.advance(SECONDS + TICK)
    other = Lease("default", SECONDS, loop.time())
    other.lose()

    for each in (lease, other):
        loop.run_until_complete(asyncio.wait_for(each.lost(), TICK))
