"""Whether the process lives, and whether it can accept work."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice.journal.sqlite import SqliteFile
from tests.api import JSON, ScriptedUpstream, Service, assert_problem, serving, settings_for
from tests.shared_database import away

OK = {"status": "ok"}
ROUTES = ["/healthz", "/readyz"]
BODY = b'{"ids": [2], "priority": "LOW"}'


def status(service: Service, path: str) -> int:
    return service.client.get(path).status_code


@pytest.mark.parametrize("path", ROUTES)
def test_service_that_runs_is_alive_and_ready(service: Service, path: str) -> None:
    response = service.client.get(path)

    assert response.status_code == 200
    assert response.json() == OK


def test_work_that_hangs_waits_or_is_paused_makes_it_no_less_ready(service: Service) -> None:
    service.submit([1])
    service.until_running([1])
    service.submit([2])
    service.client.post("/queue/pause")

    assert [service.get(path) for path in ROUTES] == [OK, OK]


def test_service_that_stops_is_alive_and_no_longer_ready(service: Service) -> None:
    service.call(service.lanes.close)

    response = service.client.get("/readyz")

    assert_problem(response, 503, "The server is stopping.")
    assert service.get("/healthz") == OK


@pytest.mark.parametrize("path", ROUTES)
def test_other_methods_are_a_405(service: Service, path: str) -> None:
    response = service.client.post(path)

    assert_problem(response, 405, "POST")
    assert response.headers["allow"] == "GET"


def test_while_its_database_is_away_it_accepts_nothing_and_is_alive_and_what_is_known_is_told(tmp_path: Path) -> None:
    settings = settings_for("postgres", tmp_path)
    assert settings.database_url
    with serving(settings, ScriptedUpstream(hanging=[1])) as service:
        ingestion_id = service.submit([1, 2, 3, 4])
        service.until_running([1, 2, 3])
        before = service.status(ingestion_id), service.get("/queue"), service.get("/ingestions")

        with away(settings.database_url):
            service.until(lambda: status(service, "/readyz") == 503)
            unready = service.client.get("/readyz")
            refused = [
                service.client.post("/ingest", content=BODY, headers=JSON),
                service.client.delete(f"/ingestions/{ingestion_id}"),
                service.client.post("/queue/pause"),
            ]
            meanwhile = service.status(ingestion_id), service.get("/queue"), service.get("/ingestions")
            alive = service.get("/healthz")

        assert_problem(unready, 503, "Nothing can be recorded now; the log says why.")
        for response in refused:
            assert_problem(response, 503, "Nothing can be recorded now; the log says why.")
            assert int(response.headers["retry-after"]) > 0
        assert (meanwhile, alive) == (before, OK)
        service.until(lambda: status(service, "/readyz") == 200)
        service.submit([2])


def test_database_that_is_away_costs_nothing_that_was_accepted_and_work_goes_on_after_it(tmp_path: Path) -> None:
    settings, upstream = settings_for("postgres", tmp_path, batch_interval=0), ScriptedUpstream(hanging=[1])
    assert settings.database_url
    with serving(settings, upstream) as service:
        running, waiting = service.submit([1]), service.submit([2])
        service.until_running([1])

        with away(settings.database_url):
            service.until(lambda: status(service, "/readyz") == 503)
            service.call(upstream.release)

        service.until(lambda: status(service, "/readyz") == 200)
        service.advance(2)  # a record that failed is made anew a second later
        service.until_completed(running, waiting)
        assert [line["id"] for each in (running, waiting) for line in service.results(each)] == [1, 2]


def test_while_its_file_cannot_be_written_it_is_not_ready_and_it_is_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = True
    execute = SqliteFile._transaction

    @contextmanager
    def transaction(file: SqliteFile) -> Iterator[None]:
        with execute(file):
            yield
            if is_full:
                raise sqlite3.OperationalError("database or disk is full")

    with serving(settings_for("sqlite", tmp_path)) as service:
        untroubled = status(service, "/readyz")
        monkeypatch.setattr(SqliteFile, "_transaction", transaction)
        unnoticed = status(service, "/readyz")
        refused = service.client.post("/ingest", content=BODY, headers=JSON)
        unready, ready = service.client.get("/readyz"), "sluice_ready 1.0" in service.client.get("/metrics").text
        alive = service.get("/healthz")
        is_full = False

        assert (untroubled, unnoticed, ready, alive) == (200, 200, False, OK)
        assert_problem(refused, 503, "Nothing can be recorded now; the log says why.")
        assert "disk" not in refused.text
        assert_problem(unready, 503, "Nothing can be recorded now; the log says why.")
        assert status(service, "/readyz") == 200
        assert "sluice_ready 1.0" in service.client.get("/metrics").text
        service.submit([2])
