"""A real Sluice in a child process, and a real upstream that records when each call came."""

import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import httpx

from sluice.settings import Settings

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PLAIN = "uvicorn main:app --port $PORT"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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
        deadline = time.monotonic() + 30
        while self.client.get(f"/status/{ingestion_id}").json()["status"] != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def spawn(command: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command line of this environment's `bin` as a host would, output captured."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in {*Settings.model_fields, "web_concurrency"}
    }
    arguments = shlex.split(command.replace("$PORT", environment.get("PORT", "")))
    return subprocess.Popen(
        [BIN / arguments[0], *arguments[1:]],
        cwd=ROOT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def serving(command: str = PLAIN, **environment: str) -> Iterator[Server]:
    """Run the service until the block is left; it answers when the block is entered."""
    port = free_port()
    process = spawn(command, PORT=str(port), **environment)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        deadline = time.monotonic() + 20
        while True:
            try:
                client.get("/docs")
                break
            except httpx.ConnectError:
                assert process.poll() is None, process.stdout and process.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        try:
            yield Server(process, client, port)
        finally:
            process.kill()
            process.communicate()


class RecordingServer(ThreadingHTTPServer):
    """A real upstream: takes `delay` seconds a call and notes (monotonic seconds, ID) as each comes."""

    # The clients of a test come all at once.
    request_queue_size = 128

    def __init__(self, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), RecordingHandler)
        self.delay = delay
        self.calls: list[tuple[float, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/items/{{id}}"

    def starts(self, gap: float) -> list[tuple[float, list[int]]]:
        """Group the calls into batches: one starts where `gap` seconds or more lie before a call."""
        batches: list[tuple[float, list[int]]] = []
        last = -float("inf")
        for at, item in sorted(self.calls):
            if at - last >= gap:
                batches.append((at, []))
            batches[-1][1].append(item)
            last = at
        return [(at, sorted(ids)) for at, ids in batches]


class RecordingHandler(BaseHTTPRequestHandler):
    """Answers 200 to everything."""

    server: RecordingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.calls.append((time.monotonic(), int(self.path.rpartition("/")[2])))
        time.sleep(self.server.delay)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test output clean."""


@contextmanager
def recording_upstream(delay: float = 0.02) -> Iterator[RecordingServer]:
    """Run a recording upstream until the block is left."""
    with RecordingServer(delay) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()
