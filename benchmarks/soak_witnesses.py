"""Processes that look on at a soak: an upstream that notes every call, a sleeper that notes when it wakes late."""

import re
import socket
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

CALL = 0.02  # seconds that a call takes
FAILING = 50  # one ID in so many is answered 500 at its first call
NAP = 0.001  # seconds
WORTH_NOTING = 0.002  # seconds that a nap was too long

SO_TIMESTAMPNS = 35  # of Linux; the module does not know it
STAMP = struct.Struct("ll")
REQUEST = re.compile(rb"GET /(\d+) .*?\r\nidempotency-key: (\S+)\r\n", re.DOTALL | re.IGNORECASE)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


class Call(NamedTuple):
    """A call: when it came and when it had been answered, in monotonic seconds, its `Idempotency-Key`, and how."""

    at: float
    answered: float
    key: str
    is_ok: bool


class Naps(NamedTuple):
    """How much longer than asked for naps were: all of them sorted, and (when, how much) of the worst; in seconds."""

    late: "array[float]"
    worst: list[tuple[float, float]]


class Witness:
    """A process that looks on until it is asked what it saw."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.first = pipe.recv()

    def end(self) -> Any:
        """Have it end; return what it saw."""
        self._pipe.send(None)
        return self._pipe.recv()


@contextmanager
def witness(run: Callable[[Any], None]) -> Iterator[Witness]:
    """Run a witness until the block is left."""
    ours, theirs = Pipe()
    process = Process(target=run, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Witness(ours)
    finally:
        process.kill()
        process.join()


def sleeper(pipe: "Connection[Any, Any]") -> None:
    """Take one nap after another, as nothing but the machine can make late; tell `Naps` in the end."""
    pipe.send(None)
    late: array[float] = array("f")
    worst = []
    while not pipe.poll():
        due = time.monotonic() + NAP
        time.sleep(NAP)
        now = time.monotonic()
        late.append(now - due)
        if now - due > WORTH_NOTING:
            worst.append((now, now - due))
    pipe.send(Naps(array("f", sorted(late)), worst))


def upstream(pipe: "Connection[Any, Any]") -> None:
    """Answer every call after a while, one ID in `FAILING` with a 500 the first time; tell the `Call`s in the end."""
    calls: list[Call] = []
    failed: set[str] = set()
    listener = socket.create_server(("127.0.0.1", 0))
    # When the kernel has a call, not when this process has its turn: the machine is busy.
    listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    pipe.send(listener.getsockname()[1])

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, calls, failed), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    pipe.recv()
    pipe.send(calls.copy())


def stamped(connection: socket.socket) -> Iterator[tuple[float, bytes]]:
    """Yield each request of a connection, and when the kernel had it, in monotonic seconds, until it is closed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received, at = b"", 0.0
    while True:
        data, notes, *_ = connection.recvmsg(65_536, 128)
        if not data:
            return
        if not received:
            now, at = time.time(), time.monotonic()
            if notes:
                seconds, nanoseconds = STAMP.unpack(notes[0][2])
                at -= now - seconds - nanoseconds / 1e9
        received += data
        if received.endswith(b"\r\n\r\n"):
            yield at, received
            received = b""


def _serve(connection: socket.socket, calls: list[Call], failed: set[str]) -> None:
    for at, received in stamped(connection):
        found = REQUEST.match(received)
        assert found, received
        item, key = int(found[1]), found[2].decode()
        is_ok = item % FAILING != 0 or key in failed
        if not is_ok:
            failed.add(key)
        time.sleep(CALL)
        connection.sendall(OK if is_ok else BROKEN)
        calls.append(Call(at, time.monotonic(), key, is_ok))
