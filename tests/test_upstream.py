"""HttpUpstream against a real local server that answers, refuses, hangs, trickles and resets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from sluice.ingestion import Batch
from sluice.upstream import KEEP_ALIVE, HttpUpstream, SimulatedUpstream, UpstreamError
from tests.virtual import TICK, VirtualLoop


def batch(*ids: int) -> Batch:
    return Batch(str(uuid4()), 0, str(uuid4()), list(ids))


def test_simulated_upstream_takes_its_delay_per_id(loop: VirtualLoop) -> None:
    loop.run_until_complete(SimulatedUpstream(1.0).process(batch(1, 2, 3)))

    assert loop.time() == pytest.approx(3.0, abs=TICK)


class LocalServer:
    """Answers `/items/<status>`; 1 hangs, 2 trickles for ever, 3 resets. Notes paths and the most calls at once."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.connections = 0
        self.waiting = 0
        self.most_waiting = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                path = request.split()[1].decode()
                self.paths.append(path)
                self.waiting += 1
                self.most_waiting = max(self.most_waiting, self.waiting)
                await asyncio.sleep(0.05)
                self.waiting -= 1
                await self.answer(int(path.rpartition("/")[2]), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, item: int, writer: asyncio.StreamWriter) -> None:
        match item:
            case 1:
                await asyncio.sleep(60)
            case 2:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while True:
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case 3:
                writer.transport.abort()
            case 302:
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /items/200\r\nContent-Length: 0\r\n\r\n")
            case status:
                writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: 2\r\n\r\nok".encode())


@asynccontextmanager
async def serving(server: LocalServer) -> AsyncIterator[HttpUpstream]:
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with HttpUpstream(f"http://127.0.0.1:{port}/items/{{id}}", timeout=0.5) as upstream:
        yield upstream
    listener.close()


@pytest.fixture
def server() -> LocalServer:
    return LocalServer()


def test_ids_of_a_batch_are_called_once_each_at_the_same_time(server: LocalServer) -> None:
    async def act() -> None:
        async with serving(server) as upstream:
            await upstream.process(batch(200, 201, 204))

    asyncio.run(act())

    assert sorted(server.paths) == ["/items/200", "/items/201", "/items/204"]
    assert server.most_waiting == 3


def test_connections_are_kept_from_batch_to_batch(server: LocalServer) -> None:
    async def act() -> None:
        async with serving(server) as upstream:
            for _ in range(3):
                await upstream.process(batch(200, 200))

    asyncio.run(act())

    assert len(server.paths) == 6
    assert server.connections == 2


def test_idle_connection_is_given_up_before_a_server_would_close_it(server: LocalServer) -> None:
    async def act() -> None:
        async with serving(server) as upstream:
            await upstream.process(batch(200))
            await asyncio.sleep(KEEP_ALIVE + 0.1)
            await upstream.process(batch(200))

    asyncio.run(act())

    assert KEEP_ALIVE < 2  # gunicorn's
    assert server.connections == 2


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (500, "ID 500: answered 500"),
        (404, "ID 404: answered 404"),
        (302, "ID 302: answered 302"),
        (1, "ID 1: no answer within 0.5 s"),
        (2, "ID 2: no answer within 0.5 s"),
        (3, "ID 3: "),
    ],
)
def test_id_that_fails_fails_the_batch_by_name_and_the_others_are_still_called(
    server: LocalServer, item: int, complaint: str
) -> None:
    async def act() -> None:
        async with serving(server) as upstream:
            await upstream.process(batch(200, item))

    with pytest.raises(UpstreamError) as failure:
        asyncio.run(act())

    assert str(failure.value).startswith(complaint)
    assert "127.0.0.1" not in str(failure.value)
    assert sorted(server.paths) == sorted(["/items/200", f"/items/{item}"])


def test_refused_connection_fails_the_batch() -> None:
    async def act() -> None:
        async with HttpUpstream("http://127.0.0.1:1/items/{id}", timeout=5) as upstream:
            await upstream.process(batch(7))

    with pytest.raises(UpstreamError, match="ID 7: ConnectError"):
        asyncio.run(act())
