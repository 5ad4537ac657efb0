"""Following: woken by events, looking by itself where there are none, patient with a server that is away."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sluice.cli import follow, stream
from sluice.cli.client import Client
from sluice.cli.errors import UnreachableError, UsageError
from sluice.cli.follow import AWAY, NO_STREAM, follow_ingestion
from sluice.cli.stream import Event, Listener
from sluice.schemas import STATUS_EXAMPLE

ID = STATUS_EXAMPLE["ingestion_id"]
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}
NONE = httpx.Response(404, json={"detail": "Nothing is at /events."})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL", 0.01)
    monkeypatch.setattr(follow, "LEAST_GAP", 0.0)
    monkeypatch.setattr(stream, "FIRST_PAUSE", 0.01)


def status(done: int, of: int = 3) -> httpx.Response:
    progress = {"total_batches": of, "completed": done, "yet_to_start": of - done}
    state = "completed" if done == of else "triggered"
    body = {**STATUS_EXAMPLE, "status": state, "progress": {**STATUS_EXAMPLE["progress"], **progress}}
    return httpx.Response(200, json=body)


class Body(httpx.SyncByteStream):
    """Sends pieces, and then ends, once it is let go on."""

    def __init__(self, *pieces: bytes, until: threading.Event | None = None) -> None:
        self._pieces = pieces
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._until:
            assert self._until.wait(10)


class Server:
    """Answers `/status` with what it was given, in turn, and `/events` with its streams."""

    def __init__(self, *statuses: httpx.Response | Exception, streams: list[Any] | None = None) -> None:
        self.statuses = list(statuses)
        self.streams = streams or [NONE]
        self.looks = 0
        self.listened: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/events"):
            self.listened.append(request)
            chosen = self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]
            return chosen if isinstance(chosen, httpx.Response) else httpx.Response(200, headers=EVENTS, stream=chosen)
        self.looks += 1
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def until_looked(self, times: int) -> None:
        while self.looks < times:
            time.sleep(0.001)

    @property
    def client(self) -> Client:
        return Client("http://sluice.test", httpx.MockTransport(self), lambda seconds: None)


class Answering(httpx.SyncByteStream):
    """Tells an event once the follower rests: it looked before it listened, as it began to, and when it was heard."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __iter__(self) -> Iterator[bytes]:
        self._server.until_looked(3)
        yield b'event: finished\ndata: {"x": 1}\nid: 1\n\n'
        self._server.until_looked(4)


class Ending(Server):
    """Ends its stream while it answers the first look that is beside the stream, at which all is not done yet."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        super().__init__(status(0), status(2), status(3), streams=[Body(until=self._ended), NONE])

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.looks == 1 and request.url.path.startswith("/status"):
            self._ended.set()
            while len(self.listened) < 2:  # the follower has noticed the end once it listens again
                time.sleep(0.001)
        return super().__call__(request)


def completed(server: Server, said: list[str]) -> list[int]:
    """Follow to the end and return how many batches were completed at each step."""
    return [step.answer.content.progress.completed for step in follow_ingestion(server.client, ID, said.append)]


def test_what_is_completed_already_is_told_once_and_no_stream_is_asked_for() -> None:
    server = Server(status(3))

    assert completed(server, []) == [3]
    assert not server.listened


def test_without_a_stream_it_looks_by_itself_and_says_so_once() -> None:
    said: list[str] = []

    steps = completed(Server(status(0), status(0), *[status(1)] * 20, status(2), status(3)), said)

    assert steps[0] == 0
    assert steps[-1] == 3
    assert said == [NO_STREAM]


def test_an_event_has_it_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL", 60.0)
    monkeypatch.setattr(follow, "REFRESH", 60.0)
    server = Server(status(0), status(0), status(0), status(3))
    server.streams = [Answering(server)]
    said: list[str] = []

    steps = list(follow_ingestion(server.client, ID, said.append))

    assert [step.answer.content.progress.completed for step in steps] == [0, 0, 3]
    assert [event for step in steps for event in step.events] == [Event("finished", '{"x": 1}')]
    assert not said


def test_a_stream_that_ends_with_the_ingestion_is_not_called_missing() -> None:
    said: list[str] = []

    assert completed(Ending(), said) == [2, 3]
    assert said == []


def test_a_server_that_is_away_for_a_while_is_waited_for() -> None:
    said: list[str] = []
    away = httpx.ConnectError("refused")

    steps = completed(Server(status(0), status(1), *[away] * 12, status(2), status(3)), said)

    assert steps[-2:] == [2, 3]
    assert said.count(AWAY) == 1


def test_a_server_that_is_away_for_too_long_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PATIENCE", 0.0)

    with pytest.raises(UnreachableError):
        completed(Server(status(0), status(1), httpx.ConnectError("refused")), [])


def test_an_ingestion_that_a_server_forgot_is_unknown() -> None:
    with pytest.raises(UsageError, match="No ingestion"):
        completed(Server(status(0), status(1), httpx.Response(404, json={"detail": "No ingestion"})), [])


def test_a_stream_that_breaks_off_goes_on_after_the_last_event() -> None:
    ended = threading.Event()
    first = Body(b"event: started\ndata: 1\nid: e-1\n\n: ping\n\n")
    second = Body("event: finished\ndata: a\u2028b\nid: e-2\n\n".encode(), until=ended)
    server = Server(status(0), streams=[first, NONE, second])
    listener = Listener(server.client.http, "/events", {"lane": "maps"})

    events: list[Event] = []
    while len(events) < 2:
        events += listener.wait(5)

    assert events == [Event("started", "1"), Event("finished", "a\u2028b")]
    assert listener.is_connected
    assert listener.has_failed
    assert [request.headers.get("Last-Event-ID") for request in server.listened] == [None, "e-1", "e-1"]
    assert {request.url.params["lane"] for request in server.listened} == {"maps"}
    listener.close()
    ended.set()


def test_a_page_in_place_of_a_stream_is_no_stream() -> None:
    listener = Listener(Server(status(0), streams=[httpx.Response(200, text="<html>")]).client.http, "/events")

    while not listener.has_failed:
        assert listener.wait(5) == []
    listener.close()
