"""A connection over real sockets whose server stood still for longer than the connection is kept."""

import asyncio
import socket
import time
from typing import Any

import pytest
import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from sluice import connection
from sluice.connection import Connection, sweep
from tests.connections import GET

KEPT = 1  # seconds
STALL = b"GET /stall HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def connected(port: int) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return client


async def received(client: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return (await asyncio.get_running_loop().sock_recv(client, 4096))[:12]


async def ask_while_the_server_stands_still() -> bytes:
    """Return what is answered to a second request, which came in time and lay unread for long."""
    config = Config(answer, log_config=None, proxy_headers=False, access_log=False, timeout_keep_alive=KEPT)
    config.load()
    loop = asyncio.get_running_loop()

    class Stalling(Connection):
        def data_received(self, data: bytes) -> None:
            if data == STALL:
                client.sendall(GET)
                time.sleep(KEPT + 0.2)
            super().data_received(data)

    Stalling.connected = set()
    server = await loop.create_server(lambda: Stalling(config, ServerState(), {}, _loop=loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sweeping = asyncio.create_task(sweep(Stalling.connected))
    with await connected(port) as client, await connected(port) as other:
        await loop.sock_sendall(client, GET)
        assert await received(client) == b"HTTP/1.1 204"
        await loop.sock_sendall(other, STALL)
        second = await received(client)
    sweeping.cancel()
    server.close()
    return second


def test_request_that_came_in_time_is_answered_though_the_server_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SWEEP_INTERVAL", 0.1)

    assert uvloop.run(ask_while_the_server_stands_still()) == b"HTTP/1.1 204"
