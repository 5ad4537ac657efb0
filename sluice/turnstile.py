"""Who may begin in a turn of the event loop: a few, so that nothing else that is due waits for a crowd."""

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 8


class Turnstile:
    """Lets `AT_ONCE` begin in a turn of the loop, in the order that they came.

    A batch start takes several turns from its timer to its call. With all of a hundred
    clients served in each of them it would come tens of milliseconds late.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Callable[[], object]] = deque()
        self._begun = 0

    def begin(self, loop: asyncio.AbstractEventLoop, start: Callable[[], object]) -> None:
        """Call `start` now or, after those who came before, in a turn of the loop to come."""
        if loop is not self._loop:
            # Another one was there before, which has ended.
            self._loop, self._begun = loop, 0
            self._waiting.clear()
        if self._begun == 0:
            loop.call_soon(self._turn, loop)
        if self._begun < AT_ONCE:
            self._begun += 1
            start()
        else:
            self._waiting.append(start)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = 0
        for _ in range(min(AT_ONCE, len(self._waiting))):
            self.begin(loop, self._waiting.popleft())
