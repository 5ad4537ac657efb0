"""How much there is before a place: sums over sparse, ever-growing places."""

from array import array
from collections.abc import Mapping
from typing import Self

BITS = 6
WIDTH = 1 << BITS


class PrefixSums:
    """Amounts at places (integers from 0), none negative, and the sum of all before a place.

    A radix tree of sums, 64 children a node: `add` and `before` take
    O(log place) steps. A node whose sum falls to 0 is dropped, so that memory
    follows the places in use and not how far they have come.
    """

    def __init__(self) -> None:
        self.total = 0
        # One dict a level, the leaves first: node number to the sums of its children.
        self._levels: list[dict[int, array[int]]] = [{}]

    @classmethod
    def of(cls, amounts: Mapping[int, int]) -> Self:
        """Return the sums of many amounts by their places, in O(amounts)."""
        sums = cls()
        sums.total = sum(amounts.values())
        sums._levels.clear()
        while True:
            nodes: dict[int, array[int]] = {}
            for place, amount in amounts.items():
                node = nodes.get(place >> BITS)
                if node is None:
                    node = nodes[place >> BITS] = array("q", bytes(8 * WIDTH))
                node[place & (WIDTH - 1)] = amount
            sums._levels.append(nodes)
            if max(nodes, default=0) == 0:
                return sums
            amounts = {number: sum(node) for number, node in nodes.items()}

    def add(self, place: int, amount: int) -> None:
        """Change the amount at `place` by `amount`; it must not become negative."""
        while place >> (BITS * len(self._levels)):
            self._levels.append({0: array("q", [self.total] + [0] * (WIDTH - 1))} if self.total else {})
        self.total += amount
        below = None
        for nodes in self._levels:
            child, place = place & (WIDTH - 1), place >> BITS
            node = nodes.get(place)
            if node is None:
                node = nodes[place] = array("q", bytes(8 * WIDTH))
            node[child] += amount
            if below is not None and not node[child]:
                del below[(place << BITS) | child]
            below = nodes
        if not self.total:
            self._levels[-1].clear()

    def before(self, place: int) -> int:
        """Return the sum of the amounts at places smaller than `place`."""
        if place >> (BITS * len(self._levels)):
            return self.total
        total = 0
        for nodes in self._levels:
            child, place = place & (WIDTH - 1), place >> BITS
            node = nodes.get(place)
            if node is not None:
                total += sum(node[:child])
        return total

    def first(self) -> int | None:
        """Return the smallest place with an amount, or None if there is none. O(log place)."""
        if not self.total:
            return None
        place = 0
        for nodes in reversed(self._levels):
            child = next(child for child, amount in enumerate(nodes[place]) if amount)
            place = (place << BITS) | child
        return place
