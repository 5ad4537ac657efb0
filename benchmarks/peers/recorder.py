"""An upstream that notes when each call came, by the kernel's clock: the machine that is measured is busy."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import NamedTuple

from benchmarks.soak_witnesses import CALL, OK, SO_TIMESTAMPNS, stamped


class Call(NamedTuple):
    """A call as it came: when, in monotonic seconds, and for which ID."""

    at: float
    item: int


class Recorder:
    """Answers every call after `CALL` seconds, and notes each as it comes."""

    def __init__(self, listener: socket.socket) -> None:
        """Take what to listen on; nothing is taken from it yet."""
        self._listener = listener
        self._calls: list[Call] = []
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/{{id}}"

    def calls(self) -> list[Call]:
        """Return the calls so far, as they came."""
        return sorted(self._calls)

    def serve(self) -> None:
        """Take connections, until what they come in at is shut down."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        # Who calls may be killed.
        with connection, suppress(ConnectionError):
            for at, received in stamped(connection):
                self._calls.append(Call(at, int(received.split()[1].strip(b"/"))))
                time.sleep(CALL)
                connection.sendall(OK)


@contextmanager
def recorder() -> Iterator[Recorder]:
    """Run a recorder until the block is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        upstream = Recorder(listener)
        thread = Thread(target=upstream.serve, daemon=True)
        thread.start()
        try:
            yield upstream
        finally:
            # Closing it would not wake the thread.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
