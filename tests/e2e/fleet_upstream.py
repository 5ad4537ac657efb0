"""An upstream in a process of its own that notes who called, when and for what: `python -m tests.e2e.fleet_upstream`.

Of its own, so that the times it notes do not depend on what else the test is doing.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

from tests.e2e.fleet_oracle import FleetCall
from tests.e2e.servers import ROOT, wait_until

DELAY = 0.05  # seconds that a call takes
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


class FleetUpstream:
    """The running upstream; each process calls it by a URL of its own. `noted` has the calls that were answered."""

    def __init__(self, host: str, slow: float) -> None:
        self.noted: list[FleetCall] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.fleet_upstream", "--host", host, "--slow", str(slow)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._address = self._process.stdout.readline().strip()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at, until, item, key, caller = line.split()
            self.noted.append(FleetCall(float(at), float(until), int(item), key, caller))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def url_for(self, caller: str) -> str:
        return f"http://{self._address}/{caller}/{{id}}"

    def callers(self) -> list[str]:
        """Return who made each call that has been answered, in order."""
        return [call.caller for call in self.noted]

    def smallest_gap(self) -> float:
        """Return the least time between two batches, as they were called for the first time."""
        starts: dict[str, float] = {}
        for call in sorted(self.noted):
            starts.setdefault(call.key.partition("/")[0], call.at)
        return min(after - before for before, after in pairwise(starts.values()))

    def wait_for_calls(self, count: int, caller: str = "") -> None:
        """Return once so many more calls have been answered, to one caller or to all."""
        seen = len(self.noted)
        wait_until(
            lambda: sum(caller in ("", each) for each in self.callers()[seen:]) >= count,
            f"{count} calls by {caller or 'anyone'}",
        )


@contextmanager
def fleet_upstream(host: str = "127.0.0.1", slow: float = 0.0) -> Iterator[FleetUpstream]:
    """Run an upstream until the block is left. It takes `slow` seconds more for some IDs.

    Every tenth ID is answered 500 the first time.
    """
    upstream = FleetUpstream(host, slow)
    try:
        yield upstream
    finally:
        upstream.stop()


async def _serve(host: str, slow: float) -> None:
    called: set[int] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
                at = time.monotonic()
                _, caller, item = head[0].split()[1].split("/")
                (key,) = [line.split()[1] for line in head if line.lower().startswith("idempotency-key:")]
                # It works on a call for as long as somebody waits for the answer.
                gone = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({gone}, timeout=DELAY + (slow if int(item) % 17 == 0 else 0))
                gone.cancel()
                await asyncio.wait({gone})
                is_refused = int(item) % 10 == 0 and int(item) not in called
                called.add(int(item))
                print(at, time.monotonic(), item, key, caller, flush=True)
                writer.write(ERROR if is_refused else OK)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, 0, backlog=128)
    print("{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    # A call is to be noted when it comes, however busy the machine is.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--slow", type=float)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.host, arguments.slow))
