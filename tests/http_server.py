"""A local upstream that answers, refuses, hangs, trickles, resets and lies, and an HttpUpstream that calls it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from pydantic_core import from_json

from sluice import early_connections, http_upstream
from sluice.http_upstream import HttpUpstream
from sluice.ingestion import Batch
from sluice.upstream import Json, UpstreamError
from tests.virtual import EPOCH

MAX_BYTES = 1000
TIMEOUT, SHORT_TIMEOUT = 30.0, 2.0  # seconds; the second where some call is never answered
HANG, TRICKLE, RESET, GARBAGE, SHORT, FLOOD = 1, 2, 3, 4, 5, 6


def batch(*ids: int) -> Batch:
    return Batch(str(uuid4()), tuple(range(len(ids))), list(ids), [str(uuid4()) for _ in ids])


def response(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class LocalServer:
    """Answers `/items/<id>` with `responses[id]`, else with `<id>` as the status; small IDs misbehave.

    Takes `delay` seconds. Notes paths, Idempotency-Keys, connections and the most calls at once.
    """

    def __init__(self) -> None:
        self.delay = 0.05
        self.responses: dict[int, bytes] = {}
        self.paths: list[str] = []
        self.heads: list[bytes] = []
        self.keys: list[str] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.waiting = 0
        self.most_waiting = 0

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._writers)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once something is so, or fail."""
        async with asyncio.timeout(TIMEOUT):
            while not is_so():  # noqa: ASYNC110 - whatever may make it so
                await asyncio.sleep(0.01)

    def close_all(self) -> None:
        for writer in self._writers:
            writer.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(request)
                start, *headers = request.decode().splitlines()
                path = start.split()[1]
                self.paths.append(path)
                self.keys += [line.partition(": ")[2] for line in headers if line.lower().startswith("idempotency-key")]
                self.waiting += 1
                self.most_waiting = max(self.most_waiting, self.waiting)
                await asyncio.sleep(self.delay)
                self.waiting -= 1
                await self.answer(int(path.rpartition("/")[2]), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def answer(self, item: int, writer: asyncio.StreamWriter) -> None:
        match item:
            case _ if item in self.responses:
                writer.write(self.responses[item])
            case 1:
                await asyncio.sleep(60)
            case 2 | 6:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                while True:
                    writer.write(b"." * (1 if item == TRICKLE else 100_000))
                    await writer.drain()
                    await asyncio.sleep(0.05 if item == TRICKLE else 0)
            case 3:
                writer.transport.abort()
            case 4:
                writer.write(b"\x00\xffSSH-2.0-garbage\r\n\r\n")
            case 5:
                writer.write(response(200, b"cut short")[:-4])
                writer.close()
            case status:
                writer.write(response(status, b"ok"))


def keep_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have connections kept, and made early, for as long as a test takes and however long that takes."""
    monkeypatch.setattr(http_upstream, "KEEP_ALIVE", 600.0)
    monkeypatch.setattr(early_connections, "LONGEST_LEAD", 600.0)


@asynccontextmanager
async def serving(
    server: LocalServer,
    may_send: Callable[[], bool] = lambda: True,
    patience: float = TIMEOUT,
    on_sent: Callable[[], object] = lambda: None,
) -> AsyncIterator[HttpUpstream]:
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/items/{{id}}"
    async with HttpUpstream(url, patience, MAX_BYTES, lambda: EPOCH, may_send=may_send, on_sent=on_sent) as upstream:
        yield upstream
    listener.close()


def process(
    server: LocalServer, *batches: Batch, pause: float = 0.0, may_send: Callable[[], bool] = lambda: True
) -> Sequence[object]:
    """Process the batches one after another; return what came of the last."""

    has_silence = any({HANG, TRICKLE} & {*each.ids} for each in batches)

    async def act() -> Sequence[object]:
        results: Sequence[object] = []
        async with serving(server, may_send, SHORT_TIMEOUT if has_silence else TIMEOUT) as upstream:
            for each in batches:
                results = [
                    from_json(answer) if isinstance(answer, Json) else answer for answer in await upstream.process(each)
                ]
                await asyncio.sleep(pause)
        return results

    return asyncio.run(act())


def only(results: Sequence[object]) -> UpstreamError:
    (error,) = results
    assert isinstance(error, UpstreamError)
    return error
