"""The moments before a batch start: what can wait does, so that nothing is in the start's way."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from sluice.clock import Clock

LEAD = 0.01  # seconds before a start in which nothing else begins, and what has begun comes to its end
LONGEST = 0.1  # seconds that anything waits for this at a time
RECOVERY = 0.25  # seconds that they may wait once more, for each second without: a fifth of all time at most

STEP, STEPS = 0.01, 20  # seconds after which it is looked again whether no start is near; and how often

NextStart = Callable[[float], float]
"""When a lane's next batch may start, at a time: both in seconds on the clock."""


class Gate(Protocol):
    """What lets things begin, or has them wait."""

    def hold(self) -> None:
        """Let nothing begin until `go_on`."""

    def go_on(self) -> None:
        """Let begin what waits, and whatever comes."""


class Quiet:
    """Holds the gates while a start of some lane is near: not for longer than `LONGEST`, nor too often.

    A start is a commit and several turns of the event loop. Each would take its turn
    behind hundreds of requests and what they commit, and what makes one start late is
    lost to all that follow.
    """

    def __init__(self) -> None:
        self.alone = asyncio.Lock()  # for what takes so long that no two of its kind should go on at once
        self._gates: list[Gate] = []
        self._lanes: list[NextStart] = []
        self._near: set[str] = set()  # lanes
        self._end: asyncio.TimerHandle | None = None
        self._left = LONGEST  # seconds that the gates may be held, as of `_noted_at`
        self._noted_at = float("-inf")

    def watch(self, next_start: NextStart) -> None:
        """Look at the starts of a lane as well."""
        self._lanes.append(next_start)

    async def clear(self, clock: Clock, seconds: float) -> None:
        """Return when no start is near, nor will be for so many seconds; or, should that never be so, after a while."""
        for _ in range(STEPS):
            now = clock.now()
            if not self._near and all(next_start(now) >= now + seconds for next_start in self._lanes):
                return
            await asyncio.sleep(STEP)

    def add(self, gate: Gate) -> None:
        """Hold this one too; once, however often it is added."""
        if gate not in self._gates:
            self._gates.append(gate)

    def begin(self, lane: str) -> None:
        """Take note that a start of a lane is near."""
        loop = asyncio.get_running_loop()
        if not self._near:
            now = loop.time()
            self._left = min(LONGEST, self._left + RECOVERY * (now - self._noted_at))
            self._noted_at = now
            if self._left < LEAD:
                return  # too little to be of use
            self._end = loop.call_later(self._left, self._over)
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
        self._left -= now - self._noted_at
        self._noted_at = now
        for gate in self._gates:
            gate.go_on()
