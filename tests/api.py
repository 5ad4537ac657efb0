"""The whole service under a test client, with a clock and an upstream that do as they are told."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.app import create_app
from sluice.events import Accepted, Event
from sluice.ingestion import Batch
from sluice.journal import Journal, JournalError
from sluice.lane import Lane
from sluice.lanes import Lanes
from sluice.models import DEFAULT_LANE
from sluice.settings import Settings
from sluice.upstream import Upstream
from tests.shared_database import fresh_database, set_clock
from tests.virtual import EPOCH

DURABLE = ["sqlite", "postgres"]
BACKENDS = ["memory", *DURABLE]
JSON = {"Content-Type": "application/json"}
BOOT = 100.0  # what the monotonic clock says at EPOCH
INTERVAL = 5.0
PATIENCE = 60.0  # seconds that a test waits for what must come, at most

T = TypeVar("T")


class ManualClock:
    """Time stands still until it is told to pass."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.origin = "boot"
        self.passed = seconds
        self._moved = asyncio.Event()
        self._set_database: Callable[[float], object] = lambda time: None

    def set_too(self, set_database: Callable[[float], object]) -> None:
        """Have the clock of a database set whenever this one is, and now."""
        self._set_database = set_database
        set_database(self.time())

    def now(self) -> float:
        return BOOT + self.passed

    def time(self) -> float:
        return EPOCH + self.passed

    async def sleep_until(self, at: float) -> None:
        while self.now() < at:
            await self._moved.wait()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; only from within the loop."""
        self.passed += seconds
        self._set_database(self.time())
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class ScriptedUpstream:
    """Answers every ID as `answer` says, at once, but for batches with an ID in `hanging`, which wait for `release`."""

    def __init__(self, answer: Callable[[int], object] | None = None, hanging: Sequence[int] = ()) -> None:
        self.batches: list[list[int]] = []
        self.answer = answer or (lambda item: {"id": item, "data": "processed"})
        self._hanging = frozenset(hanging)
        self._released = asyncio.Event()

    async def process(self, batch: Batch) -> list[object]:
        self.batches.append(batch.ids)
        if self._hanging.intersection(batch.ids):
            await self._released.wait()
        return [self.answer(item) for item in batch.ids]

    def release(self) -> None:
        """Let the batches that hang go on; only from within the loop."""
        self._released.set()


class Wiretap:
    """An ASGI app that notes every piece in which the app behind it sends results."""

    def __init__(self, app: ASGIApp) -> None:
        self.pieces: list[bytes] = []
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if scope.get("path", "").startswith("/results/") and (piece := message.get("body")):
                self.pieces.append(piece)
            await send(message)

        await self._app(scope, receive, note)


class Service:
    """A started service: its client, and what it was started with."""

    def __init__(self, client: TestClient, clock: ManualClock, wiretap: Wiretap, thread: Executor) -> None:
        self.client = client
        self._thread = thread
        self.clock = clock
        self.wiretap = wiretap

    @property
    def lanes(self) -> Lanes:
        lanes: Lanes = self.client.app_state["lanes"]
        return lanes

    @property
    def lane(self) -> Lane:
        return self.lanes[DEFAULT_LANE]

    def call(self, act: Callable[..., object], *arguments: object) -> None:
        """Call something within the service's loop."""
        assert self.client.portal
        self.client.portal.call(act, *arguments)

    def advance(self, seconds: float) -> None:
        """Let time pass, and what follows from that happen."""
        self.call(self.clock.advance, seconds)
        deadline = time.monotonic() + PATIENCE
        rests = 0
        while rests < 2:
            assert time.monotonic() < deadline, "it never rests"
            self.call(asyncio.sleep, 0.01)
            rests = rests + 1 if all(map(self._rests, self.lanes.values())) else 0

    def _rests(self, lane: Lane) -> bool:
        """Return whether nothing is about to happen."""
        return lane._decisions._taking is None and not self._may_start(lane)

    def _may_start(self, lane: Lane) -> bool:
        now = self.clock.now()
        return lane.running is None and lane.next_start(now) <= now

    def submit(self, ids: Sequence[int], priority: str = "MEDIUM", lane: str | None = None) -> str:
        body = {"ids": list(ids), "priority": priority} | ({"lane": lane} if lane else {})
        response = self.client.post("/ingest", json=body)
        assert response.status_code == 200, response.text
        # What may start at once has, so that whatever is asked next has one answer.
        self.until(lambda: all(not self._may_start(each) for each in self.lanes.values()))
        return str(response.json()["ingestion_id"])

    def get(self, path: str) -> dict[str, Any]:
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def status(self, ingestion_id: str) -> dict[str, Any]:
        return self.get(f"/status/{ingestion_id}")

    def batch_statuses(self, ingestion_id: str) -> list[str]:
        return [batch["status"] for batch in self.status(ingestion_id)["batches"]]

    def results(self, ingestion_id: str) -> list[dict[str, Any]]:
        response = self.client.get(f"/results/{ingestion_id}")
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.splitlines()]

    def aside(self, act: Callable[[], T]) -> "Future[T]":
        """Do something that takes a while, a request that is not answered soon, beside the test."""
        return self._thread.submit(act)

    def until(self, is_so: Callable[[], object]) -> None:
        """Wait for what follows without time passing, or fail."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.001)

    def until_completed(self, *ingestion_ids: str) -> None:
        for ingestion_id in ingestion_ids:
            self.until(partial(self._is_completed, ingestion_id))

    def _is_completed(self, ingestion_id: str) -> bool:
        return bool(self.status(ingestion_id)["status"] == "completed")

    def until_running(self, ids: list[int], lane: str = DEFAULT_LANE) -> None:
        self.until(lambda: (self.get(f"/queue?lane={lane}")["running"] or {}).get("ids") == ids)


@contextmanager
def serving(
    settings: Settings,
    upstream: Upstream | Mapping[str, Upstream] | None = None,
    clock: ManualClock | None = None,
    *,
    simulated: bool = False,
) -> Iterator[Service]:
    """Start the service and stop it at the end of the block.

    By default there is an upstream that answers at once; there can be one for each lane.
    """
    clock = clock or ManualClock()
    if settings.is_shared and settings.database_url:
        clock.set_too(partial(set_clock, settings.database_url))
    chosen = None if simulated else upstream or ScriptedUpstream()
    wiretap = Wiretap(create_app(settings, chosen, clock))
    with ThreadPoolExecutor(4) as thread, TestClient(wiretap) as client:
        service = Service(client, clock, wiretap, thread)
        try:
            yield service
        finally:
            service.call(service.lanes.close)  # else a failed test could leave one that follows for ever


def settings_for(backend: str, folder: Path, **settings: Any) -> Settings:
    """Return settings for a backend, with no grace for what hangs at the end of a test."""
    url = {"memory": lambda: None, "sqlite": lambda: f"sqlite:///{folder}/x.db", "postgres": fresh_database}[backend]()
    return Settings(**{"database_url": url, "shutdown_grace": 0, "batch_interval": INTERVAL, **settings})


def utc(seconds: float) -> str:
    """Return the time `seconds` after the service was started, as the API words it."""
    time_ = datetime.fromtimestamp(EPOCH + seconds, UTC)
    return time_.isoformat().replace("+00:00", "Z")


class FailingJournal:
    """An `append` that fails for whatever there is to remember, for as long as `is_broken`."""

    def __init__(self, append: Callable[..., Any]) -> None:
        self.is_broken = True
        self._append = append

    async def __call__(self, events: Sequence[Event]) -> None:
        self.look(events)
        await self._append(events)

    def look(self, events: Sequence[Event]) -> None:
        """Fail, if these events cannot be remembered."""
        if events and self.is_broken:
            raise JournalError("the journal cannot be written: disk full")


class BlockedJournal:
    """An `append` that takes no ingestion until it is opened."""

    def __init__(self, append: Callable[..., Any]) -> None:
        self.is_reached = threading.Event()
        self.opened = asyncio.Event()
        self._append = append

    async def __call__(self, events: Sequence[Event]) -> None:
        if any(isinstance(event, Accepted) for event in events):
            self.is_reached.set()
            await self.opened.wait()
        await self._append(events)

    def look(self, events: Sequence[Event]) -> None:
        """Let pass what is decided."""


class Tap(Protocol):
    """What stands in the way to a journal."""

    async def __call__(self, events: Sequence[Event]) -> None: ...

    def look(self, events: Sequence[Event]) -> None:
        """See what is decided, before it is appended."""


def divert(journal: Journal, append: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all that is appended to a journal go through `append`, and have it see what is decided as well."""
    original = journal.decide

    async def decide(propose: Callable[[], Sequence[Event]]) -> None:
        def propose_seen() -> Sequence[Event]:
            events = propose()
            append.look(events)
            return events

        await original(propose_seen)

    monkeypatch.setattr(journal, "append", append)
    monkeypatch.setattr(journal, "decide", decide)


class Answer(Protocol):
    """What the test client answers, as far as it is looked at here."""

    status_code: int

    @property
    def headers(self) -> Mapping[str, str]: ...
    def json(self) -> Any: ...


def assert_problem(response: Answer, status: int, detail: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= body.keys() <= {"type", "title", "status", "detail", "errors"}
    assert body["status"] == status
    assert detail in body["detail"]
    return body
