"""Quiet: not for long, and not all the time; and what waits for a time without a start."""

import asyncio

import pytest

from sluice.admission import Room
from sluice.events import Idempotency
from sluice.intake import Intake, Submission
from sluice.lanes import Lanes
from sluice.models import Priority
from sluice.quiet import LONGEST, RECOVERY, STEP, STEPS, Quiet
from sluice.upstream import SimulatedUpstream
from tests.quiet import RecordingGate, approximately, quiet_around
from tests.virtual import TICK, Bench, VirtualClock, VirtualLoop

# How long


def test_quiet_lasts_until_no_lane_is_near_a_start(loop: VirtualLoop) -> None:
    quiet, gate = Quiet(), RecordingGate()
    quiet.add(gate)

    async def scenario() -> None:
        quiet.begin("one")
        await asyncio.sleep(LONGEST / 4)
        quiet.begin("other")
        quiet.end("one")
        quiet.end("one")
        quiet.end("a third")
        await asyncio.sleep(LONGEST / 4)
        quiet.end("other")

    loop.run_until_complete(scenario())

    assert gate.held == approximately((0, LONGEST / 2))


def held_by_beginnings(loop: VirtualLoop, count: int, pause: float) -> list[tuple[float, float]]:
    """Begin so many times, with pauses of so many seconds; return when a gate was held."""
    quiet, gate = Quiet(), RecordingGate()
    quiet.add(gate)

    async def scenario() -> None:
        for _ in range(count):
            quiet.begin("one")
            await asyncio.sleep(pause)

    loop.run_until_complete(scenario())
    return gate.held


def test_quiet_is_a_share_of_the_time_at_most(loop: VirtualLoop) -> None:
    held = held_by_beginnings(loop, 100_000, LONGEST / 100)

    lengths = [until - since for since, until in held]
    assert held[0] == pytest.approx((0, LONGEST), abs=TICK)
    assert max(lengths) <= LONGEST + TICK
    assert sum(lengths) / loop.time() == pytest.approx(RECOVERY / (1 + RECOVERY), rel=0.05)


def test_time_without_quiet_allows_for_no_more_than_the_longest(loop: VirtualLoop) -> None:
    held = held_by_beginnings(loop, 2, 1000)

    assert held == approximately((0, LONGEST), (1000, 1000 + LONGEST))


def test_gate_that_is_added_twice_is_held_once(loop: VirtualLoop) -> None:
    quiet, gate = Quiet(), RecordingGate()
    quiet.add(gate)
    quiet.add(gate)

    async def scenario() -> None:
        quiet.begin("one")
        quiet.end("one")

    loop.run_until_complete(scenario())

    assert gate.held == [(0, 0)]


# What waits for a time without a start


def busy(loop: VirtualLoop) -> Bench:
    """Return a bench with a start every five seconds, at 5, 10."""
    bench, _ = quiet_around(loop)
    bench.submit([*range(1, 10)], Priority.LOW)
    return bench.start()


async def when_clear(bench: Bench, seconds: float) -> float:
    await bench.lane.quiet.clear(bench.clock, seconds)
    return bench.clock.now()


def test_what_takes_long_waits_for_a_start_that_it_would_hold_up(loop: VirtualLoop) -> None:
    bench = busy(loop)
    loop.advance(4.9)

    assert loop.run_until_complete(when_clear(bench, 0.05)) == pytest.approx(4.9, abs=TICK)
    assert loop.run_until_complete(when_clear(bench, 0.15)) == pytest.approx(5, abs=STEP + TICK)


def test_what_takes_long_waits_for_the_call_of_a_start_that_has_begun(loop: VirtualLoop) -> None:
    quiet, clock = Quiet(), VirtualClock(loop)

    async def scenario() -> float:
        quiet.begin("one")
        loop.call_later(0.05, quiet.end, "one")
        await quiet.clear(clock, 0)
        return clock.now()

    assert loop.run_until_complete(scenario()) == pytest.approx(0.05, abs=STEP + TICK)


def test_what_takes_long_does_not_wait_for_ever_where_starts_are_close(loop: VirtualLoop) -> None:
    bench = Bench(loop, SimulatedUpstream(0.0), interval=0.05)
    bench.submit([*range(1, 1000)], Priority.LOW)
    bench.start()
    now = bench.clock.now()

    assert loop.run_until_complete(when_clear(bench, 0.06)) == pytest.approx(now + STEP * STEPS, abs=TICK)


@pytest.mark.parametrize(("count", "recorded_at"), [(10, 4.99), (11, 5.0)])
def test_large_record_is_made_after_a_start_that_is_near(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch, count: int, recorded_at: float
) -> None:
    monkeypatch.setattr("sluice.intake.LARGE", 10)
    bench = busy(loop)
    loop.advance(4.99)
    intake = Intake(Room(10, 1000), 60.0, bench.clock)

    taking = intake.take(bench.lane, Submission([*range(1, count + 1)], Priority.LOW, ""))
    ingestion = bench.lane.ingestions[loop.run_until_complete(taking)]

    assert bench.clock.now() == pytest.approx(recorded_at, abs=STEP + TICK)
    assert ingestion.created_time == pytest.approx(bench.clock.time(), abs=TICK)
    assert bench.lane.arriving == bench.lane.arriving_ids == 0


def test_large_records_are_made_one_after_another_as_they_came(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.intake.LARGE", 2)
    bench = busy(loop)
    intake = Intake(Room(100, 1000), 60.0, bench.clock)

    async def scenario() -> list[str]:
        await bench.clock.sleep_until(4.955)
        taking = []
        for _ in range(8):
            taking.append(asyncio.create_task(intake.take(bench.lane, Submission([1, 2, 3], Priority.LOW, ""))))
            await asyncio.sleep(0.005)
        return await asyncio.gather(*taking)

    ids = loop.run_until_complete(scenario())

    seqs = [bench.lane.ingestions[each].seq for each in ids]
    assert seqs == sorted(seqs)


def test_large_submission_that_is_given_up_while_it_waits_leaves_its_key_free(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.intake.LARGE", 2)
    bench = busy(loop)
    loop.advance(4.99)
    intake, lanes = Intake(Room(10, 1000), 60.0, bench.clock), Lanes({"default": bench.lane})
    submission = Submission([1, 2, 3], Priority.LOW, "", Idempotency("key", b"digest"))

    taking = loop.create_task(intake.take_once(lanes, bench.lane, submission))
    loop.advance(0.001)
    taking.cancel()
    loop.advance(1)

    assert taking.cancelled()
    assert len(bench.lane.ingestions) == 1
    _, was_there = loop.run_until_complete(intake.take_once(lanes, bench.lane, submission))
    assert not was_there
