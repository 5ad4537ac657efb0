"""Connections in virtual time: a transport that goes nowhere, an app that waits, and the client's end."""

import asyncio
import json
import re
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from sluice.connection import Connection, Limits, sweep
from tests.virtual import VirtualLoop

GET = b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /post HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written; `is_stuck` once the client reads no more."""

    def __init__(self, loop: VirtualLoop, connection: Connection) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = self.is_stuck = self.is_reading_paused = self._is_closing = False
        self._loop, self._connection = loop, connection

    def write(self, data: Any) -> None:
        assert not self._is_closing
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self.is_stuck:
                self._loop.call_soon(self._connection.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted = self._is_closing = True
        self._loop.call_soon(self._connection.connection_lost, ConnectionAbortedError())

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False


class Limited(Connection):
    """What there may be two of."""

    limits = Limits(max_connections=2)


class Server:
    """Answers with the body it got; `/wait` once `go` is set, `/stream` begins and waits for the client to leave."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.go = asyncio.Event()
        self.bodies: list[bytes] = []
        self.left = 0
        self.kind = Limited
        Limited.connected = set()
        self.state = ServerState()
        self.config = Config(self._app, log_config=None, proxy_headers=False, access_log=False, interface="asgi3")
        loop.create_task(sweep(self.kind.connected))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        message = {"more_body": True}
        body = b""
        if scope["path"] == "/deaf":
            await self.go.wait()
        if scope["path"] != "/early":
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.left += 1
                    return
                body += message["body"]
        self.bodies.append(body)
        if scope["path"] == "/wait":
            await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            await receive()
            self.left += 1
            return
        await send({"type": "http.response.body", "body": b"[" + scope["path"].encode() + b"]"})


class Client:
    """One connection from the client's end."""

    def __init__(self, server: Server) -> None:
        self._loop = server.loop
        self.connection: Connection = server.kind(server.config, server.state, {}, _loop=server.loop)
        self.transport = Transport(server.loop, self.connection)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> "Client":
        self.connection.data_received(data)
        self._loop.advance(0.001)
        return self

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", self.transport.written)]

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closing()

    @property
    def refusal(self) -> int:
        """The one answer there is: a problem, and the connection closed."""
        head, _, body = self.transport.written.rpartition(b"\r\n\r\n")
        problem = json.loads(body)
        assert problem.keys() == {"type", "title", "status", "detail"}
        assert b"application/problem+json" in head
        assert b"connection: close" in head
        assert b"x-content-type-options: nosniff" in head
        assert b"cache-control: no-store" in head
        assert self.is_closed
        assert self.statuses == [problem["status"]]
        return self.statuses[0]
