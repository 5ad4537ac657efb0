"""A client that costs the machine little: HTTP/1.1 on connections that are kept."""

import asyncio
import time
from typing import NamedTuple, cast

import httptools

# Seconds that an idle connection is kept. Less than the server keeps it: it must not be closing when it is used again.
KEPT = 3.0
PATIENCE = 30.0  # seconds


class Answer(NamedTuple):
    """What was answered; the names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.idle_since = 0.0
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    async def ask(self, request: bytes) -> Answer:
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed without an answer"))


class Client:
    """Asks one server, on as many connections at once as there are requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[_Connection] = []

    async def ask(self, request: bytes) -> Answer:
        """Return what is answered; raise `ConnectionError` or `TimeoutError` if nothing is."""
        now = time.monotonic()
        while self._idle and (self._idle[0].idle_since < now - KEPT):
            self._idle.pop(0).transport.close()
        while self._idle and self._idle[-1].transport.is_closing():
            self._idle.pop()
        async with asyncio.timeout(PATIENCE):
            if self._idle:
                connection = self._idle.pop()
            else:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, "127.0.0.1", self.port)
            try:
                answer = await connection.ask(request)
            except BaseException:
                connection.transport.close()
                raise
        if answer.headers.get("connection") == "close":
            connection.transport.close()
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        return answer


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    fields = {"Host": "soak", **headers}
    if body:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body
