"""The waiting work in a line: how many slots lie before any of it, where ranks are all there is to count by."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from sluice.order import Rank, Stretch

BLOCK = 512


class Place(NamedTuple):
    """The slots of a piece of work, counted from the next one: its first, the one after its last.

    `last_length` is how many IDs its last slot has, those of others that share it included.
    """

    first: int
    end: int
    last_length: int


Load = tuple[Stretch, ...]


class _Packed(NamedTuple):
    """How many slots some work takes, and how many IDs the last of them has."""

    slots: int
    filled: int


class _Block:
    """A stretch of the line. What it makes of a slot that others have begun is worked out once, until it changes."""

    __slots__ = ("loads", "packed", "ranks")

    def __init__(self, ranks: list[Rank], loads: list[Load]) -> None:
        self.ranks = ranks
        self.loads = loads
        self.packed: dict[int, _Packed] = {}


class Line:
    """Work by rank, cut into blocks. With `room`, what is short shares slots of so many IDs with what is next to it.

    `put` takes O(log n), `place` a step per block and per piece of work in one of them.
    """

    def __init__(self, room: int, items: Iterable[tuple[Rank, Load]] = ()) -> None:
        """Take the IDs that a slot has room for, 0 where none is shared, and work that is there from the start."""
        self._room = room
        ordered = sorted(items)
        self._blocks = [
            _Block([rank for rank, _ in part], [load for _, load in part])
            for part in (ordered[first : first + BLOCK] for first in range(0, len(ordered), BLOCK))
        ]
        self._lasts = [block.ranks[-1] for block in self._blocks]

    @property
    def slots(self) -> int:
        """How many slots all of it takes."""
        return self._before(len(self._blocks), 0).slots

    def put(self, rank: Rank, load: Load) -> None:
        """Add work, or change what it takes; take it out if it takes nothing."""
        if not self._blocks:
            if load:
                self._blocks, self._lasts = [_Block([rank], [load])], [rank]
            return
        number = min(bisect_left(self._lasts, rank), len(self._blocks) - 1)
        block = self._blocks[number]
        place = bisect_left(block.ranks, rank)
        is_there = place < len(block.ranks) and block.ranks[place] == rank
        if is_there and load:
            block.loads[place] = load
        elif is_there:
            del block.ranks[place], block.loads[place]
        elif load:
            block.ranks.insert(place, rank)
            block.loads.insert(place, load)
        block.packed.clear()
        if not block.ranks:
            del self._blocks[number], self._lasts[number]
        elif len(block.ranks) > 2 * BLOCK:
            rest = _Block(block.ranks[BLOCK:], block.loads[BLOCK:])
            del block.ranks[BLOCK:], block.loads[BLOCK:]
            self._blocks.insert(number + 1, rest)
            self._lasts[number : number + 1] = [block.ranks[-1], rest.ranks[-1]]
        else:
            self._lasts[number] = block.ranks[-1]

    def place(self, rank: Rank, load: Load) -> Place:
        """Return where work is that is in the line, or where it would be."""
        number, place = self._find(rank)
        before = self._before(number, place)
        begun, own = self._pack(before.filled, [load[:1]]), self._pack(before.filled, [load])
        # Its first slot may be one that others have begun; its last one others may go on with.
        first = before.slots - (bool(load) and not begun.slots)
        length = own.filled if self._room else load[-1].last_length if load else 0
        for stretch in self._after(number, place, rank) if self._room else ():
            joined = self._pack(length, [(stretch,)])
            if joined.slots:
                break
            length = joined.filled
        return Place(first, before.slots + own.slots, length)

    def _find(self, rank: Rank) -> tuple[int, int]:
        number = bisect_left(self._lasts, rank)
        return number, bisect_left(self._blocks[number].ranks, rank) if number < len(self._blocks) else 0

    def _after(self, number: int, place: int, rank: Rank) -> Iterator[Stretch]:
        """Yield what lies from a place in a block on, but for what has this rank."""
        for block in islice(self._blocks, number, None):
            for other in range(place, len(block.ranks)):
                if block.ranks[other] != rank:
                    yield from block.loads[other]
            place = 0

    def _before(self, number: int, place: int) -> _Packed:
        """Return what lies before a place in a block."""
        slots, filled = 0, self._room
        for block in self._blocks[:number]:
            if (packed := block.packed.get(filled)) is None:
                packed = block.packed[filled] = self._pack(filled, block.loads)
            slots, filled = slots + packed.slots, packed.filled
        if place:
            packed = self._pack(filled, self._blocks[number].loads[:place])
            slots, filled = slots + packed.slots, packed.filled
        return _Packed(slots, filled)

    def _pack(self, filled: int, loads: Iterable[Load]) -> _Packed:
        """Put work into slots, one after another, the first into one that has `filled` IDs already."""
        room, slots = self._room, 0
        for load in loads:
            for count, length in load:
                if count == 1 and filled + length <= room:
                    filled += length
                else:
                    slots += count
                    filled = length if room else 0
        return _Packed(slots, filled)
