"""Trying again what failed."""

from pathlib import Path

import pytest

from sluice.upstream import UpstreamUnavailable
from tests.api import (
    DURABLE,
    INTERVAL,
    Answer,
    FailingJournal,
    ManualClock,
    ScriptedUpstream,
    Service,
    assert_problem,
    divert,
    serving,
    settings_for,
)
from tests.api_steps import answer, ids


def retry(service: Service, ingestion_id: str) -> Answer:
    return service.client.post(f"/ingestions/{ingestion_id}/retry")


@pytest.mark.parametrize("item", [2, 1])
def test_retry_when_nothing_has_failed_is_a_409(service: Service, item: int) -> None:
    ingestion_id = service.submit([item])
    if item == 2:
        service.until_completed(ingestion_id)

    assert_problem(retry(service, ingestion_id), 409, "No ID of the ingestion has failed")


def test_retry_gives_failed_ids_a_fresh_set_of_attempts_and_the_batch_can_become_completed(
    hurried: Service, upstream: ScriptedUpstream
) -> None:
    ingestion_id = hurried.submit([2, 500, 3, 4, 400, 5])
    hurried.until_completed(ingestion_id)
    assert hurried.batch_statuses(ingestion_id) == ["failed", "failed"]
    upstream.batches.clear()
    failures = iter([UpstreamUnavailable("again"), UpstreamUnavailable("and again")])
    upstream.answer = lambda item: next(failures, "at last") if item == 500 else answer(item)

    response = retry(hurried, ingestion_id)

    assert response.status_code == 200
    assert (response.json()["status"], response.json()["finished_time"]) == ("triggered", None)
    hurried.until_completed(ingestion_id)
    assert upstream.batches == [[500, 400], [500], [500]]
    assert hurried.batch_statuses(ingestion_id) == ["completed", "failed"]
    assert hurried.status(ingestion_id)["progress"]["failed"] == 1


def test_retry_replaces_the_lines_of_what_failed(hurried: Service, upstream: ScriptedUpstream) -> None:
    ingestion_id = hurried.submit([2, 400, 3])
    hurried.until_completed(ingestion_id)
    before = hurried.results(ingestion_id)
    hurried.client.post("/queue/pause")
    upstream.answer = lambda item: "at last"

    retry(hurried, ingestion_id)
    meanwhile = hurried.results(ingestion_id)
    hurried.client.post("/queue/resume")
    hurried.until_completed(ingestion_id)

    assert meanwhile == [before[0], before[2]]
    after = hurried.results(ingestion_id)
    assert (after[0], after[2]) == (before[0], before[2])
    assert (after[1]["id"], after[1]["status"], after[1]["data"]) == (400, "completed", "at last")
    assert after[1]["attempts"] == 1


def test_second_retry_at_once_is_a_409(hurried: Service) -> None:
    ingestion_id = hurried.submit([400])
    hurried.until_completed(ingestion_id)
    hurried.client.post("/queue/pause")

    first, second = retry(hurried, ingestion_id), retry(hurried, ingestion_id)

    assert first.status_code == 200
    assert_problem(second, 409, "No ID")


def test_retry_goes_back_to_the_ingestions_own_place_in_the_order(service: Service, upstream: ScriptedUpstream) -> None:
    failed = service.submit([400])
    service.until_completed(failed)
    service.submit([5])
    service.submit([6], "HIGH")

    assert retry(service, failed).json()["position"] == 1
    for _ in range(3):
        service.advance(INTERVAL)

    assert upstream.batches == [[400], [6], [400], [5]]


def test_retry_of_what_failed_before_a_cancellation_has_a_fresh_set_of_attempts_too(
    hurried: Service, upstream: ScriptedUpstream
) -> None:
    ingestion_id = hurried.submit([400, 2, 3, 1])
    hurried.until_running([1])
    hurried.client.delete(f"/ingestions/{ingestion_id}")
    hurried.call(upstream.release)
    hurried.until_completed(ingestion_id)
    failures = iter([UpstreamUnavailable("again"), UpstreamUnavailable("and again")])
    upstream.answer = lambda item: next(failures, "at last")

    assert retry(hurried, ingestion_id).status_code == 200
    hurried.until_completed(ingestion_id)

    assert hurried.batch_statuses(ingestion_id) == ["completed", "completed"]


def test_retry_can_be_cancelled_even_after_an_earlier_cancellation(
    service: Service, upstream: ScriptedUpstream
) -> None:
    ingestion_id = service.submit([400, 2, 3, 4])
    service.until(lambda: service.batch_statuses(ingestion_id)[0] == "failed")
    for _ in range(2):
        service.client.delete(f"/ingestions/{ingestion_id}")
        assert service.batch_statuses(ingestion_id) == ["failed", "cancelled"]
        retry(service, ingestion_id)
        assert service.batch_statuses(ingestion_id) == ["triggered", "cancelled"]

    body = service.client.delete(f"/ingestions/{ingestion_id}").json()

    assert body["status"] == "completed"
    service.advance(INTERVAL)
    assert len(upstream.batches) == 1


@pytest.mark.parametrize("backend", DURABLE)
def test_retry_survives_a_restart(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, batch_interval=0, retry_base=0)
    upstream = ScriptedUpstream(answer)
    with serving(settings, upstream) as service:
        ingestion_id = service.submit([2, 400])
        service.until_completed(ingestion_id)
        service.client.post("/queue/pause")
        retry(service, ingestion_id)

    upstream.answer = lambda item: "at last"
    with serving(settings, upstream, ManualClock(60)) as service:
        assert service.status(ingestion_id)["status"] == "triggered"
        assert ids(service.results(ingestion_id)) == [2]
        service.client.post("/queue/resume")
        service.until_completed(ingestion_id)

        assert service.batch_statuses(ingestion_id) == ["completed"]
        assert [line["attempts"] for line in service.results(ingestion_id)] == [1, 1]
    assert upstream.batches == [[2, 400], [400]]


def test_retry_that_cannot_be_recorded_is_a_503_and_the_lines_stay(
    hurried: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingestion_id = hurried.submit([400, 2])
    hurried.until_completed(ingestion_id)
    before = hurried.results(ingestion_id), hurried.status(ingestion_id)
    divert(hurried.lane.journal, FailingJournal(hurried.lane.journal.append), monkeypatch)

    response = retry(hurried, ingestion_id)

    assert_problem(response, 503, "Nothing can be recorded now")
    assert response.headers["retry-after"] == "5"
    assert (hurried.results(ingestion_id), hurried.status(ingestion_id)) == before
