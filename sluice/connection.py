"""What one client connection is allowed: how much head, how much time, and to be there at all."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from functools import partial
from http import HTTPStatus
from itertools import chain
from math import inf
from typing import Any, ClassVar, NamedTuple

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sluice import problem
from sluice.gathering import Gathering, Outbox
from sluice.secure_headers import for_problems
from sluice.turnstile import Turnstile

logger = logging.getLogger(__name__)

MIN_RATE = 8192.0  # bytes per second that a body must come on with
MOST_WAITING = 64  # requests that wait for the answers to those before them
SWEEP_INTERVAL = 1.0  # seconds
FIELD_OVERHEAD = len(": \r\n")

# What the client has begun and not ended. Not an enum: looking up its members takes longer than all else here.
NOTHING, HEAD, BODY = "nothing", "head", "body"


class Limits(NamedTuple):
    """What clients may take: bytes of a head and of the URL in it, seconds until they go on, connections at once."""

    max_header_bytes: int = 16_384
    max_url_bytes: int = 8_192
    client_timeout: float = 20.0
    max_connections: int = 4_096


class Connection(HttpToolsProtocol):
    """Serves HTTP/1.1 to one client within `limits`, and refuses in the shape of a problem what is beyond them.

    Times are the loop's. Nothing is timed but by `sweep`: that costs a request less than a timer would.
    What every request goes through calls uvicorn's methods by name: looking them up in `super()` takes longer.
    """

    limits: ClassVar[Limits] = Limits()
    connected: ClassVar[set["Connection"]] = set()
    turnstile: ClassVar[Turnstile] = Turnstile()
    outbox: ClassVar[Outbox] = Outbox()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.url = b""
        self.running: RequestResponseCycle | None = None
        self._awaiting = NOTHING
        self._has_begun = False  # whether what is awaited began in the bytes that came last
        self._unread = 0  # bytes since the head began or, later, since the last ones of the body
        self._most = 0  # bytes that the head cannot have more of; what it has is counted only if that may be too many
        self._go_on_by = inf  # when the client must have gone on sending
        self._read_by = inf  # when it must have read what is there for it
        self._is_over = False  # whether nothing more is listened to
        self._last_words = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the client in, unless there are as many as there may be."""
        self.gathering = Gathering(transport, self.loop, self.outbox)
        if len(self.connected) >= self.limits.max_connections:
            self.transport = transport
            detail = f"There are {self.limits.max_connections} connections; try again when some have ended."
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "1"})
            return
        super().connection_made(self.gathering)  # type: ignore[arg-type]
        self.connected.add(self)
        self._go_on_by = self.loop.time() + self.limits.client_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything that was for this client."""
        self.connected.discard(self)
        super().connection_lost(exc)
        # uvicorn tells the request that came last; the one that is being answered may be another.
        if self.running is not None and not self.running.response_complete:
            self._disconnect(self.running)
        self.pipeline.clear()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the way back open for one who has asked and says no more; a stream's listener has left."""
        self.gathering.write_held()
        is_stream = self.running is not None and self.running.chunked_encoding
        if self._awaiting == NOTHING and self._is_due() and not is_stream and self.scheme == "http":
            self.cycle.keep_alive = False
            return True
        return False

    def data_received(self, data: bytes) -> None:
        """Parse what came, and set the time by which the client must go on."""
        if self._is_over:
            return
        if self._awaiting == NOTHING:
            # Whatever comes between two requests, line ends too, is the beginning of a head.
            self._begin_head()
        self._unread += len(data)
        self._most += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if not self._is_over:
                logger.debug("%s sent what is no request: %s", self.client, error)
                is_llhttps = not isinstance(error, httptools.HttpParserCallbackError)
                detail = f"This is not HTTP/1.1: {error}." if is_llhttps else "The URL is malformed."
                self._refuse(HTTPStatus.BAD_REQUEST, detail)
            return
        if self._awaiting == NOTHING and self.scope is not self.cycle.scope:
            # Behind a whole request there is the beginning of another one.
            self._begin_head()
            self._most = len(data)
        if self._awaiting != NOTHING:
            self._await_more(len(data))
        elif self.cycle.response_complete:
            self._go_on_by = self.loop.time() + self.timeout_keep_alive
        else:
            self._go_on_by = inf

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # llhttp takes all that follows, the body too, for the other protocol. None is spoken here.
                version = self.parser.get_http_version().encode()
                line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)
                fields = (b"%s: %s" % field for field in self.headers if field[0] != b"upgrade")
                data = b"\r\n".join((line, *fields, b"", data[upgrade.args[0] :]))
                self.parser = httptools.HttpRequestParser(self)
            else:
                return

    def _await_more(self, size: int) -> None:
        now = self.loop.time()
        latest = now + self.limits.client_timeout
        if self._is_too_large(self._unread):
            return
        if self._has_begun:
            self._has_begun = False
            self._go_on_by = latest
        elif self._awaiting == BODY and not self.cycle.response_complete:
            self._go_on_by = min(latest, self._go_on_by + size / MIN_RATE)

    def _begin_head(self) -> None:
        self._awaiting = HEAD
        self._unread = self._most = 0
        # The first head's time began with the connection.
        self._has_begun = self.cycle is not None

    def on_headers_complete(self) -> None:
        """Begin to serve the request; stop the parser with an exception if its head is too large or too many wait."""
        if self._most > self.limits.max_header_bytes or len(self.url) > self.limits.max_url_bytes:
            fields = sum(map(len, chain.from_iterable(self.headers))) + FIELD_OVERHEAD * len(self.headers)
            if self._is_too_large(len(self.url) + fields):
                raise httptools.HttpParserError
        if len(self.pipeline) >= MOST_WAITING:
            self._is_over = True
            self._go_on_by = inf
            self.cycle.keep_alive = False
            raise httptools.HttpParserError
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(HTTPStatus.BAD_REQUEST, "This is no proxy: CONNECT leads nowhere.")
                raise httptools.HttpParserError
            return
        HttpToolsProtocol.on_headers_complete(self)
        # What a chunked body ends with would be added to the headers of a request that is already being served.
        self.headers = []
        self._awaiting = BODY
        self._unread = 0
        self._has_begun = True

    def on_body(self, body: bytes) -> None:
        """Pass it on."""
        self._unread = 0
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        """Await nothing more, except where the head is yet to be read again, without its upgrade."""
        if self._awaiting == BODY:
            self._awaiting = NOTHING
            HttpToolsProtocol.on_message_complete(self)

    def on_response_complete(self) -> None:
        """Go on with the next request that waits; else wait for one, but not for ever."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._is_over:
            self._end(self._last_words)
        elif self._awaiting == NOTHING:
            self._go_on_by = self.loop.time() + self.timeout_keep_alive
        elif self._awaiting == BODY:
            # Closing on a body that is on its way would take the answer back with it.
            self._go_on_by = self.loop.time() + self.limits.client_timeout

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        self.turnstile.begin(self.loop, partial(HttpToolsProtocol._start_asgi_task, self, cycle, app))

    def pause_writing(self) -> None:
        """Write no more until the client reads, for which it has `client_timeout`."""
        self._read_by = self.loop.time() + self.limits.client_timeout
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._read_by = inf
        super().resume_writing()

    def check(self, now: float) -> None:
        """End the connection if the client has let its time pass."""
        if self.transport.is_closing():
            self._read_by = min(self._read_by, now + self.limits.client_timeout)
        if now >= self._read_by:
            self.transport.abort()
        elif self.transport.is_closing() or self._go_on_by == inf:
            return
        elif self.flow.read_paused:
            self._go_on_by = now + self.limits.client_timeout
        elif now >= self._go_on_by:
            self._expire()

    def _expire(self) -> None:
        if self._awaiting == NOTHING:
            self.transport.close()
        else:
            seconds = self.limits.client_timeout
            detail = f"The {self._awaiting} of the request stopped coming; send it within {seconds:g} seconds."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)

    def _is_too_large(self, head: int) -> bool:
        """Whether the URL, or a head of so many bytes, is, which refuses it."""
        limits = self.limits
        if len(self.url) > limits.max_url_bytes:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, f"The URL has more than {limits.max_url_bytes} bytes.")
        elif head > limits.max_header_bytes:
            detail = f"There are more than {limits.max_header_bytes} bytes beside the body."
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        return self._is_over

    def _refuse(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer the request that is being received, after those before it, and close."""
        self._is_over = True
        self._go_on_by = inf
        answer = problem.response(status, detail, headers={**(headers or {}), "Connection": "close"})
        secured = for_problems(encrypted=self.scheme == "https")
        fields = (
            b"%s: %s\r\n" % field for field in chain(self.server_state.default_headers, answer.raw_headers, secured)
        )
        self._last_words = b"".join((STATUS_LINE[status], *fields, b"\r\n", bytes(answer.body)))
        if self._awaiting == BODY:
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
            elif self.cycle.response_started:
                self._end()
            else:
                self._disconnect(self.cycle)
        if not self._is_due():
            self._end(self._last_words)

    def _is_due(self) -> bool:
        """Whether an answer is yet to be completed."""
        running = self.running
        return running is not None and not (running.response_complete or running.disconnected)

    def _end(self, last_words: bytes = b"") -> None:
        if last_words and not self.transport.is_closing():
            self.transport.write(last_words)
        self.transport.close()

    @staticmethod
    def _disconnect(cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.message_event.set()


async def sweep(connections: Collection[Connection]) -> None:
    """End, for ever and within a second, those connections whose client has let its time pass."""
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        # uvloop comes to its timers before what has arrived: after a standstill a request would be closed on unread.
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        for connection in list(connections):
            connection.check(now)


def guard(limits: Limits) -> None:
    """Have uvicorn make a `Connection`, with these limits, of every connection from now on."""
    Connection.limits = limits
    # uvicorn chooses its class before it loads the app: by then only what that class makes can be changed.
    HttpToolsProtocol.__new__ = _make  # type: ignore[method-assign, assignment]


def _make(kind: type[HttpToolsProtocol], *_: object, **__: object) -> HttpToolsProtocol:
    return object.__new__(Connection if kind is HttpToolsProtocol else kind)
