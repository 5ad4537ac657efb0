"""Order: who goes first, and that nobody waits for ever where work ages."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.models import Priority
from sluice.order import Order, Stretch, Work
from tests.virtual import Bench, RecordingUpstream, VirtualLoop

SECONDS = st.integers(0, 10_000).map(float)
WORKS = st.builds(Work, st.sampled_from(Priority), SECONDS, st.just((Stretch(1, 1),)), st.integers(0, 1000))


def risen(work: Work, aging: float, time: float) -> tuple[int, float, int]:
    """Return the class that work is in at `time`, since when, and its number."""
    classes = min(int(work.priority), int((time - work.created_time) // aging))
    return work.priority - classes, work.created_time + aging * classes, work.seq


@given(one=WORKS, other=WORKS, aging=st.integers(1, 5_000).map(float), later=SECONDS)
def test_rank_is_the_order_of_the_classes_that_work_has_risen_to_at_any_time(
    one: Work, other: Work, aging: float, later: float
) -> None:
    order, time = Order(aging), max(one.created_time, other.created_time) + later

    by_rank = order.rank(one) < order.rank(other)

    if order.rank(one)[:2] != order.rank(other)[:2]:  # else they come to every class at the same time
        assert by_rank == (risen(one, aging, time) < risen(other, aging, time))


@given(one=WORKS, other=WORKS)
def test_without_aging_the_order_is_priority_then_time_then_number(one: Work, other: Work) -> None:
    key: Callable[[Work], tuple[float, ...]] = lambda work: (work.priority, work.created_time, work.seq)  # noqa: E731

    assert (Order().rank(one) < Order().rank(other)) == (key(one) < key(other))


def test_low_work_starves_as_long_as_higher_work_keeps_coming(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream(), interval=5.0).start()
    bench.submit([1], Priority.HIGH)
    loop.advance(0)
    bench.submit([7], Priority.LOW)
    for _ in range(100):
        bench.submit([2], Priority.HIGH)
        loop.advance(5.0)

    assert [7] not in bench_ids(bench)


def test_low_work_has_its_turn_once_it_has_aged_to_the_top(loop: VirtualLoop) -> None:
    bench = Bench(loop, RecordingUpstream(), interval=5.0, aging=100.0).start()
    bench.submit([1], Priority.HIGH)
    loop.advance(0)
    bench.submit([7], Priority.LOW)
    waited = 0.0
    while [7] not in bench_ids(bench):
        bench.submit([2], Priority.HIGH)
        bench.submit([3], Priority.HIGH)
        loop.advance(5.0)
        waited += 5.0

    # Two classes up takes 200 s; then it is behind the HIGH work that came before that and still waits.
    assert waited == pytest.approx(2 * 200.0, abs=15.0)


def bench_ids(bench: Bench) -> list[list[int]]:
    upstream = bench.dispatcher._upstream
    assert isinstance(upstream, RecordingUpstream)
    return upstream.ids
