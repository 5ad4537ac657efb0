"""The moments before a batch start: what can wait does, so that nothing is in the start's way."""

import asyncio
from typing import Protocol

LEAD = 0.01  # seconds before a start in which nothing else begins, and what has begun comes to its end
LONGEST = 0.03  # seconds that anything waits for this at a time
REST = 3  # times as long as things waited last, they do not wait again


class Gate(Protocol):
    """What lets things begin, or has them wait."""

    def hold(self) -> None:
        """Let nothing begin until `go_on`."""

    def go_on(self) -> None:
        """Let begin what waits, and whatever comes."""


class Quiet:
    """Holds the gates while a start of some lane is near: at most `LONGEST` at a time, and a quarter of all time.

    A start is a commit and several turns of the event loop. Each would take its turn
    behind hundreds of requests and what they commit, and what makes one start late is
    lost to all that follow.
    """

    def __init__(self) -> None:
        self._gates: list[Gate] = []
        self._near: set[str] = set()  # lanes
        self._end: asyncio.TimerHandle | None = None
        self._began_at = 0.0
        self._resting_until = float("-inf")

    def add(self, gate: Gate) -> None:
        """Hold this one too; once, however often it is added."""
        if gate not in self._gates:
            self._gates.append(gate)

    def begin(self, lane: str) -> None:
        """Take note that a start of a lane is near."""
        loop = asyncio.get_running_loop()
        if not self._near:
            if loop.time() < self._resting_until:
                return
            self._began_at = loop.time()
            self._end = loop.call_later(LONGEST, self._over)
            for gate in self._gates:
                gate.hold()
        self._near.add(lane)

    def end(self, lane: str) -> None:
        """Take note that the lane's call is sent, or that there was none to send."""
        if lane in self._near:
            self._near.discard(lane)
            if not self._near:
                self._over()

    def _over(self) -> None:
        assert self._end is not None
        self._end.cancel()
        self._near.clear()
        now = asyncio.get_running_loop().time()
        self._resting_until = now + REST * (now - self._began_at)
        for gate in self._gates:
            gate.go_on()
