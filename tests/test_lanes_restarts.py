"""Several lanes: each comes back from the database as it was, also one that was left out meanwhile."""

from pathlib import Path

import pytest

from sluice.settings import Settings
from sluice.upstream import UpstreamUnavailable
from tests.api import DURABLE, INTERVAL, assert_problem, utc
from tests.journals import rows
from tests.lanes import MAPS, MAPS_INTERVAL, lanes_settings, serving_both

DAY = 86_400.0


@pytest.fixture(params=DURABLE)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return lanes_settings(request.param, tmp_path)


def configure(tmp_path: Path, content: str) -> None:
    (tmp_path / "lanes.toml").write_text(content)


def test_ingestions_come_back_in_their_lanes_and_go_on(settings: Settings) -> None:
    with serving_both(settings) as both:
        here = both.service.submit([2, 3, 4, 5])
        there = both.service.submit([102, 103, 104], "HIGH", lane="maps")
        both.service.until(lambda: both.default.batches == [[2, 3, 4]])
        both.service.until(lambda: both.service.batch_statuses(there) == ["completed", "yet_to_start"])
        both.service.until(lambda: both.service.batch_statuses(here) == ["completed", "yet_to_start"])
        before = [both.service.status(each) for each in (here, there)]
        assert [each["lane"] for each in before] == ["default", "maps"]

    with serving_both(settings, 1.0) as both:
        after = [both.service.status(each) for each in (here, there)]
        unforeseen = {"expected_start", "expected_completion"}  # a start is taken to be up to START_BUDGET later
        assert [{**each, **dict.fromkeys(unforeseen)} for each in after] == [
            {**each, **dict.fromkeys(unforeseen)} for each in before
        ]
        assert [each["ingestion_id"] for each in both.service.get("/ingestions")["ingestions"]] == [there, here]
        both.service.advance(INTERVAL)
        both.service.until_completed(here, there)
        assert (both.default.batches, both.maps.batches) == ([[5]], [[104]])
        assert [line["id"] for line in both.service.results(there)] == [102, 103, 104]


def test_each_lane_keeps_its_own_pace_across_a_restart(settings: Settings) -> None:
    with serving_both(settings) as both:
        both.service.until_completed(both.service.submit([2]), both.service.submit([102], lane="maps"))

    with serving_both(settings, 1.0) as both:
        here, there = both.service.submit([3]), both.service.submit([103], lane="maps")
        both.service.advance(MAPS_INTERVAL)
        both.service.until_completed(there)
        assert both.service.status(here)["status"] == "yet_to_start"
        both.service.advance(INTERVAL)
        both.service.until_completed(here)


@pytest.mark.parametrize("lane", ["default", "maps"])
def test_pause_and_hold_of_a_lane_come_back_as_its_own(settings: Settings, lane: str) -> None:
    other = {"default": "maps", "maps": "default"}[lane]
    with serving_both(settings) as both:
        upstream = both.maps if lane == "maps" else both.default
        upstream.answer = lambda item: UpstreamUnavailable("answered 503", retry_after=30)
        both.service.submit([9], lane=lane)
        both.service.until(lambda: both.service.get(f"/queue?lane={lane}")["hold"])
        both.service.client.post(f"/queue/pause?lane={lane}", json={"reason": "maintenance"})

    with serving_both(settings, 10.0) as both:
        queue, others = both.service.get(f"/queue?lane={lane}"), both.service.get(f"/queue?lane={other}")
        assert queue["hold"] == {"until": utc(30), "reason": "answered 503"}
        assert queue["paused"] == {"since": utc(0), "reason": "maintenance"}
        assert (others["hold"], others["paused"]) == (None, None)
        both.service.until_completed(both.service.submit([9], lane=other))


