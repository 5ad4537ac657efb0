"""Streams of events from real servers: stopping, slow listeners, several processes."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from tests.e2e.servers import Server, serving

PATIENCE = 120.0  # seconds
HUGE_BATCH = 1000  # IDs: so that events are large, and a pipe to nowhere is full soon
AT_ONCE = 40  # batches: with all that is told of them a listener is not yet too far behind


class Listening:
    """Listens in a thread, and keeps what it hears."""

    def __init__(self, server: Server, path: str = "/events") -> None:
        self.heard: list[tuple[str, dict[str, object]]] = []
        self.has_ended = threading.Event()
        self._url = f"http://127.0.0.1:{server.port}{path}"
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait_for("reset")

    def _listen(self) -> None:
        kind = ""
        with suppress(httpx.TransportError), httpx.stream("GET", self._url, timeout=None) as response:
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    self.heard.append((kind, json.loads(value)))
        self.has_ended.set()

    def of(self, kind: str) -> list[dict[str, object]]:
        return [data for each, data in self.heard if each == kind]

    def wait_for(self, kind: str, number: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(self.of(kind)) < number:
            assert time.monotonic() < deadline, (kind, len(self.heard))
            time.sleep(0.02)


@contextmanager
def deaf_listener(server: Server) -> Iterator[socket.socket]:
    """Listen to everything and never read."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(b"GET /events HTTP/1.1\r\nHost: sluice\r\n\r\n")
        yield deaf


def test_server_that_stops_ends_its_streams_and_exits_at_once() -> None:
    with serving(BATCH_INTERVAL="3600", UPSTREAM_DELAY="0", SHUTDOWN_GRACE="300") as server:
        server.submit([1], "HIGH")
        waiting = server.submit([2], "LOW")
        streams = [Listening(server), Listening(server, f"/events/{waiting}")]
        begun = time.monotonic()

        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=PATIENCE)

        # Its grace would be minutes, and what a stream says next, if only that it lives, is 15 seconds away.
        assert time.monotonic() - begun < 10
        assert server.process.returncode == 0
        assert all(stream.has_ended.wait(PATIENCE) for stream in streams)


def test_listener_that_leaves_is_counted_no_more() -> None:
    with serving() as server:
        with deaf_listener(server):
            server.wait_for_listeners(1)

        server.wait_for_listeners(0)


def test_slow_listener_is_dropped_while_others_hear_all_and_batches_go_on() -> None:
    settings = {"BATCH_SIZE": str(HUGE_BATCH), "BATCH_INTERVAL": "0.01", "UPSTREAM_DELAY": "0"}
    with serving(**settings) as server, deaf_listener(server):
        quick = Listening(server)
        server.wait_for_listeners(2)

        for batches in range(AT_ONCE, 13 * AT_ONCE + 1, AT_ONCE):
            ingestion_id = server.submit(list(range(1, AT_ONCE * HUGE_BATCH + 1)), "HIGH")
            quick.wait_for("finished", batches)
            assert len(quick.of("started")) == batches
            assert server.client.get(f"/status/{ingestion_id}?limit=1").json()["status"] == "completed"

        server.wait_for_listeners(1)


def test_what_one_process_accepts_is_told_by_another(database_url: str) -> None:
    settings = {"DATABASE_URL": database_url, "BATCH_INTERVAL": "0.2", "UPSTREAM_DELAY": "0"}
    with serving(**settings) as one, serving(**settings) as other:
        stream = Listening(one)

        ingestion_id = other.submit([1, 2, 3, 4], "HIGH")

        stream.wait_for("finished", 2)
        assert [data["ingestion_id"] for data in stream.of("accepted")] == [ingestion_id]
        assert [data["ids"] for data in stream.of("started")] == [[1, 2, 3], [4]]
        assert stream.of("finished")[-1]["status"] == "completed"
