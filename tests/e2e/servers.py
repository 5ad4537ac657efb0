"""A real Sluice in a child process, and a real upstream that records when each call came."""

import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx

from sluice.settings import Settings

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PLAIN = "uvicorn main:app --port $PORT --no-access-log"
PATIENCE = 60.0  # seconds
ROUNDING = 1e-5  # seconds: the service tells times to the microsecond
# What two processes may differ by, at most, on how far apart the monotonic and the wall clock are.
CLOCKS = 0.05

Starts = Sequence[tuple[float, list[int]]]
"""Batches: when they started, in monotonic seconds, and the IDs of each, sorted."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def held_port() -> Iterator[int]:
    """Keep a port for servers that come and go: while none listens, nobody else gets it, not even as a client."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


class Server(NamedTuple):
    """A running child process and a client of it."""

    process: subprocess.Popen[str]
    client: httpx.Client
    port: int

    def submit(self, ids: list[int], priority: str) -> str:
        response = self.client.post("/ingest", json={"ids": ids, "priority": priority})
        assert response.status_code == 200, response.text
        return str(response.json()["ingestion_id"])

    def wait_until_complete(self, ingestion_id: str) -> None:
        wait_until(lambda: self.client.get(f"/status/{ingestion_id}").json()["status"] == "completed")

    def metric(self, name: str) -> float:
        """Return what `/metrics` has by this name, of all lanes together."""
        lines = self.client.get("/metrics").raise_for_status().text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def wait_for_listeners(self, number: int) -> None:
        """Wait until so many listen to events."""
        wait_until(lambda: self.metric("sluice_event_listeners") == number)

    def slots(self, lane: str = "default") -> Starts:
        """Return what the service says that it started in a lane: the last 100."""
        answer = self.client.get("/slots", params={"lane": lane, "past": 100}).raise_for_status().json()
        offset = time.monotonic() - time.time()
        return [
            (datetime.fromisoformat(slot["started_at"]).timestamp() + offset, sorted(slot["ids"]))
            for slot in answer["past"]
        ]


def wait_until(is_true: Callable[[], bool], what: str = "what was to happen", patience: float = PATIENCE) -> float:
    """Return the seconds it took."""
    began = time.monotonic()
    while not is_true():
        assert time.monotonic() - began < patience, f"not within {patience} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began


def gaps_of(slots: Starts, batches: Starts) -> list[float]:
    """Return the seconds from start to start, as the service says, of what the upstream saw it do.

    No call may come before its start: what the upstream sees is as far apart, but for what a call is late.
    """
    assert [ids for _, ids in slots] == [ids for _, ids in batches]
    assert all(start < called + CLOCKS for (start, _), (called, _) in zip(slots, batches, strict=True))
    return [after - before for (before, _), (after, _) in pairwise(slots)]


def client_of(port: int) -> httpx.Client:
    """Return a patient client of a server on this machine."""
    # A server ends a connection after 5 idle seconds: by then no request may be about to go out on it.
    limits = httpx.Limits(keepalive_expiry=1.0)
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, limits=limits)


def spawn(command: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command line of this environment's `bin` as a host would, output captured.

    Nobody reads that before the end: it must not have more than a pipe holds.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in {*Settings.model_fields, "web_concurrency"}
    }
    arguments = shlex.split(command.replace("$PORT", environment.get("PORT", "")))
    return subprocess.Popen(
        [BIN / arguments[0], *arguments[1:]],
        cwd=ROOT,
        env={**inherited, "LOG_LEVEL": "WARNING", "SUBMIT_RATE": "1000000", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_it_answers(process: subprocess.Popen[str], client: httpx.Client) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.get("/docs")
            break
        except httpx.ConnectError:
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def serving(command: str = PLAIN, **environment: str) -> Iterator[Server]:
    """Run the service until the block is left; it answers when the block is entered."""
    with held_port() as port, client_of(port) as client:
        process = spawn(command, PORT=str(port), **environment)
        try:
            wait_until_it_answers(process, client)
            yield Server(process, client, port)
        finally:
            process.kill()
            process.communicate()


class Call(NamedTuple):
    """A call as it came: when, in monotonic seconds, for which ID and with which `Idempotency-Key`."""

    at: float
    item: int
    key: str


class RecordingServer(ThreadingHTTPServer):
    """A real upstream: takes `delay` seconds a call, then does as `answer` says, and notes each call as it comes."""

    # The clients of a test come all at once.
    request_queue_size = 128

    def __init__(self, delay: float, answer: Callable[["RecordingHandler"], None]) -> None:
        super().__init__(("127.0.0.1", 0), RecordingHandler)
        self.delay = delay
        self.answer = answer
        self.recorded: list[Call] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/items/{{id}}"

    @property
    def calls(self) -> list[tuple[float, int]]:
        """Return (monotonic seconds, ID) of each call."""
        return [(call.at, call.item) for call in self.recorded]

    def batches(self) -> Starts:
        """Group the calls by the batch in their keys; what is called again is a batch of its own."""
        batches: dict[tuple[str, int], list[Call]] = {}
        attempts: Counter[str] = Counter()
        for call in sorted(self.recorded):
            attempts[call.key] += 1
            batches.setdefault((call.key.partition("/")[0], attempts[call.key]), []).append(call)
        return [(calls[0].at, sorted(call.item for call in calls)) for calls in batches.values()]

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep clients that went away, or were killed, out of the test output."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class RecordingHandler(BaseHTTPRequestHandler):
    """One call; `call` is what was noted of it."""

    server: RecordingServer
    protocol_version = "HTTP/1.1"
    call: Call

    def do_GET(self) -> None:
        key = self.headers.get("Idempotency-Key", "")
        self.call = Call(time.monotonic(), int(self.path.rpartition("/")[2]), key)
        self.server.recorded.append(self.call)
        time.sleep(self.server.delay)
        self.server.answer(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test output clean."""


def answer_ok(handler: RecordingHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"ok")


def answer_when(may_answer: threading.Event) -> Callable[[RecordingHandler], None]:
    """Return what answers once that is set."""

    def answer(handler: RecordingHandler) -> None:
        may_answer.wait()
        answer_ok(handler)

    return answer


def hang(handler: RecordingHandler) -> None:
    """Answer nothing for as long as somebody waits for it."""
    handler.rfile.read(1)


def fail_2_once(handler: RecordingHandler) -> None:
    """Know nothing of ID 2 the first time that it is asked for."""
    seen = sum(call.item == 2 for call in handler.server.recorded)
    handler.send_response(404 if handler.call.item == 2 and seen == 1 else 200)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def recording_upstream(
    delay: float = 0.02, answer: Callable[[RecordingHandler], None] = answer_ok
) -> Iterator[RecordingServer]:
    """Run a recording upstream until the block is left."""
    with RecordingServer(delay, answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()
