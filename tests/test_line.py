"""Line: what lies before and beside work is what packing everything, one by one, makes of it."""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import line
from sluice.line import Line, Place
from sluice.order import Rank, Stretch

Loads = dict[Rank, tuple[Stretch, ...]]
RANKS = st.integers(0, 60).map(lambda number: (0.0, float(number), number))


class Shape(NamedTuple):
    """How many IDs a slot has room for, 0 where none is shared, and how many a batch has at most."""

    room: int
    batch_size: int


SHAPES = st.integers(1, 5).flatmap(lambda size: st.sampled_from([Shape(0, size), Shape(size, size)]))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Shape, list[tuple[Rank, tuple[Stretch, ...]]]]:
    shape = draw(SHAPES)
    stretch = st.builds(Stretch, st.integers(1, 4), st.integers(1, shape.batch_size))
    loads = st.lists(stretch, max_size=2).map(tuple)
    return shape, draw(st.lists(st.tuples(RANKS, loads), max_size=80))


def packed(loads: Loads, rank: Rank, shape: Shape) -> Place:
    """Put everything into slots, batch by batch, and say where that of one rank is."""
    slots: list[int] = []
    own: list[int] = []
    reached = 0
    for each in sorted(loads):
        if each == rank:
            reached = len(slots)
        for count, last in loads[each]:
            for length in [shape.batch_size] * (count - 1) + [last]:
                if slots and slots[-1] + length <= shape.room:
                    slots[-1] += length
                else:
                    slots.append(length)
                if each == rank:
                    own.append(len(slots) - 1)
    return Place(own[0], own[-1] + 1, slots[own[-1]]) if own else Place(reached, reached, 0)


@given(history=histories(), rank=RANKS)
@settings(max_examples=400)
def test_place_of_work_is_where_packing_everything_puts_it(
    history: tuple[Shape, list[tuple[Rank, tuple[Stretch, ...]]]], rank: Rank
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line, "BLOCK", 3)
        shape, puts = history
        made, loads = Line(shape.room, [(puts[0][0], puts[0][1])] if puts and puts[0][1] else []), Loads()
        for each, load in puts:
            made.put(each, load)
            loads[each] = load

            if load:
                assert made.place(each, load) == packed(loads, each, shape)

        new, between = (Stretch(1, 1),), (0.0, rank[1] + 0.5, 0)
        assert made.place(between, new) == packed(loads | {between: new}, between, shape)
        filled = Line(shape.room, [(each, load) for each, load in loads.items() if load])
        assert filled.slots == made.slots == sum_of(loads, shape)


def sum_of(loads: Loads, shape: Shape) -> int:
    last = (1.0, 0.0, 0)
    return packed(loads | {last: (Stretch(1, shape.batch_size),)}, last, shape).first
