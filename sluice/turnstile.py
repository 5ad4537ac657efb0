"""Who may begin in a turn of the event loop: a few, so that nothing else that is due waits for a crowd."""

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 8


class Turnstile:
    """Lets `AT_ONCE` begin in a turn of the loop, in the order that they came.

    A batch start takes several turns from its timer to its call. With all of a hundred
    clients served in each of them it would come tens of milliseconds late. While one is
    near nobody is let in at all.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Callable[[], object]] = deque()
        self._begun = 0
        self._is_turn_due = False
        self._is_held = False

    def begin(self, loop: asyncio.AbstractEventLoop, start: Callable[[], object]) -> None:
        """Call `start` now or, after those who came before, in a turn of the loop to come."""
        if loop is not self._loop:
            self._move_to(loop)
        if self._begun == 0:
            self._come_back(loop)
        if self._begun < AT_ONCE:
            self._begun += 1
            start()
        else:
            self._waiting.append(start)

    def hold(self) -> None:
        """Let nobody begin until `go_on`."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                return  # it lets in who comes to another server of this process
            self._move_to(loop)
        self._is_held = True
        self._begun = AT_ONCE

    def go_on(self) -> None:
        """Let begin who waits, a few in a turn, and whoever comes."""
        loop = asyncio.get_running_loop()
        if self._is_held and loop is self._loop:
            self._is_held = False
            if not self._is_turn_due:
                self._come_back(loop)

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve a loop. Another one was there before, which has ended."""
        self._loop, self._begun = loop, 0
        self._is_turn_due = self._is_held = False
        self._waiting.clear()

    def _come_back(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_turn_due = True
        loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_turn_due = False
        if self._is_held:
            return
        self._begun = 0
        for _ in range(min(AT_ONCE, len(self._waiting))):
            self.begin(loop, self._waiting.popleft())
