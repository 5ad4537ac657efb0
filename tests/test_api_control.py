"""Control: cancelling, moving, and what cannot be recorded."""

from pathlib import Path
from uuid import uuid4

import pytest

from tests.api import (
    DURABLE,
    JSON,
    FailingJournal,
    ManualClock,
    ScriptedUpstream,
    Service,
    assert_problem,
    divert,
    serving,
    settings_for,
    utc,
)
from tests.api_steps import work

# Cancelling


def test_cancelling_keeps_what_has_not_started_from_starting_and_lets_the_running_batch_finish(
    service: Service, upstream: ScriptedUpstream
) -> None:
    ingestion_id = service.submit([1, 2, 3, 4, 5, 6, 7])
    service.until_running([1, 2, 3])

    response = service.client.delete(f"/ingestions/{ingestion_id}")

    assert response.status_code == 200
    assert response.json()["status"] == "triggered"
    assert response.json()["progress"]["cancelled"] == 2
    assert service.batch_statuses(ingestion_id) == ["triggered", "cancelled", "cancelled"]
    service.call(upstream.release)
    service.until_completed(ingestion_id)
    assert service.batch_statuses(ingestion_id) == ["completed", "cancelled", "cancelled"]
    work(service, 3)
    assert upstream.batches == [[1, 2, 3]]


def test_ingestion_cancelled_before_any_start_is_completed(service: Service, upstream: ScriptedUpstream) -> None:
    service.submit([1])
    ingestion_id = service.submit([2, 3, 4, 5])
    service.until_running([1])

    body = service.client.delete(f"/ingestions/{ingestion_id}").json()

    assert body["status"] == "completed"
    assert body["finished_time"] == utc(0)
    assert (body["position"], body["expected_start"], body["expected_completion"]) == (None, None, None)
    assert service.batch_statuses(ingestion_id) == ["cancelled", "cancelled"]
    assert service.get("/queue")["waiting"] == {"HIGH": 0, "MEDIUM": 0, "LOW": 0}


def test_cancelling_twice_or_what_is_completed_changes_nothing(service: Service) -> None:
    completed = service.submit([5])
    service.until_completed(completed)
    cancelled = service.submit([6])

    first = service.client.delete(f"/ingestions/{cancelled}")
    service.advance(1)
    again = service.client.delete(f"/ingestions/{cancelled}")
    late = service.client.delete(f"/ingestions/{completed}")

    assert again.status_code == late.status_code == 200
    assert again.json() == first.json()
    assert late.json()["progress"]["completed"] == 1
    assert service.batch_statuses(completed) == ["completed"]


def test_those_behind_a_cancelled_ingestion_move_up(service: Service) -> None:
    service.submit([1])
    first, second = service.submit([2] * 9), service.submit([3])
    service.until_running([1])
    assert service.status(second)["position"] == 3

    service.client.delete(f"/ingestions/{first}")

    assert service.status(second)["position"] == 0


@pytest.mark.parametrize("backend", DURABLE)
def test_cancellation_survives_a_restart(backend: str, tmp_path: Path) -> None:
    settings, upstream = settings_for(backend, tmp_path), ScriptedUpstream()
    with serving(settings, upstream) as service:
        ingestion_id = service.submit([2, 3, 4, 5, 6, 7])
        service.until(lambda: service.status(ingestion_id)["progress"]["completed"] == 1)
        service.client.delete(f"/ingestions/{ingestion_id}")

    with serving(settings, upstream, ManualClock(1)) as service:
        work(service, 3)

        assert service.batch_statuses(ingestion_id) == ["completed", "cancelled"]
        assert service.status(ingestion_id)["status"] == "completed"
        assert upstream.batches == [[2, 3, 4]]


# Moving


def test_moved_ingestion_keeps_its_created_time_and_takes_its_rightful_place(
    service: Service, upstream: ScriptedUpstream
) -> None:
    service.submit([1])
    service.until_running([1])
    first = service.submit([2], "HIGH")
    service.advance(1)
    moved = service.submit([3], "LOW")
    service.advance(1)
    last = service.submit([4], "HIGH")

    response = service.client.patch(f"/ingestions/{moved}", json={"priority": "HIGH"})

    assert response.status_code == 200
    assert response.json()["priority"] == "HIGH"
    assert response.json()["created_time"] == utc(1)
    assert [service.status(each)["position"] for each in (first, moved, last)] == [0, 1, 2]
    assert service.get("/queue")["waiting"] == {"HIGH": 3, "MEDIUM": 0, "LOW": 0}
    service.call(upstream.release)
    work(service, 4)
    assert upstream.batches == [[1], [2], [3], [4]]


