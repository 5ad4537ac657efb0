"""Several lanes: listing them, and naming one that does not exist."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.settings import Settings
from tests.api import BACKENDS, Service, assert_problem
from tests.lanes import Both, lanes_settings, serving_both


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return lanes_settings(request.param, tmp_path)


@pytest.fixture
def both(settings: Settings) -> Iterator[Both]:
    with serving_both(settings) as both:
        yield both


def listed(service: Service, path: str) -> list[str]:
    return [each["ingestion_id"] for each in service.get(path)["ingestions"]]


# Listing


def filled(service: Service) -> list[tuple[str, str]]:
    """Submit seven ingestions to two lanes in turns, not quite regular; return their ids and lanes, newest first."""
    lanes = ["default", "maps", "maps", "default", "maps", "default", "default"]
    return [(service.submit([number + 2], lane=lane), lane) for number, lane in enumerate(lanes)][::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("lane", [None, "default", "maps"])
def test_pages_show_all_lanes_or_one_newest_first_and_everything_once(both: Both, limit: int, lane: str | None) -> None:
    service = both.service
    ids = [(each, of) for each, of in filled(service) if lane in (None, of)]
    shown: list[tuple[str, str]] = []
    url: str | None = f"/ingestions?limit={limit}" + (f"&lane={lane}" if lane else "")

    while url:
        response = service.client.get(url)
        page = response.json()["ingestions"]
        assert len(page) <= limit
        shown += [(each["ingestion_id"], each["lane"]) for each in page]
        service.submit([99], lane=lane)
        url = response.links["next"]["url"] if "next" in response.links else None

    assert shown == ids


def test_ingestions_of_every_lane_are_listed_as_status_tells_them(both: Both) -> None:
    service = both.service
    filled(service)
    service.advance(0)

    for each in service.get("/ingestions")["ingestions"]:
        status = service.status(each["ingestion_id"])
        del status["batches"]
        assert each == status


def test_filter_by_lane_goes_with_the_other_filters(both: Both) -> None:
    service = both.service
    done = service.submit([102], "HIGH", lane="maps")
    service.until_completed(done, service.submit([2], "HIGH"))
    high, low = service.submit([103], "HIGH", lane="maps"), service.submit([104], "LOW", lane="maps")
    service.submit([3], "LOW")

    assert listed(service, "/ingestions?lane=maps&status=completed") == [done]
    assert listed(service, "/ingestions?lane=maps&status=yet_to_start") == [low, high]
    assert listed(service, "/ingestions?lane=maps&priority=HIGH") == [high, done]
    assert listed(service, "/ingestions?lane=maps&priority=MEDIUM") == []


# Lanes that do not exist


@pytest.mark.parametrize("name", ["other", "Maps", "", "maps%20", "maps,default"])
@pytest.mark.parametrize("call", ["GET /queue", "POST /queue/pause", "POST /queue/resume", "GET /ingestions"])
def test_unknown_lane_in_the_query_is_a_422_that_lists_those_there_are(both: Both, call: str, name: str) -> None:
    method, path = call.split()

    problem = assert_problem(both.service.client.request(method, f"{path}?lane={name}"), 422, "lane: ")

    assert problem["errors"] == [{"field": "lane", "detail": "There is no such lane; there are: default, maps"}]
    assert both.service.get("/queue")["paused"] is None


@pytest.mark.parametrize("lane", ["other", "", "MAPS", None, 7, ["maps"]])
def test_unknown_lane_in_a_submission_is_a_422_and_nothing_is_accepted(both: Both, lane: object) -> None:
    client = both.service.client
    body = {"ids": [2], "priority": "LOW"}

    response = client.post("/ingest", json={**body, "lane": lane}, headers={"Idempotency-Key": "k"})

    problem = assert_problem(response, 422, "lane: ")
    assert [error["field"] for error in problem["errors"]] == ["lane"]
    assert listed(both.service, "/ingestions") == []
    replay = client.post("/ingest", json=body, headers={"Idempotency-Key": "k"})
    assert (replay.status_code, replay.headers.get("idempotency-replayed")) == (200, None)
