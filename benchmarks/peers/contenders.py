"""Sluice and its peers as the same thing: a process that dispatches, and a way to submit jobs to it."""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx

from benchmarks.accept import SCRIPT, load
from benchmarks.fleet_processes import wait_until
from benchmarks.peers.job import INTERVAL, UPSTREAM, URL, job_ids
from benchmarks.peers.recorder import Recorder
from benchmarks.peers.submitter import SUBMITTERS
from benchmarks.table import BIN, NO_BOUNDS
from tests.e2e.servers import held_port

PATIENCE = 60.0  # seconds


class FailedError(Exception):
    """A process ended by itself, or says nothing; the message is the last that it logged."""


class Program:
    """A place for a process and its children, one at a time; what they log is kept."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], is_told: bool = False) -> None:
        """Take the command, what to add to the environment, and whether orders and answers go through pipes."""
        self._command = command
        self._is_told = is_told
        self._environment = {**os.environ, **environment}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the place
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Start a process."""
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE if self._is_told else subprocess.DEVNULL,
            stdout=subprocess.PIPE if self._is_told else self._log,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        return self._process

    def check(self) -> None:
        """Raise `FailedError` if the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise self.failed()

    def failed(self) -> FailedError:
        """Return what it died of."""
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode().splitlines()]
        return FailedError(next(filter(None, reversed(lines)), "it says nothing"))

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill, and forget what was logged."""
        self.kill()
        self._log.close()

    def kill(self) -> None:
        """Kill the process and its children, if there is one."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None


class Contender(Protocol):
    """A queue, and the place of the process that dispatches what is in it: it may run already."""

    @property
    def dispatcher(self) -> Program:
        """The place."""

    def flood(self, seconds: float) -> float:
        """Return how many jobs per second were accepted from `SUBMITTERS` at a time."""

    def submit(self, first: int, count: int, priority: str) -> None:
        """Have jobs with these numbers accepted, one after the other."""


class Sluice:
    """One process that serves and dispatches."""

    def __init__(self, dispatcher: Program, client: httpx.Client) -> None:
        self.dispatcher = dispatcher
        self._client = client

    def is_up(self) -> bool:
        """Tell whether it serves; raise `FailedError` if it has ended."""
        self.dispatcher.check()
        try:
            return self._client.get("/queue").is_success
        except httpx.ConnectError:
            return False

    def flood(self, seconds: float) -> float:
        """Have wrk submit over HTTP, on a connection per submitter."""
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT)
            script.flush()
            port = self._client.base_url.port
            assert port is not None
            return load(port, Path(script.name), SUBMITTERS, seconds)[0]

    def submit(self, first: int, count: int, priority: str) -> None:
        """Submit over HTTP."""
        for number in range(first, first + count):
            body = {"ids": job_ids(number), "priority": priority}
            self._client.post("/ingest", json=body).raise_for_status()


@contextmanager
def sluice(upstream: Recorder, **database: str) -> Iterator[Sluice]:
    """Run Sluice until the block is left, with what to set for its database; it serves when the block is entered."""
    calls = {"BATCH_INTERVAL": str(INTERVAL), "UPSTREAM_URL": upstream.url, "LOG_LEVEL": "WARNING"}
    with held_port() as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        command = [
            os.fspath(BIN / "uvicorn"),
            "main:app",
            "--port",
            str(port),
            "--no-access-log",
            "--log-level",
            "warning",
        ]
        with Program(command, NO_BOUNDS | calls | database) as server:
            contender = Sluice(server, client)
            server.start()
            wait_until(contender.is_up, "it serves")
            yield contender


class Peer:
    """A process that submits through the peer's own client, and one that works."""

    def __init__(self, submitter: Program, dispatcher: Program) -> None:
        """Start the submitter, and have it make what the store needs."""
        self.dispatcher = dispatcher
        self._submitter = submitter
        self._process = submitter.start()
        self._hear()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], PATIENCE)[0] and (line := self._process.stdout.readline()):
            return line
        raise self._submitter.failed()

    def _order(self, **order: object) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._hear())

    def flood(self, seconds: float) -> float:
        """Have threads or tasks of the submitter submit."""
        began = time.monotonic()
        return self._order(seconds=seconds) / (time.monotonic() - began)

    def submit(self, first: int, count: int, priority: str) -> None:
        """Have the submitter submit."""
        self._order(first=first, count=count, priority=priority)


@contextmanager
def peer(python: Path, module: str, url: str, upstream: Recorder) -> Iterator[Peer]:
    """Have a peer until the block is left: a module that uses it, the Python that has it, and its store's URL."""
    environment = {URL: url, UPSTREAM: upstream.url}
    command = [os.fspath(python), "-m", f"benchmarks.peers.{module}"]
    with (
        Program([*command, "submit"], environment, is_told=True) as submitter,
        Program([*command, "work"], environment) as dispatcher,
    ):
        yield Peer(submitter, dispatcher)
