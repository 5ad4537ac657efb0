"""Listening to the service's events in the background."""

import queue
import threading
import time
from typing import NamedTuple

import httpx
from httpx_sse import SSEError, connect_sse

TIMEOUT = httpx.Timeout(30.0, connect=5.0, read=45.0)  # seconds: three heartbeats missed are no connection
FIRST_PAUSE = 0.5  # seconds until the stream is tried again; it doubles with each failure
LONGEST_PAUSE = 15.0


class Event(NamedTuple):
    """What happened: the kind, and the JSON that came with it."""

    kind: str
    data: str


class Listener:
    """Collects the events of a path in a thread of its own, and connects again when the stream breaks off.

    It goes on where it broke off, as far as the server remembers, until it is closed
    or the process ends.
    """

    def __init__(self, client: httpx.Client, path: str, params: dict[str, str] | None = None) -> None:
        self.is_connected = False
        self.has_failed = False  # the stream is not there, or ended; it may be there again by now
        self._client = client
        self._path = path
        self._params = params or {}
        self._changed: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Connect no more."""
        self._closed.set()

    def wait(self, seconds: float) -> list[Event]:
        """Wait for something to happen, or the connection to come or go, and return the events so far."""
        events: list[Event] = []
        try:
            change = self._changed.get(timeout=seconds)
            while True:
                if change is not None:
                    events.append(change)
                change = self._changed.get_nowait()
        except queue.Empty:
            return events

    def wait_for_end(self, seconds: float) -> list[Event]:
        """Return the events until the stream ends, `seconds` at most."""
        deadline = time.monotonic() + seconds
        events = self.wait(0)
        while self.is_connected and (left := deadline - time.monotonic()) > 0:
            events += self.wait(left)
        return events + self.wait(0)

    def _listen(self) -> None:
        last_id, pause = "", FIRST_PAUSE
        while not self._closed.is_set():
            try:
                headers = {"Last-Event-ID": last_id} if last_id else {}
                with connect_sse(
                    self._client, "GET", self._path, params=self._params, headers=headers, timeout=TIMEOUT
                ) as source:
                    source.response.raise_for_status()
                    events = source.iter_sse()
                    self._note(is_connected=True)
                    for event in events:
                        pause, last_id = FIRST_PAUSE, event.id or last_id
                        if event.data:  # a heartbeat has none
                            self._changed.put(Event(event.event, event.data))
            except (httpx.HTTPError, SSEError):
                pass  # like an end of the stream: told, and tried again
            self.has_failed = True
            self._note(is_connected=False)
            self._closed.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _note(self, *, is_connected: bool) -> None:
        self.is_connected = is_connected
        self._changed.put(None)
