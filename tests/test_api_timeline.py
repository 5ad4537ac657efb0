"""The slots that went by and those to come: `GET /slots`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api import (
    BACKENDS,
    DURABLE,
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

NO_LANE = "There is no such lane; there are: default, maps"


@pytest.fixture(params=BACKENDS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    """A service with a second lane."""
    with serving_both(lanes_settings(request.param, tmp_path)) as both:
        yield both


def ids_of(slots: list[dict[str, Any]]) -> list[list[int]]:
    return [slot["ids"] for slot in slots]


def test_timeline_of_a_lane_without_work_is_empty(service: Service) -> None:
    assert service.get("/slots") == {
        "lane": "default",
        "lanes": ["default"],
        "interval": 5.0,
        "batch_size": 3,
        "utilisation": None,
        "past": [],
        "coming": [],
    }


def test_timeline_tells_what_runs_and_what_comes_with_their_batches(service: Service) -> None:
    job = service.submit([1, 2, 3, 4], "LOW")
    service.until_running([1, 2, 3])
    service.advance(2)

    body = service.get("/slots")

    first, second = (batch["batch_id"] for batch in service.status(job)["batches"])
    about = {"ingestion_id": job, "priority": "LOW", "is_retry": False}
    counts = {"completed": 0, "failed": 0, "retrying": 0}
    assert body["past"] == [
        {**about, "batch_ids": [first], "ids": [1, 2, 3], "started_at": utc(0), "finished_at": None, **counts}
    ]
    assert body["coming"] == [{**about, "batch_ids": [second], "ids": [4], "expected_start": utc(5)}]


def test_slots_that_went_by_count_failures_and_retries_and_the_running_one_is_the_last(
    service: Service, upstream: ScriptedUpstream
) -> None:
    job = service.submit([400, 500, 2, 500, 5], "MEDIUM")
    service.until(lambda: upstream.batches == [[400, 500, 2]])
    work(service, 4)
    service.submit([1], "HIGH")
    service.advance(6)
    service.until_running([1])

    body = service.get("/slots")

    counts = [
        (slot["ids"], slot["is_retry"], slot["completed"], slot["failed"], slot["retrying"]) for slot in body["past"]
    ]
    assert counts == [
        ([400, 500, 2], False, 1, 1, 1),
        ([500], True, 0, 0, 1),
        ([500], True, 0, 1, 0),
        ([500, 5], False, 1, 0, 1),
        ([500], True, 0, 0, 1),
        ([1], False, 0, 0, 0),
    ]
    assert [slot["started_at"] for slot in body["past"]] == [utc(seconds) for seconds in (0, 5, 10, 15, 20, 26)]
    assert [slot["finished_at"] for slot in body["past"]] == [*(utc(5 * number) for number in range(5)), None]
    assert [
        (slot["ingestion_id"], slot["ids"], slot["is_retry"], slot["expected_start"]) for slot in body["coming"]
    ] == [(job, [500], True, utc(31))]


def test_coming_slots_are_those_that_then_start_also_after_a_high_job_jumped_ahead(service: Service) -> None:
    service.submit([2, 3, 4, 5, 6, 7, 8], "MEDIUM")
    service.submit([500, 9], "LOW")
    service.until(lambda: len(service.get("/slots")["past"]) == 1)
    service.advance(1)
    assert ids_of(service.get("/slots")["coming"]) == [[5, 6, 7], [8], [500, 9]]

    service.submit([11, 12, 13, 14], "HIGH")
    coming = service.get("/slots")["coming"]
    service.advance(4)
    work(service, 4)

    assert ids_of(coming) == [[11, 12, 13], [14], [5, 6, 7], [8], [500, 9]]
    started = [slot | {"expected_start": slot["started_at"]} for slot in service.get("/slots")["past"][1:]]
    assert [{name: slot[name] for name in coming[0]} for slot in started] == coming


def test_coming_slots_of_a_paused_lane_have_no_time(service: Service) -> None:
    service.client.post("/queue/pause")
    service.submit([2, 3, 4, 5], "MEDIUM")

    coming = service.get("/slots")["coming"]

    assert [(slot["ids"], slot["expected_start"]) for slot in coming] == [([2, 3, 4], None), ([5], None)]


def test_cancelled_and_moved_ingestions_come_where_they_are_now(service: Service) -> None:
    service.client.post("/queue/pause")
    jobs = [service.submit([number], "MEDIUM") for number in (2, 3, 4)]

    service.client.delete(f"/ingestions/{jobs[0]}")
    service.client.patch(f"/ingestions/{jobs[2]}", json={"priority": "HIGH"})

    coming = service.get("/slots")["coming"]
    assert [(slot["ids"], slot["priority"]) for slot in coming] == [([4], "HIGH"), ([3], "MEDIUM")]


def test_twenty_slots_are_shown_each_way_or_as_many_as_is_asked_for(hurried: Service) -> None:
    hurried.until_completed(hurried.submit([2] * 3 * 110))
    hurried.client.post("/queue/pause")
    hurried.submit([3] * 3 * 110)

    def lengths(query: str) -> tuple[int, int]:
        body = hurried.get(f"/slots{query}")
        return len(body["past"]), len(body["coming"])

    assert lengths("") == (20, 20)
    assert lengths("?past=0&coming=0") == (0, 0)
    assert lengths("?past=1") == (1, 20)
    assert lengths("?coming=1") == (20, 1)
    assert lengths("?past=100&coming=100") == (100, 100)
    every = hurried.get("/slots?past=100&coming=100")
    few = hurried.get("/slots?past=2&coming=2")
    assert (few["past"], few["coming"]) == (every["past"][-2:], every["coming"][:2])
    assert every["utilisation"] is None


@pytest.mark.parametrize("value", ["-1", "101", "1.5", "x", "", "1e2"])
@pytest.mark.parametrize("name", ["past", "coming"])
def test_limit_out_of_range_is_a_422_that_names_it(client: TestClient, name: str, value: str) -> None:
    problem = assert_problem(client.get(f"/slots?{name}={value}"), 422, f"{name}: ")

    assert [error["field"] for error in problem["errors"]] == [name]


def test_timeline_of_an_unknown_lane_is_a_422_that_lists_those_there_are(both: Both) -> None:
    for name in ("other", "", "Maps"):
        problem = assert_problem(both.service.client.get(f"/slots?lane={name}"), 422, "lane: ")

        assert problem["errors"] == [{"field": "lane", "detail": NO_LANE}]


def test_utilisation_is_the_share_of_the_time_since_the_start_that_batches_took_up(service: Service) -> None:
    service.submit([2, 3, 4, 5])
    service.until(lambda: len(service.get("/slots")["past"]) == 1)
    service.advance(4)
    assert service.get("/slots")["utilisation"] == {"seconds": pytest.approx(4.0), "share": pytest.approx(1.0)}

    service.advance(1)
    service.until(lambda: len(service.get("/slots")["past"]) == 2)
    service.advance(35)

    assert service.get("/slots")["utilisation"] == {"seconds": pytest.approx(40.0), "share": pytest.approx(0.25)}


@pytest.mark.parametrize("backend", DURABLE)
def test_what_comes_outlasts_a_restart_and_what_went_by_does_not(backend: str, tmp_path: Path) -> None:
    settings, upstream = settings_for(backend, tmp_path), ScriptedUpstream()
    with serving(settings, upstream) as service:
        service.submit([2, 3, 4, 5, 6, 7, 8])
        service.until(lambda: len(service.get("/slots")["past"]) == 1)
        service.client.post("/queue/pause")
        coming = service.get("/slots")["coming"]

    with serving(settings, upstream, ManualClock(60)) as service:
        assert service.get("/slots")["past"] == []
        assert service.get("/slots")["coming"] == coming
        assert ids_of(coming) == [[5, 6, 7], [8]]


def test_each_lane_has_a_timeline_of_its_own(both: Both) -> None:
    service = both.service
    service.submit([1, 2, 3, 4])
    service.submit([101, 102, 103], lane="maps")
    service.until_running([1, 2, 3])
    service.until_running([101, 102], lane="maps")

    maps, default = service.get("/slots?lane=maps"), service.get("/slots")

    assert maps["lanes"] == default["lanes"] == ["default", "maps"]
    assert (maps["lane"], maps["interval"], maps["batch_size"]) == ("maps", 2.0, 2)
    assert (ids_of(maps["past"]), ids_of(maps["coming"])) == ([[101, 102]], [[103]])
    assert maps["coming"][0]["expected_start"] == utc(2)
    assert (default["lane"], default["interval"], default["batch_size"]) == ("default", 5.0, 3)
    assert (ids_of(default["past"]), ids_of(default["coming"])) == ([[1, 2, 3]], [[4]])
    assert default["coming"][0]["expected_start"] == utc(5)
