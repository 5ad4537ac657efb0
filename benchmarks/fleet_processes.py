"""What a fleet consists of: its database, its workers, and an upstream that notes who called it when."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, cast

import psycopg
import uvloop

from sluice.clock import SystemClock
from sluice.journal.postgres_database import Database
from sluice.models import DEFAULT_LANE

PATIENCE = 30.0  # seconds
CALL = 0.02  # seconds
STANDING_BY = "SELECT count(*) FROM sluice.workers WHERE seen > now() - interval '1 second'"
FILL = """
    INSERT INTO sluice.ingestions (lane, ingestion_id, priority, created_time, batch_size, ids, changed_time)
    SELECT %(lane)s, gen_random_uuid(), number %% 3, sluice.database_time(), 3, %(ids)s, sluice.database_time()
    FROM generate_series(1, %(count)s) AS number
"""


def ask(url: str, query: str) -> float:
    """Return the number that is the answer to a query."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return float(row[0])


def make_lanes(url: str, names: Sequence[str] = (DEFAULT_LANE,)) -> None:
    """Give an empty database the service's tables, with some lanes in them."""
    database = Database(url, SystemClock(), pool_size=2, timeout=5.0)
    for name in names:
        database.add_lanes([name])


def fill(url: str, count: int, ids: int = 3, lane: str = DEFAULT_LANE) -> None:
    """Have so many ingestions wait in a lane before any process runs, of all priorities."""
    wanted = {"lane": lane, "count": count, "ids": array("I", range(1, ids + 1)).tobytes()}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL, wanted)
        connection.execute("UPDATE sluice.lanes SET latest_created_time = sluice.database_time()")
        # Now, for it would be done by itself while something is measured.
        connection.execute("VACUUM ANALYZE sluice.ingestions")
        connection.execute("CHECKPOINT")


def wait_until(is_true: Callable[[], bool], what: str, pause: float = 0.01) -> None:
    """Return when it is, as a look every `pause` seconds tells; fail if that takes long."""
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(pause)


def wait_for_workers(url: str, count: int) -> None:
    """Return when so many processes stand by."""
    wait_until(lambda: ask(url, STANDING_BY) == count, f"{count} processes stand by")


class Call(NamedTuple):
    """A call as it came: when, in monotonic seconds, and from which process."""

    at: float
    caller: str


class Recorder:
    """An upstream that answers every call after a while, and notes each as it comes."""

    def __init__(self, port: int, calls: list[Call]) -> None:
        self._port = port
        self._calls = calls

    def url_for(self, caller: str) -> str:
        """Return the URL that one process is to call."""
        return f"http://127.0.0.1:{self._port}/{caller}/{{id}}"

    def starts(self, gap: float) -> list[Call]:
        """Return the first call of each batch so far: one that `gap` seconds or more went before without any."""
        starts, last = [], float("-inf")
        for call in self._calls.copy():
            if call.at - last >= gap:
                starts.append(call)
            last = call.at
        return starts


class _Connection(asyncio.Protocol):
    """One connection to the recorder."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._calls.append(Call(at, head.split(b"/")[1].decode()))
            asyncio.get_running_loop().call_later(CALL, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@contextmanager
def recorder() -> Iterator[Recorder]:
    """Run a recorder until the block is left; it has a thread to itself."""
    calls: list[Call] = []
    loop = uvloop.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop.run_until_complete(loop.create_server(lambda: _Connection(calls), sock=listener))
        port = listener.getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield Recorder(port, calls)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Worker:
    """A place for a worker process: one at a time."""

    def __init__(self, name: str, upstream: Recorder | None = None, **settings: str) -> None:
        """Take the settings as environment variables."""
        self.name = name
        calls = {"UPSTREAM_URL": upstream.url_for(name)} if upstream else {}
        self._environment = {**os.environ, **settings, **calls}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sluice.worker"], env=self._environment, stdout=self._log, stderr=self._log
        )

    def end(self, how: signal.Signals) -> float:
        """Send the process a signal that ends it; return when, in monotonic seconds."""
        assert self._process is not None
        if self._process.poll() is not None:
            self._log.seek(0)
            raise RuntimeError(f"{self.name} ended by itself:\n{self._log.read().decode()}")
        at = time.monotonic()
        self._process.send_signal(how)
        self._process.wait(PATIENCE)
        self._log.close()
        self._process = None
        return at

    def discard(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._log.close()


@contextmanager
def workers(count: int, url: str, upstream: Recorder | None = None, **settings: str) -> Iterator[list[Worker]]:
    """Run worker processes until the block is left; all stand by when it is entered."""
    places = [Worker(f"worker{number}", upstream, DATABASE_URL=url, **settings) for number in range(count)]
    with ExitStack() as stack:
        for place in places:
            stack.callback(place.discard)
            place.start()
        wait_for_workers(url, count)
        yield places
