"""Asking beforehand: `POST /forecast`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sluice.models import MAX_ID
from sluice.settings import Settings
from sluice.upstream import UpstreamUnavailable
from tests.api import (
    BACKENDS,
    DURABLE,
    JSON,
    ManualClock,
    ScriptedUpstream,
    Service,
    assert_problem,
    serving,
    settings_for,
    utc,
)
from tests.api_steps import work
from tests.lanes import Both, lanes_settings, serving_both

PRIORITIES = ["HIGH", "MEDIUM", "LOW"]
NO_LANE = "There is no such lane; there are: default, maps"


@pytest.fixture(params=BACKENDS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    """A service with a second lane."""
    with serving_both(lanes_settings(request.param, tmp_path)) as both:
        yield both


def asked(service: Service, **body: Any) -> dict[str, Any]:
    response = service.client.post("/forecast", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def forecast(position: int, start: float | None, completion: float | None) -> dict[str, Any]:
    return {
        "position": position,
        "expected_start": None if start is None else utc(start),
        "expected_completion": None if completion is None else utc(completion),
    }


# Asking beforehand


def test_forecast_tells_for_every_priority_how_many_are_ahead_and_when_it_would_run(service: Service) -> None:
    service.submit([1, 2, 3, 4], "LOW")
    service.until_running([1, 2, 3])
    service.submit([5] * 7, "HIGH")
    service.advance(2)

    assert asked(service, count=7) == {
        "lane": "default",
        "total_ids": 7,
        "total_batches": 3,
        "forecasts": {
            "HIGH": forecast(3, 20, 30),
            "MEDIUM": forecast(3, 20, 30),
            "LOW": forecast(4, 25, 35),
        },
    }


def test_forecast_of_ids_is_that_of_their_count(service: Service) -> None:
    service.submit([1, 2, 3, 4, 5])
    service.until_running([1, 2, 3])

    answer = asked(service, ids=[7, 7, MAX_ID, 1], priority="LOW", lane="default")

    assert answer == asked(service, count=4)
    assert (answer["total_ids"], answer["total_batches"]) == (4, 2)


def test_forecast_accepts_nothing(service: Service, upstream: ScriptedUpstream) -> None:
    before = service.get("/queue")

    asked(service, ids=[5, 6, 7], priority="HIGH")
    asked(service, count=1000)

    assert service.get("/queue") == before
    assert service.get("/ingestions")["ingestions"] == []
    work(service, 2)
    assert upstream.batches == []


@pytest.mark.parametrize("priority", PRIORITIES)
def test_forecast_is_what_the_status_says_once_it_is_submitted_and_what_then_happens(
    service: Service, upstream: ScriptedUpstream, priority: str
) -> None:
    service.submit([1] * 4, "MEDIUM")
    service.until_running([1, 1, 1])
    for each in PRIORITIES:
        service.submit([5] * 4, each)
    service.advance(1)

    expected = asked(service, count=5)["forecasts"][priority]
    ingestion_id = service.submit([7] * 5, priority)

    status = service.status(ingestion_id)
    assert {name: status[name] for name in expected} == expected
    service.call(upstream.release)
    service.advance(4)
    while service.status(ingestion_id)["status"] != "completed":
        service.advance(5)
    slots = [slot for slot in service.get("/slots?past=100")["past"] if slot["ingestion_id"] == ingestion_id]
    assert slots[0]["started_at"] == expected["expected_start"]
    assert slots[-1]["finished_at"] == expected["expected_completion"] == service.status(ingestion_id)["finished_time"]


def test_forecast_waits_for_the_end_of_a_hold(service: Service, upstream: ScriptedUpstream) -> None:
    upstream.answer = lambda item: UpstreamUnavailable("answered 503", retry_after=30)
    service.submit([2], "HIGH")
    service.until(lambda: service.get("/queue")["hold"])

    answer = asked(service, count=3)["forecasts"]

    assert answer == {"HIGH": forecast(1, 35, 35), "MEDIUM": forecast(1, 35, 35), "LOW": forecast(1, 35, 35)}


def test_forecast_of_a_paused_lane_tells_what_is_ahead_but_not_when_it_runs(service: Service) -> None:
    service.client.post("/queue/pause")
    service.submit([2, 3, 4, 5], "MEDIUM")

    answer = asked(service, count=9)["forecasts"]

    assert answer == {
        "HIGH": forecast(0, None, None),
        "MEDIUM": forecast(2, None, None),
        "LOW": forecast(2, None, None),
    }


def test_forecast_past_the_last_time_that_can_be_written_is_that_time() -> None:
    with serving(Settings(batch_interval=1e9, batch_size=1, shutdown_grace=0)) as service:
        assert asked(service, count=1000)["forecasts"]["LOW"]["expected_completion"].startswith("9999-12-31T23:59:59")


@pytest.mark.parametrize("backend", DURABLE)
def test_forecast_counts_what_was_accepted_before_a_restart(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path)
    with serving(settings) as service:
        service.client.post("/queue/pause")
        for _ in range(3):
            service.submit([2], "MEDIUM")

    with serving(settings, clock=ManualClock(10)) as service:
        service.submit([2], "MEDIUM")

        assert [each["position"] for each in asked(service, count=1)["forecasts"].values()] == [0, 4, 4]


def test_each_lane_has_forecasts_of_its_own_pace_and_batch_size(both: Both) -> None:
    service = both.service
    service.submit([1] * 9)
    service.submit([101] * 4, lane="maps")
    service.until_running([1, 1, 1])
    service.until_running([101, 101], lane="maps")

    maps, default = asked(service, count=5, lane="maps"), asked(service, count=5)

    assert (maps["lane"], maps["total_batches"]) == ("maps", 3)
    assert maps["forecasts"]["LOW"] == forecast(1, 4, 8)
    assert (default["lane"], default["total_batches"]) == ("default", 2)
    assert default["forecasts"]["LOW"] == forecast(2, 15, 20)


# Asking wrongly


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ({}, "ids", "Give the ids, or just their count"),
        ({"priority": "LOW"}, "ids", "Give the ids, or just their count"),
        ({"count": None}, "ids", "Give the ids, or just their count"),
        ({"ids": [1], "count": 1}, "count", "Give either ids or their count, not both"),
        ({"count": 0}, "count", "greater than or equal to 1"),
        ({"count": -1}, "count", "greater than or equal to 1"),
        ({"count": 10_001}, "count", "less than or equal to 10000"),
        ({"count": 10**30}, "count", "less than or equal to 10000"),
        ({"count": 3.0}, "count", "valid integer"),
        ({"count": "3"}, "count", "valid integer"),
        ({"count": True}, "count", "valid integer"),
        ({"count": [3]}, "count", "valid integer"),
        ({"ids": []}, "ids", "at least 1 item"),
        ({"ids": 3}, "ids", "valid array"),
        ({"ids": [1, 0]}, "ids[1]", "greater than or equal to 1"),
        ({"ids": [MAX_ID + 1]}, "ids[0]", f"less than or equal to {MAX_ID}"),
        ({"ids": [1, "2"]}, "ids[1]", "valid integer"),
        ({"ids": [1] * 10_001}, "ids", "at most 10000 items"),
        ({"count": 1, "priority": "URGENT"}, "priority", "'HIGH', 'MEDIUM' or 'LOW'"),
        ({"count": 1, "lane": 7}, "lane", "valid string"),
        ({"count": 1, "lane": "other"}, "lane", "There is no such lane; there are: default"),
        ({"count": 1, "cuont": 1}, "cuont", "not permitted"),
    ],
)
def test_bad_question_is_a_422_that_names_the_field(
    client: TestClient, body: dict[str, Any], field: str, detail: str
) -> None:
    problem = assert_problem(client.post("/forecast", json=body), 422, f"{field}: ")

    assert [error["field"] for error in problem["errors"]] == [field]
    assert detail in problem["errors"][0]["detail"]


def test_list_with_very_many_bad_ids_is_refused_for_the_first_of_them(client: TestClient) -> None:
    problem = assert_problem(client.post("/forecast", json={"ids": [0] * 10_000}), 422, "ids[0]: ")

    assert len(problem["errors"]) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"count=3", b'{"count": 3'])
def test_question_that_is_not_json_is_a_400(client: TestClient, body: bytes) -> None:
    assert_problem(client.post("/forecast", content=body, headers=JSON), 400, "not JSON")


@pytest.mark.parametrize("body", [b"[]", b"3", b"null"])
def test_question_that_is_no_object_is_a_422(client: TestClient, body: bytes) -> None:
    assert_problem(client.post("/forecast", content=body, headers=JSON), 422, "body: ")


def test_question_of_more_bytes_than_a_body_may_have_is_a_413(client: TestClient) -> None:
    assert_problem(client.post("/forecast", content=b" " * 100_001, headers=JSON), 413, "100000 bytes")


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {}])
def test_question_of_another_media_type_is_a_415(client: TestClient, headers: dict[str, str]) -> None:
    assert_problem(client.post("/forecast", content=b'{"count": 3}', headers=headers), 415, "Content-Type")


def test_longest_list_and_highest_count_are_answered(client: TestClient) -> None:
    by_ids = client.post("/forecast", json={"ids": [1] * 10_000}).json()

    assert by_ids["total_batches"] == 3334
    assert by_ids == client.post("/forecast", json={"count": 10_000}).json()


def test_question_about_an_unknown_lane_is_a_422_that_lists_those_there_are(both: Both) -> None:
    for lane in ("other", "", "Maps"):
        problem = assert_problem(both.service.client.post("/forecast", json={"count": 1, "lane": lane}), 422, "lane: ")

        assert problem["errors"] == [{"field": "lane", "detail": NO_LANE}]
