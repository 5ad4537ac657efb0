"""How many may be at something at once, so that no caller keeps the others out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from weakref import WeakValueDictionary

from sluice.problem import ProblemError

FULL = "As many large bodies are being read as may be at once; try again, or split the IDs over several ingestions."
RETRY_AFTER = "5"  # seconds


class Places:
    """So many places, of which one caller has half at most; who has waited too long for one is told to come back."""

    def __init__(self, count: int, longest_wait: float) -> None:
        """Take how many places there are, and the seconds that anyone waits for one."""
        self._each = count // 2
        self._longest_wait = longest_wait
        self._all = asyncio.Semaphore(count)
        # Kept for as long as someone has, or waits for, one of his.
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def taken(self, caller: str) -> AsyncIterator[None]:
        """Have a place until the block is left; raise a 503 if there is none in time."""
        own = self._own.setdefault(caller, asyncio.Semaphore(self._each))
        async with AsyncExitStack() as taken:
            try:
                async with asyncio.timeout(self._longest_wait):
                    await taken.enter_async_context(own)
                    await taken.enter_async_context(self._all)
            except TimeoutError:
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, FULL, headers={"Retry-After": RETRY_AFTER}) from None
            yield