def test_ingestion_that_has_begun_can_be_put_behind_others(service: Service, upstream: ScriptedUpstream) -> None:
    moved = service.submit([1, 2, 3, 4], "HIGH")
    service.until_running([1, 2, 3])
    other = service.submit([5], "MEDIUM")

    body = service.client.patch(f"/ingestions/{moved}", json={"priority": "LOW"}).json()

    assert body["status"] == "triggered"
    assert (body["position"], service.status(other)["position"]) == (1, 0)
    service.call(upstream.release)
    work(service, 3)
    assert upstream.batches == [[1, 2, 3], [5], [4]]


def test_moving_to_the_same_priority_changes_nothing(service: Service) -> None:
    service.submit([1])
    ingestion_id = service.submit([2])
    before = service.status(ingestion_id)

    response = service.client.patch(f"/ingestions/{ingestion_id}", json={"priority": "MEDIUM"})

    assert response.status_code == 200
    assert service.status(ingestion_id) == before


def test_moving_what_is_completed_is_a_409(service: Service) -> None:
    completed, cancelled = service.submit([5]), service.submit([6])
    service.until_completed(completed)
    service.client.delete(f"/ingestions/{cancelled}")

    for ingestion_id in (completed, cancelled):
        response = service.client.patch(f"/ingestions/{ingestion_id}", json={"priority": "HIGH"})
        assert_problem(response, 409, "nothing of it waits")
        assert service.status(ingestion_id)["priority"] == "MEDIUM"


@pytest.mark.parametrize(
    ("body", "media_type", "status", "detail"),
    [
        (b'{"priority": "high"}', JSON["Content-Type"], 422, "priority"),
        (b'{"priority": null}', JSON["Content-Type"], 422, "priority"),
        (b'{"priority": "HIGH", "ids": [1]}', JSON["Content-Type"], 422, "ids"),
        (b"{}", JSON["Content-Type"], 422, "priority"),
        (b"[]", JSON["Content-Type"], 422, "body"),
        (b"", JSON["Content-Type"], 400, "not JSON"),
        (b"HIGH", JSON["Content-Type"], 400, "not JSON"),
        (b'{"priority": "HIGH"}', "text/plain", 415, "Content-Type"),
        (b'{"priority": "HIGH"}', "", 415, "Content-Type"),
    ],
)
def test_bad_patch_is_refused_and_moves_nothing(
    service: Service, body: bytes, media_type: str, status: int, detail: str
) -> None:
    service.submit([1])
    ingestion_id = service.submit([2])

    response = service.client.patch(f"/ingestions/{ingestion_id}", content=body, headers={"Content-Type": media_type})

    assert_problem(response, status, detail)
    assert service.status(ingestion_id)["priority"] == "MEDIUM"


def test_unknown_ingestion_cannot_be_controlled(service: Service) -> None:
    for path in ("/ingestions/1", f"/ingestions/{uuid4()}"):
        assert_problem(service.client.delete(path), 404, "unknown or expired")
        assert_problem(service.client.patch(path, json={"priority": "HIGH"}), 404, "unknown or expired")
        assert_problem(service.client.post(f"{path}/retry"), 404, "unknown or expired")


# What cannot be recorded


def test_whatever_cannot_be_recorded_is_a_503_that_changes_nothing_and_reads_go_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.client.post("/queue/pause")
    waiting = service.submit([7])
    journal = FailingJournal(service.lane.journal.append)
    before = service.get("/ingestions"), service.get("/queue"), service.status(waiting)
    divert(service.lane.journal, journal, monkeypatch)

    refused = [
        service.client.post("/ingest", json={"ids": [8], "priority": "HIGH"}),
        service.client.delete(f"/ingestions/{waiting}"),
        service.client.patch(f"/ingestions/{waiting}", json={"priority": "HIGH"}),
        service.client.post("/queue/resume"),
    ]

    for response in refused:
        assert_problem(response, 503, "Nothing can be recorded now")
        assert int(response.headers["retry-after"]) > 0
    assert (service.get("/ingestions"), service.get("/queue"), service.status(waiting)) == before
    assert service.results(waiting) == []
    journal.is_broken = False
    assert service.client.post("/queue/resume").status_code == 200
    service.submit([8])
