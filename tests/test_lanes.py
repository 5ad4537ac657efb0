"""Several lanes: how they run side by side, and how each is told from the others."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sluice.settings import Settings
from sluice.upstream import UpstreamUnavailable
from tests.api import BACKENDS, INTERVAL, PATIENCE, ScriptedUpstream, utc
from tests.api_steps import answer
from tests.lanes import MAPS_INTERVAL, Both, lanes_settings, serving_both


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return lanes_settings(request.param, tmp_path)


@pytest.fixture
def both(settings: Settings) -> Iterator[Both]:
    with serving_both(settings) as both:
        yield both


def has_started(upstream: ScriptedUpstream, count: int) -> bool:
    """Return whether so many batches have started; fail if there are more."""
    assert len(upstream.batches) <= count, "early"
    return len(upstream.batches) == count


# Running


def test_lane_that_hangs_holds_up_itself_and_no_other(both: Both) -> None:
    service, default, maps = both
    hung = service.submit([1, 2, 3, 4])
    service.until_running([1, 2, 3])

    done = service.submit([102, 103, 104], lane="maps")
    service.until(lambda: maps.batches == [[102, 103]])
    service.advance(MAPS_INTERVAL)
    service.until_completed(done)

    assert service.batch_statuses(hung) == ["triggered", "yet_to_start"]
    assert default.batches == [[1, 2, 3]]


def test_each_lane_runs_one_batch_at_a_time(both: Both) -> None:
    service, default, maps = both
    service.submit([1, 2, 3, 4])
    service.submit([101, 102, 103], lane="maps")
    service.until_running([1, 2, 3])
    service.until_running([101, 102], "maps")

    for _ in range(5):
        service.advance(INTERVAL)
    meanwhile = [*default.batches], [*maps.batches]
    service.call(maps.release)
    service.until(lambda: len(maps.batches) == 2)

    assert meanwhile == ([[1, 2, 3]], [[101, 102]])
    assert (default.batches, maps.batches) == ([[1, 2, 3]], [[101, 102], [103]])


def test_each_lane_has_its_own_interval_and_batch_size(both: Both) -> None:
    service, default, maps = both
    service.submit(range(2, 11))
    service.submit(range(102, 112), lane="maps")

    for second in range(12):
        service.until(partial(has_started, default, min(3, 1 + second // 5)))
        service.until(partial(has_started, maps, min(5, 1 + second // 2)))
        service.advance(1)

    assert default.batches == [[2, 3, 4], [5, 6, 7], [8, 9, 10]]
    assert maps.batches == [[102, 103], [104, 105], [106, 107], [108, 109], [110, 111]]


def test_priority_decides_within_a_lane(both: Both) -> None:
    service, default, maps = both
    service.submit([1])
    service.submit([101], lane="maps")
    service.until_running([1])
    service.until_running([101], "maps")
    service.submit([102], "LOW", lane="maps")
    service.submit([2], "LOW")
    service.submit([3], "HIGH")

    service.call(default.release)
    service.call(maps.release)
    service.advance(INTERVAL)
    service.until(lambda: len(maps.batches) == len(default.batches) == 2)
    service.advance(INTERVAL)
    service.until(lambda: len(default.batches) == 3)

    assert (default.batches, maps.batches) == ([[1], [3], [2]], [[101], [102]])


def test_hold_that_one_upstream_asks_for_is_no_hold_of_another(both: Both) -> None:
    service, default, maps = both
    maps.answer = lambda item: UpstreamUnavailable("answered 429", retry_after=30)
    service.submit([102], lane="maps")
    service.until(lambda: service.get("/queue?lane=maps")["hold"])

    service.until_completed(service.submit([2]))

    assert service.get("/queue")["hold"] is None
    assert service.get("/queue?lane=maps")["hold"] == {"until": utc(30), "reason": "answered 429"}
    assert (default.batches, maps.batches) == ([[2]], [[102]])


def test_failed_ids_are_tried_again_by_their_own_upstream(both: Both) -> None:
    service, default, maps = both
    failures = iter([UpstreamUnavailable("answered 500")])
    maps.answer = lambda item: next(failures, "at last")
    ingestion_id = service.submit([102], lane="maps")
    service.until(lambda: maps.batches == [[102]])

    service.advance(MAPS_INTERVAL)
    service.until_completed(ingestion_id)

    assert [(line["data"], line["attempts"]) for line in service.results(ingestion_id)] == [("at last", 2)]
    assert (default.batches, maps.batches) == ([], [[102], [102]])


# Telling and controlling


def test_ingestion_without_a_lane_is_in_the_default_one(both: Both) -> None:
    service = both.service
    ids = [service.submit([1]), service.submit([1], lane="default"), service.submit([1], lane="maps")]

    assert [service.status(each)["lane"] for each in ids] == ["default", "default", "maps"]


def test_position_and_forecast_count_the_slots_of_the_lane(both: Both) -> None:
    service = both.service
    service.submit([1])
    service.submit([101], lane="maps")
    service.until_running([1])
    service.until_running([101], "maps")
    service.submit([2, 3, 4, 5], "HIGH")
    here, there = service.submit([6]), service.submit([102, 103, 104], lane="maps")

    forecasts = [
        (body["position"], body["expected_start"], body["expected_completion"])
        for body in map(service.status, (here, there))
    ]

    assert forecasts == [(2, utc(3 * INTERVAL), utc(3 * INTERVAL)), (0, utc(MAPS_INTERVAL), utc(2 * MAPS_INTERVAL))]


def test_queue_tells_of_one_lane(both: Both) -> None:
    service = both.service
    running = service.submit([101, 102, 103], "LOW", lane="maps")
    service.until_running([101, 102], "maps")

    body = service.get("/queue?lane=maps")

    assert (body["lane"], body["waiting"]) == ("maps", {"HIGH": 0, "MEDIUM": 0, "LOW": 1})
    assert (body["running"]["ingestion_id"], body["next_start"]) == (running, utc(MAPS_INTERVAL))
    assert service.get("/queue") == service.get("/queue?lane=default")
    assert service.get("/queue") | {"lane": "maps"} == body | {
        "waiting": {"HIGH": 0, "MEDIUM": 0, "LOW": 0},
        "running": None,
        "next_start": None,
    }


@pytest.mark.parametrize("paused", ["default", "maps"])
def test_paused_lane_starts_nothing_while_the_other_goes_on(both: Both, paused: str) -> None:
    service = both.service
    other, upstream = ("default", both.maps) if paused == "maps" else ("maps", both.default)

    answer = service.client.post(f"/queue/pause?lane={paused}", json={"reason": "maintenance"})
    stays, done = service.submit([9], lane=paused), service.submit([9], lane=other)
    service.until_completed(done)
    service.advance(INTERVAL)

    assert answer.json()["lane"] == paused
    assert answer.json()["paused"] == {"since": utc(0), "reason": "maintenance"}
    assert service.get(f"/queue?lane={other}")["paused"] is None
    assert service.status(stays)["status"] == "yet_to_start"
    assert upstream.batches == []
    assert service.client.post(f"/queue/resume?lane={other}").json()["paused"] is None
    assert service.get(f"/queue?lane={paused}")["paused"]
    assert service.client.post(f"/queue/resume?lane={paused}").json()["lane"] == paused
    service.until_completed(stays)


def test_pausing_without_a_lane_pauses_the_default_one(both: Both) -> None:
    service = both.service

    assert service.client.post("/queue/pause").json()["lane"] == "default"
    assert service.get("/queue?lane=maps")["paused"] is None
    assert service.client.post("/queue/resume").json() == service.get("/queue?lane=default")


def test_ingestion_is_controlled_by_its_id_whatever_its_lane(both: Both) -> None:
    service, _, maps = both
    maps.answer = answer
    failed = service.submit([400], lane="maps")
    service.until_completed(failed)
    moved, cancelled = service.submit([102], "LOW", lane="maps"), service.submit([103], "LOW", lane="maps")

    answers = [
        service.client.patch(f"/ingestions/{moved}", json={"priority": "HIGH"}).json(),
        service.client.delete(f"/ingestions/{cancelled}").json(),
        service.client.post(f"/ingestions/{failed}/retry").json(),
    ]

    assert [(each["ingestion_id"], each["lane"]) for each in answers] == [
        (each, "maps") for each in (moved, cancelled, failed)
    ]
    assert [each["status"] for each in answers] == ["yet_to_start", "completed", "triggered"]
    assert service.get("/queue?lane=maps")["waiting"] == {"HIGH": 1, "MEDIUM": 1, "LOW": 0}
    assert service.get("/queue")["waiting"] == {"HIGH": 0, "MEDIUM": 0, "LOW": 0}


def test_results_of_a_lane_are_followed_to_their_end(both: Both) -> None:
    service, _, maps = both
    ingestion_id = service.submit([101, 102, 103], lane="maps")
    service.until_running([101, 102], "maps")

    following = service.aside(lambda: service.client.get(f"/results/{ingestion_id}?follow=true").text)
    service.call(maps.release)
    service.until(lambda: service.batch_statuses(ingestion_id) == ["completed", "yet_to_start"])
    service.advance(MAPS_INTERVAL)

    lines = following.result(PATIENCE).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [101, 102, 103]
