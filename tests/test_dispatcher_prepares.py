"""When the dispatcher has an upstream prepare for a batch that is about to start."""

import asyncio

import pytest

from sluice.events import Paused
from sluice.models import Priority
from sluice.quiet import LEAD
from sluice.upstream import PreparedUpstream
from tests.quiet import approximately
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop


class PreparedRecordingUpstream(RecordingUpstream, PreparedUpstream):
    """Notes when it is told to prepare, and for how many IDs."""

    lead = 0.3

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[tuple[float, int]] = []

    def prepare(self, count: int) -> None:
        self.prepared.append((asyncio.get_running_loop().time(), count))


def test_upstream_prepares_for_as_many_ids_as_would_start_as_long_before_as_it_takes(loop: VirtualLoop) -> None:
    upstream = PreparedRecordingUpstream()
    bench = Bench(loop, upstream).start()

    bench.submit(range(1, 8), Priority.LOW)
    loop.advance(20)

    assert upstream.prepared == approximately((4.7, 3), (5 - LEAD, 3), (9.7, 1), (10 - LEAD, 1))
    assert upstream.times == pytest.approx([0, 5, 10], abs=TICK)


def test_it_prepares_no_later_than_all_else_gives_way(loop: VirtualLoop) -> None:
    upstream = PreparedRecordingUpstream()
    upstream.lead = 0.0
    bench = Bench(loop, upstream).start()

    bench.submit(range(1, 5), Priority.LOW)
    loop.advance(20)

    assert upstream.prepared == approximately((5 - LEAD, 1))


def test_what_arrives_while_it_prepares_still_goes_first(loop: VirtualLoop) -> None:
    upstream = PreparedRecordingUpstream()
    bench = Bench(loop, upstream).start()
    bench.submit(range(1, 7), Priority.MEDIUM)
    loop.advance(4.9)

    bench.submit([7], Priority.HIGH)
    loop.advance(20)

    assert upstream.ids == [[1, 2, 3], [7], [4, 5, 6]]
    assert upstream.times == pytest.approx([0, 5, 10], abs=TICK)


def test_for_nothing_there_is_nothing_to_prepare(loop: VirtualLoop) -> None:
    upstream = PreparedRecordingUpstream()
    bench = Bench(loop, upstream).start()
    bench.submit(range(1, 7), Priority.LOW)
    bench.decide(lambda: [Paused(0.0, "")])

    loop.advance(20)

    assert (upstream.prepared, len(upstream.calls)) == ([], 1)


def test_batch_that_ends_when_the_next_is_near_leaves_what_time_there_is(loop: VirtualLoop) -> None:
    upstream = PreparedRecordingUpstream()
    bench = Bench(loop, upstream, interval=3.1).start()

    bench.submit(range(1, 5), Priority.LOW)
    loop.advance(20)

    assert upstream.prepared == approximately((3.0, 1), (3.1 - LEAD, 1))
    assert upstream.times == pytest.approx([0, 3.1], abs=TICK)


def test_who_may_not_call_prepares_nothing(loop: VirtualLoop) -> None:
    upstream = PreparedRecordingUpstream()
    may_send = True
    bench = Bench(loop, upstream, may_send=lambda: may_send).start()
    bench.submit(range(1, 5), Priority.LOW)
    loop.advance(4)

    may_send = False
    loop.advance(0.95)

    assert (upstream.prepared, len(upstream.calls)) == ([], 1)


def test_who_stops_prepares_nothing(loop: VirtualLoop) -> None:
    upstream = PreparedRecordingUpstream()
    bench = Bench(loop, upstream).start()
    bench.submit(range(1, 5), Priority.LOW)
    loop.advance(1)

    bench.dispatcher.drain()
    loop.advance(20)

    assert (upstream.prepared, len(upstream.calls)) == ([], 1)


def test_failure_to_prepare_costs_no_batch(loop: VirtualLoop) -> None:
    class Unprepared(PreparedRecordingUpstream):
        def prepare(self, count: int) -> None:
            raise OSError

    upstream = Unprepared()
    bench = Bench(loop, upstream).start()

    bench.submit(range(1, 8), Priority.LOW)
    loop.advance(20)

    assert upstream.times == pytest.approx([0, 5, 10], abs=TICK)