def test_batch_that_ran_in_each_lane_runs_again(settings: Settings) -> None:
    with serving_both(settings) as both:
        here, there = both.service.submit([1, 2]), both.service.submit([101], lane="maps")
        both.service.until_running([1, 2])
        both.service.until_running([101], "maps")

    with serving_both(settings, 60.0) as both:
        both.service.call(both.default.release)
        both.service.call(both.maps.release)
        both.service.until_completed(here, there)
        assert (both.default.batches, both.maps.batches) == ([[1, 2]], [[101]])
        attempts = [line["attempts"] for each in (here, there) for line in both.service.results(each)]
        assert attempts == [1, 1, 1]


def test_lane_that_is_left_out_is_unseen_and_comes_back_when_it_is_named_again(
    settings: Settings, tmp_path: Path
) -> None:
    with serving_both(settings) as both:
        service = both.service
        done = service.submit([102], lane="maps")
        service.until_completed(done)
        service.advance(MAPS_INTERVAL)
        key = {"Idempotency-Key": "k"}
        body = {"ids": [101, 103, 104], "priority": "LOW", "lane": "maps"}
        left = service.client.post("/ingest", json=body, headers=key).json()["ingestion_id"]
        service.until_running([101, 103], "maps")
        service.client.post("/queue/pause?lane=maps", json={"reason": "moving"})

    configure(tmp_path, "lanes = []")
    with serving_both(settings, 60.0) as both:
        service = both.service
        here = service.submit([2])
        service.until_completed(here)
        assert_problem(service.client.get(f"/status/{left}"), 404, "unknown or expired")
        assert_problem(service.client.get("/queue?lane=maps"), 422, "there are: default")
        assert_problem(service.client.post("/ingest", json=body), 422, "there are: default")
        assert [each["ingestion_id"] for each in service.get("/ingestions")["ingestions"]] == [here]

    configure(tmp_path, MAPS)
    with serving_both(settings, 120.0) as both:
        service = both.service
        assert [each["ingestion_id"] for each in service.get("/ingestions")["ingestions"]] == [here, left, done]
        assert service.batch_statuses(left) == ["triggered", "yet_to_start"]
        assert service.get("/queue?lane=maps")["paused"] == {"since": utc(2), "reason": "moving"}
        assert [line["id"] for line in service.results(done)] == [102]
        replay = service.client.post("/ingest", json=body, headers=key)
        assert (replay.json()["ingestion_id"], replay.headers["idempotency-replayed"]) == (left, "true")
        service.client.post("/queue/resume?lane=maps")
        service.call(both.maps.release)
        service.until(lambda: both.maps.batches == [[101, 103]])
        service.advance(MAPS_INTERVAL)
        service.until_completed(left)


def test_lane_that_is_left_out_keeps_everything_however_long(settings: Settings, tmp_path: Path) -> None:
    with serving_both(settings) as both:
        done = both.service.submit([102], lane="maps")
        both.service.until_completed(done)

    configure(tmp_path, "lanes = []")
    with serving_both(settings, 60.0) as both:
        here = both.service.submit([2])
        both.service.until_completed(here)
        both.service.advance(30 * DAY)
        both.service.until(lambda: not both.service.lane.ingestions)

    ingestions = rows(settings, "SELECT ingestion_id, lane FROM ingestions")
    assert [(str(ingestion_id), lane) for ingestion_id, lane in ingestions] == [(done, "maps")]
    assert rows(settings, "SELECT count(*) FROM results") == [(1,)]


def test_what_is_accepted_while_a_lane_is_left_out_comes_after_what_it_has(settings: Settings, tmp_path: Path) -> None:
    with serving_both(settings) as both:
        older = [both.service.submit([101], lane="maps") for _ in range(3)]

    configure(tmp_path, "[[lanes]]\nname = 'other'")
    with serving_both(settings, 1.0) as both:
        newer = [both.service.submit([1], lane="other"), both.service.submit([1])]

    configure(tmp_path, MAPS)
    with serving_both(settings, 2.0) as both:
        listed = [each["ingestion_id"] for each in both.service.get("/ingestions")["ingestions"]]

    assert listed == [newer[1], *older[::-1]]
