"""Answers that go on for a while: how many of them one caller has, and until when."""

from collections import Counter
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sluice.api.access import address_or_name, caller_of
from sluice.clock import Clock
from sluice.problem import ProblemError

HEARTBEAT = 15.0  # seconds
TOO_MANY_STREAMS = "{} streams are open with this key or, where none is needed, from this address; end some of them."
RETRY_AFTER = "5"  # seconds


class Streams:
    """Those of an app, of which one caller has `most` at once."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._open: Counter[str] = Counter()

    def longest_silence(self, request: Request) -> float:
        """Return for how many seconds a stream may say nothing: 0 or less where the session is over that it is for."""
        return min(HEARTBEAT, caller_of(request).until - self._clock.time())

    def answer(
        self, request: Request, pieces: AsyncIterator[bytes], media_type: str, headers: dict[str, str] | None = None
    ) -> StreamingResponse:
        """Return the answer that streams `pieces`; it raises a 429 in place of its beginning if there are too many."""
        return _Counted(pieces, media_type=media_type, headers=headers, of=self, caller=address_or_name(request))

    def begin(self, caller: str) -> None:
        """Count one more; raise a 429 if there are as many as there may be."""
        if self._open[caller] >= self._most:
            detail = TOO_MANY_STREAMS.format(self._most)
            raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": RETRY_AFTER})
        self._open[caller] += 1

    def end(self, caller: str) -> None:
        """Count one less."""
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]


class _Counted(StreamingResponse):
    """Counts itself for as long as it is sent. Not its pieces: they may end before they have begun."""

    def __init__(self, pieces: AsyncIterator[bytes], *, of: Streams, caller: str, **options: Any) -> None:
        super().__init__(pieces, **options)
        self._streams, self._caller = of, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self._streams.begin(self._caller)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.end(self._caller)
