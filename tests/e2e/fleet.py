"""Web and worker processes on one database."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx

from tests.e2e.fleet_upstream import FleetUpstream
from tests.e2e.servers import PATIENCE, spawn, wait_until

WEB = "uvicorn main:app --port $PORT --log-level warning --timeout-graceful-shutdown 10"
WORKER = "python -m sluice.worker"
START_REFUSED = 3


class Member:
    """A place in the fleet: one process at a time, another whenever it ended. `caller` names the one that runs."""

    def __init__(
        self,
        name: str,
        command: str,
        upstream: FleetUpstream,
        settings: Mapping[str, str],
        *,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.name = name
        self.url = f"http://{host}:{port}"
        self.is_web = port != 0
        self.lives = 0
        self.started_at = 0.0
        self.output: list[str] = []
        self._command = command
        self._upstream = upstream
        self._environment = {"PORT": str(port), **settings}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def caller(self) -> str:
        return f"{self.name}.{self.lives}"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def start(self) -> Self:
        self.lives += 1
        self.started_at = time.monotonic()
        url = self._upstream.url_for(self.caller)
        self._process = spawn(self._command, **self._environment, UPSTREAM_URL=url)
        # Somebody has to read, or the pipe fills and the process stands still.
        self._reader = threading.Thread(target=self._read, args=(self.caller, self._process), daemon=True)
        self._reader.start()
        return self

    def _read(self, caller: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.output += [f"{caller}: {line}" for line in process.stdout]

    def kill(self) -> None:
        """`kill -9`; it must not have ended by itself before."""
        self.process.kill()
        self._expect(-signal.SIGKILL)

    def terminate(self, *, is_new: bool = False) -> None:
        """SIGTERM; it must end with exit code 0. A new one may not have got to handle it."""
        self.process.send_signal(signal.SIGTERM)
        self._expect(0, *([-signal.SIGTERM] if is_new else []))

    def _expect(self, *codes: int) -> None:
        try:
            self.process.wait(PATIENCE)
        finally:
            self.discard()
        assert self.process.returncode in codes, f"{self.caller} ended with {self.process.returncode}\n{self.told()}"

    def discard(self) -> None:
        """Kill it, and whatever it started, whatever they do."""
        if self._process is not None and self._reader is not None:
            pid = self._process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children")
            started = children.read_text().split() if self._process.poll() is None else []
            self._process.kill()
            for child in started:
                with suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
            self._process.wait()
            self._reader.join()

    def sleep(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def is_ready(self) -> bool:
        """Ask `/readyz`; the process must run."""
        assert self.process.poll() is None, self.told()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def told(self) -> str:
        """Return the last of what its processes printed."""
        return "".join(self.output)[-4000:]


@contextmanager
def running(*members: Member) -> Iterator[None]:
    """Run the members until the block is left, and print what they printed; web processes serve when it is entered."""
    try:
        for member in members:
            member.start()
        wait_until_ready(members)
        yield
    finally:
        for member in members:
            member.discard()
            print(f"--- {member.name}\n{member.told()}")


def wait_until_ready(members: Sequence[Member]) -> None:
    for member in members:
        if member.is_web:
            wait_until(member.is_ready, f"{member.name} is ready")


def caller_of_the_last(upstream: FleetUpstream, members: Sequence[Member]) -> Member | None:
    """Return who made the last call that was answered, if that process still runs."""
    last = upstream.callers()[-1:]
    return next((member for member in members if [member.caller] == last), None)


def submit(web: Member, ids: Sequence[int], priority: str) -> str:
    response = httpx.post(f"{web.url}/ingest", json={"ids": ids, "priority": priority}, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    return str(response.json()["ingestion_id"])


def status(web: Member, ingestion_id: str) -> str:
    response = httpx.get(f"{web.url}/status/{ingestion_id}", timeout=PATIENCE)
    assert response.status_code == 200, response.text
    return str(response.json()["status"])


def wait_until_completed(web: Member, ingestion_id: str) -> None:
    wait_until(lambda: status(web, ingestion_id) == "completed", f"{ingestion_id} is completed at {web.name}")
