"""Forgetting what was finished long ago: when, and how little at a time."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from sluice.app import create_app
from sluice.events import Event, Expired, Outcome
from sluice.retention import AT_ONCE
from sluice.settings import Settings
from sluice.upstream import UpstreamError
from tests.api import (
    BACKENDS,
    DURABLE,
    PATIENCE,
    FailingJournal,
    ManualClock,
    ScriptedUpstream,
    Service,
    assert_problem,
    divert,
    serving,
    settings_for,
)
from tests.journals import Book, opened_journal, rows
from tests.sqlite import Run

RETENTION = 1000.0
REST = 10.0  # seconds from one look at what is due to the next


def answer(item: int) -> object:
    return UpstreamError("ID 400: answered 404") if item == 400 else item


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_for(request.param, tmp_path, batch_interval=0, retention=RETENTION)


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with serving(settings, ScriptedUpstream(answer, hanging=[1])) as service:
        yield service


class CountingJournal:
    """An `append` that notes how many ingestions it was told at once to forget."""

    def __init__(self, append: Callable[..., Any]) -> None:
        self.expired: list[int] = []
        self._append = append

    async def __call__(self, events: Sequence[Event]) -> None:
        await self._append(events)

    def look(self, events: Sequence[Event]) -> None:
        """Count what is decided to be forgotten."""
        if count := sum(isinstance(event, Expired) for event in events):
            self.expired.append(count)


# When


def test_finished_ingestion_is_forgotten_after_the_retention_and_not_before(service: Service) -> None:
    ingestion_id = service.submit([5, 400])
    service.until_completed(ingestion_id)

    service.advance(RETENTION - 1)
    assert service.status(ingestion_id)["status"] == "completed"
    assert len(service.results(ingestion_id)) == 2
    service.advance(1 + REST)
    service.until(lambda: service.client.get(f"/status/{ingestion_id}").status_code == 404)

    for response in (
        service.client.get(f"/status/{ingestion_id}"),
        service.client.get(f"/results/{ingestion_id}"),
        service.client.delete(f"/ingestions/{ingestion_id}"),
        service.client.post(f"/ingestions/{ingestion_id}/retry"),
    ):
        assert_problem(response, 404, "unknown or expired")
    assert service.get("/ingestions") == {"ingestions": [], "next_cursor": None}


def test_cancelled_ingestion_is_forgotten_too(service: Service) -> None:
    service.client.post("/queue/pause")
    ingestion_id = service.submit([5])
    service.client.delete(f"/ingestions/{ingestion_id}")

    service.advance(RETENTION + REST)

    service.until(lambda: service.client.get(f"/status/{ingestion_id}").status_code == 404)


def test_running_and_waiting_ingestions_stay_however_old(service: Service) -> None:
    running, waiting = service.submit([1]), service.submit([2])
    service.until_running([1])

    for _ in range(5):
        service.advance(RETENTION)

    assert service.status(running)["status"] == "triggered"
    assert service.status(waiting)["status"] == "yet_to_start"


def test_retention_counts_from_the_end_and_not_from_the_submission(service: Service) -> None:
    service.client.post("/queue/pause")
    ingestion_id = service.submit([5])
    service.advance(RETENTION)
    service.client.post("/queue/resume")
    service.until_completed(ingestion_id)

    service.advance(RETENTION - 1)
    assert service.status(ingestion_id)["status"] == "completed"
    service.advance(1 + REST)

    service.until(lambda: not service.lane.ingestions)


def test_ingestion_tried_again_is_kept_from_its_new_end(service: Service) -> None:
    ingestion_id = service.submit([400])
    service.until_completed(ingestion_id)
    service.advance(RETENTION - 1)
    service.client.post(f"/ingestions/{ingestion_id}/retry")
    service.until_completed(ingestion_id)

    service.advance(RETENTION - 1)
    assert service.status(ingestion_id)["status"] == "completed"
    service.advance(1 + REST)

    service.until(lambda: not service.lane.ingestions)


def test_position_of_others_does_not_change_when_an_ingestion_is_forgotten(service: Service) -> None:
    done = service.submit([5])
    service.until_completed(done)
    service.submit([1])
    service.until_running([1])
    waiting = [service.submit([2, 2, 2, 2]), service.submit([3])]

    service.advance(RETENTION + REST)
    service.until(lambda: done not in service.lane.ingestions)

    assert [service.status(each)["position"] for each in waiting] == [0, 2]


@pytest.mark.parametrize("backend", DURABLE)
def test_age_survives_a_restart(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, batch_interval=0, retention=RETENTION)
    with serving(settings) as service:
        old = service.submit([5])
        service.until_completed(old)
        service.advance(RETENTION / 2)
        young = service.submit([6])
        service.until_completed(young)

    with serving(settings, clock=ManualClock(RETENTION + 1)) as service:
        service.until(lambda: service.client.get(f"/status/{old}").status_code == 404)
        assert service.status(young)["status"] == "completed"

    with serving(settings, clock=ManualClock(RETENTION + 2)) as service:
        assert_problem(service.client.get(f"/results/{old}"), 404, "unknown or expired")


@pytest.mark.parametrize(("backend", "days"), [("memory", 1), ("sqlite", 7), ("postgres", 7)])
def test_default_retention_is_a_day_or_with_a_database_a_week(backend: str, days: int, tmp_path: Path) -> None:
    assert settings_for(backend, tmp_path).retention_seconds == days * 86_400


# A little at a time


def test_ingestions_are_forgotten_a_few_at_a_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.until_completed(*[service.submit([2]) for _ in range(2 * AT_ONCE + 5)])
    journal = CountingJournal(service.lane.journal.append)
    divert(service.lane.journal, journal, monkeypatch)

    service.advance(RETENTION + REST)
    service.until(lambda: not service.lane.ingestions)

    assert journal.expired == [AT_ONCE, AT_ONCE, 5]


def test_results_are_removed_a_thousand_at_a_time_at_most_and_leave_nothing(settings: Settings, run: Run) -> None:
    length = 4500

    with opened_journal(settings, run) as journal:
        book = Book(journal, run)
        job = book.accept(length)
        book.finish(job, *(Outcome(position, 1, data=b"1") for position in range(length)))
        book.append(Expired(job))
        assert book.results(job) == []
        assert book.sweep() >= length / 1000

    if settings.database_url:
        for table in ("ingestions", "results", "waiting", "expired", *(["ids"] if settings.database_path else [])):
            assert rows(settings, f"SELECT count(*) FROM {table}") == [(0,)]


# When the journal is in the way


def test_what_could_not_be_forgotten_is_once_the_journal_can_be_written_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.until_completed(*[service.submit([2]) for _ in range(3)])
    journal = FailingJournal(service.lane.journal.append)
    divert(service.lane.journal, journal, monkeypatch)

    service.advance(RETENTION + REST)
    assert len(service.lane.ingestions) == 3
    journal.is_broken = False
    service.advance(REST)

    service.until(lambda: not service.lane.ingestions)


def test_retry_that_comes_as_the_ingestion_is_forgotten_is_a_404_and_the_service_goes_on(settings: Settings) -> None:
    async def race() -> tuple[httpx.Response, httpx.Response]:
        clock = ManualClock()
        app = create_app(settings, ScriptedUpstream(answer), clock)
        async with app.router.lifespan_context(app) as state:

            async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
                await app({**scope, "state": dict(state or {})}, receive, send)

            lane = dict(state or {})["lanes"]["default"]
            transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                body = {"ids": [400], "priority": "LOW"}
                ingestion_id = (await client.post("/ingest", json=body)).json()["ingestion_id"]
                while not lane.ingestions[ingestion_id].is_done:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                _, retried = await asyncio.gather(
                    lane.decide(lambda: [Expired(ingestion_id)]), client.post(f"/ingestions/{ingestion_id}/retry")
                )
                return retried, await client.post("/ingest", json=body)

    retried, later = asyncio.run(asyncio.wait_for(race(), PATIENCE))

    assert later.status_code == 200
    assert_problem(retried, 404, "unknown or expired")
