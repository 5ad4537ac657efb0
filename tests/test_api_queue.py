"""Control: the queue, holding and pausing it."""

from pathlib import Path

import pytest

from sluice.upstream import UpstreamUnavailable
from tests.api import (
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

# The queue


def test_empty_queue_says_that_nothing_waits_runs_or_hinders(service: Service) -> None:
    assert service.get("/queue") == {
        "lane": "default",
        "waiting": {"HIGH": 0, "MEDIUM": 0, "LOW": 0},
        "retrying": 0,
        "running": None,
        "next_start": None,
        "hold": None,
        "paused": None,
    }


def test_queue_tells_what_waits_by_priority_what_runs_and_when_the_next_starts(service: Service) -> None:
    running = service.submit([1, 2, 3, 4], "LOW")
    service.until_running([1, 2, 3])
    service.submit([5] * 7, "HIGH")
    service.submit([6], "LOW")
    service.advance(2)

    body = service.get("/queue")

    assert body["waiting"] == {"HIGH": 3, "MEDIUM": 0, "LOW": 2}
    assert body["running"] == {
        "ingestion_id": running,
        "batch_ids": [service.status(running)["batches"][0]["batch_id"]],
        "ids": [1, 2, 3],
        "started_at": utc(0),
    }
    assert body["next_start"] == utc(5)
    assert (body["retrying"], body["hold"], body["paused"]) == (0, None, None)


def test_hold_that_the_upstream_asked_for_is_visible_until_it_ends(
    service: Service, upstream: ScriptedUpstream
) -> None:
    upstream.answer = lambda item: UpstreamUnavailable("answered 503", retry_after=30)
    ingestion_id = service.submit([2], "LOW")
    service.until(lambda: service.get("/queue")["hold"])
    upstream.answer = lambda item: item

    body = service.get("/queue")
    assert body["hold"] == {"until": utc(30), "reason": "answered 503"}
    assert (body["next_start"], body["retrying"], body["running"]) == (utc(30), 1, None)
    assert service.status(service.submit([3], "HIGH"))["expected_start"] == utc(30)
    service.advance(29)
    assert len(upstream.batches) == 1
    work(service, 3)
    service.until_completed(ingestion_id)
    assert service.get("/queue")["hold"] is None
    assert upstream.batches == [[2], [3], [2]]
    assert service.results(ingestion_id)[0]["attempts"] == 1


def test_hold_is_recorded_whatever_characters_its_reason_has(service: Service, upstream: ScriptedUpstream) -> None:
    upstream.answer = lambda item: UpstreamUnavailable("answered \x00", retry_after=30)
    service.submit([2])

    service.until(lambda: service.get("/queue")["hold"])

    assert service.get("/queue")["hold"]["until"] == utc(30)


@pytest.mark.parametrize("backend", DURABLE)
def test_hold_survives_a_restart(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path)
    upstream = ScriptedUpstream(lambda item: UpstreamUnavailable("answered 429", retry_after=30))
    with serving(settings, upstream) as service:
        service.submit([2])
        service.until(lambda: service.get("/queue")["hold"])

    with serving(settings, upstream, ManualClock(10)) as service:
        assert service.get("/queue")["hold"] == {"until": utc(30), "reason": "answered 429"}
        assert service.get("/queue")["next_start"] == utc(30)


# Pausing


def test_paused_queue_starts_nothing_until_it_is_resumed(service: Service, upstream: ScriptedUpstream) -> None:
    service.advance(7)

    paused = service.client.post("/queue/pause")
    ingestion_id = service.submit([2, 3, 4, 5])
    work(service, 3)

    assert paused.status_code == 200
    assert paused.json()["paused"] == {"since": utc(7), "reason": ""}
    assert upstream.batches == []
    queue, status = service.get("/queue"), service.status(ingestion_id)
    assert (queue["waiting"]["MEDIUM"], queue["next_start"]) == (2, None)
    assert (status["position"], status["expected_start"], status["expected_completion"]) == (0, None, None)

    resumed = service.client.post("/queue/resume")

    assert resumed.status_code == 200
    assert resumed.json()["paused"] is None
    service.until(lambda: upstream.batches == [[2, 3, 4]])
    work(service, 1)
    service.until_completed(ingestion_id)


def test_batch_that_runs_when_the_queue_is_paused_finishes(service: Service, upstream: ScriptedUpstream) -> None:
    ingestion_id = service.submit([1, 2, 3, 4])
    service.until_running([1, 2, 3])

    service.client.post("/queue/pause")
    assert service.get("/queue")["running"]["ids"] == [1, 2, 3]
    service.call(upstream.release)
    service.until(lambda: service.batch_statuses(ingestion_id) == ["completed", "yet_to_start"])
    work(service, 3)

    assert upstream.batches == [[1, 2, 3]]


def test_last_batch_of_an_ingestion_still_has_its_forecast_while_paused(service: Service) -> None:
    ingestion_id = service.submit([1])
    service.until_running([1])

    service.client.post("/queue/pause")

    assert service.status(ingestion_id)["expected_start"] == utc(0)
    assert service.status(ingestion_id)["expected_completion"] == utc(0)


def test_reason_of_a_pause_is_shown_and_the_first_one_stays(service: Service) -> None:
    first = service.client.post("/queue/pause", json={"reason": "maintenance ☕"})
    service.advance(1)
    second = service.client.post("/queue/pause", json={"reason": "other"})

    assert first.json()["paused"] == second.json()["paused"] == {"since": utc(0), "reason": "maintenance ☕"}


def test_resuming_what_is_not_paused_changes_nothing(service: Service) -> None:
    assert service.client.post("/queue/resume").json() == service.get("/queue")


@pytest.mark.parametrize(
    ("body", "media_type", "status", "detail"),
    [
        (b'{"reason": 1}', JSON["Content-Type"], 422, "reason"),
        (b'{"reason": null}', JSON["Content-Type"], 422, "reason"),
        (b'{"reason": "' + b"x" * 201 + b'"}', JSON["Content-Type"], 422, "reason"),
        (b'{"why": "x"}', JSON["Content-Type"], 422, "why"),
        (b"x", JSON["Content-Type"], 400, "not JSON"),
        (b'{"reason": "x"}', "text/plain", 415, "Content-Type"),
    ],
)
def test_bad_pause_is_refused_and_pauses_nothing(
    service: Service, body: bytes, media_type: str, status: int, detail: str
) -> None:
    response = service.client.post("/queue/pause", content=body, headers={"Content-Type": media_type})

    assert_problem(response, status, detail)
    assert service.get("/queue")["paused"] is None


def test_reason_with_a_character_that_no_database_may_hold_is_kept_or_refused_everywhere(service: Service) -> None:
    response = service.client.post("/queue/pause", json={"reason": "main\x00tenance"})

    assert response.status_code in (200, 422)
    assert (response.status_code == 200) == bool(service.get("/queue")["paused"])


def test_pause_without_a_length_may_have_a_reason_or_no_body(service: Service) -> None:
    chunks = iter([b'{"reason":', b' "x"}'])

    response = service.client.post("/queue/pause", content=chunks, headers=JSON)
    assert response.json()["paused"]["reason"] == "x"
    service.client.post("/queue/resume")

    assert service.client.post("/queue/pause", json={}).json()["paused"]["reason"] == ""


@pytest.mark.parametrize("backend", DURABLE)
def test_pause_survives_a_restart(backend: str, tmp_path: Path) -> None:
    settings, upstream = settings_for(backend, tmp_path), ScriptedUpstream()
    with serving(settings, upstream) as service:
        service.client.post("/queue/pause", json={"reason": "maintenance"})
        ingestion_id = service.submit([2])

    with serving(settings, upstream, ManualClock(60)) as service:
        assert service.get("/queue")["paused"] == {"since": utc(0), "reason": "maintenance"}
        work(service, 2)
        assert upstream.batches == []
        service.client.post("/queue/resume")
        service.until_completed(ingestion_id)

    with serving(settings, upstream, ManualClock(120)) as service:
        assert service.get("/queue")["paused"] is None
