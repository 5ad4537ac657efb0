"""Collecting what the upstream answered."""

import json
from concurrent.futures import Future
from pathlib import Path

import pytest

from sluice.settings import Settings
from sluice.upstream import UpstreamError
from tests.api import (
    BACKENDS,
    DURABLE,
    INTERVAL,
    PATIENCE,
    ManualClock,
    ScriptedUpstream,
    Service,
    assert_problem,
    serving,
    settings_for,
    utc,
)
from tests.api_steps import answer, ids


def follow(service: Service, ingestion_id: str) -> "Future[str]":
    return service.aside(lambda: service.client.get(f"/results/{ingestion_id}?follow=true").text)


def seen(service: Service) -> list[int]:
    """Return the IDs in the lines that have been sent since the service was started."""
    return ids(b"".join(service.wiretap.pieces).decode())


# Lines


def test_results_are_json_lines_in_batch_order(service: Service) -> None:
    ingestion_id = service.submit([7, 5, 7, 6])
    service.until(lambda: len(service.results(ingestion_id)) == 3)
    service.advance(INTERVAL)
    service.until_completed(ingestion_id)

    response = service.client.get(f"/results/{ingestion_id}")

    batch_ids = [batch["batch_id"] for batch in service.status(ingestion_id)["batches"]]
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("}\n")
    assert [json.loads(line) for line in response.text.splitlines()] == [
        {
            "id": item,
            "batch_id": batch_id,
            "status": "completed",
            "data": {"id": item, "data": "processed"},
            "attempts": 1,
            "finished_at": utc(at),
        }
        for item, batch_id, at in zip([7, 5, 7, 6], [batch_ids[0]] * 3 + batch_ids[1:], [0, 0, 0, 5], strict=True)
    ]


def test_failed_id_has_its_error_and_its_attempts_in_place_of_data(hurried: Service) -> None:
    ingestion_id = hurried.submit([400, 2, 500])
    hurried.until_completed(ingestion_id)

    fatal, fine, exhausted = hurried.results(ingestion_id)

    assert "data" not in fatal
    assert "error" not in fine
    assert (fatal["status"], fatal["error"], fatal["attempts"]) == ("failed", "ID 400: answered 404", 1)
    assert (fine["status"], fine["data"], fine["attempts"]) == ("completed", {"id": 2, "data": "processed"}, 1)
    assert (exhausted["status"], exhausted["error"], exhausted["attempts"]) == ("failed", "ID 500: answered 500", 3)
    assert hurried.status(ingestion_id)["batches"][0]["failed"] == [
        {"id": 400, "error": "ID 400: answered 404", "attempts": 1},
        {"id": 500, "error": "ID 500: answered 500", "attempts": 3},
    ]


@pytest.mark.parametrize("data", [None, 0, False, "", "text\n\u2028☕", [], {"a": [1.5, None]}, 'a "quote" \\'])
def test_data_is_whatever_json_the_upstream_answered_on_one_line(
    hurried: Service, upstream: ScriptedUpstream, data: object
) -> None:
    upstream.answer = lambda item: data
    ingestion_id = hurried.submit([2])
    hurried.until_completed(ingestion_id)

    text = hurried.client.get(f"/results/{ingestion_id}").text

    assert text.count("\n") == 1
    assert json.loads(text)["data"] == data


@pytest.mark.parametrize("text", ["answered\n☕", "answered \x00", "answered \ud800"])
def test_error_is_recorded_whatever_characters_it_has(hurried: Service, upstream: ScriptedUpstream, text: str) -> None:
    upstream.answer = lambda item: UpstreamError(text)
    ingestion_id = hurried.submit([2])
    hurried.until_completed(ingestion_id)

    (line,) = hurried.results(ingestion_id)

    assert (line["status"], line["error"][:8]) == ("failed", "answered")


@pytest.mark.parametrize("backend", BACKENDS)
def test_answer_over_the_limit_fails_its_id(backend: str, tmp_path: Path) -> None:
    with serving(settings_for(backend, tmp_path, max_result_bytes=10), ScriptedUpstream(lambda item: "x" * item)) as it:
        ingestion_id = it.submit([8, 9])
        it.until_completed(ingestion_id)

        fits, too_large = it.results(ingestion_id)

    assert fits["data"] == "x" * 8
    assert (too_large["status"], too_large["attempts"]) == ("failed", 1)
    assert "10 bytes" in too_large["error"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_simulated_upstream_answers_that_it_processed_the_id(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, upstream_delay=0)
    with serving(settings, simulated=True) as service:
        ingestion_id = service.submit([4, 2])
        service.until_completed(ingestion_id)

        assert [line["data"] for line in service.results(ingestion_id)] == [
            {"id": 4, "data": "processed"},
            {"id": 2, "data": "processed"},
        ]


def test_what_has_not_finished_has_no_line(service: Service, upstream: ScriptedUpstream) -> None:
    running, waiting = service.submit([1, 2, 3, 4]), service.submit([5])
    service.until_running([1, 2, 3])

    assert service.results(running) == service.results(waiting) == []

    service.client.delete(f"/ingestions/{running}")
    service.call(upstream.release)
    service.until_completed(running)
    assert ids(service.results(running)) == [1, 2, 3]


def test_id_that_will_be_tried_again_has_no_line_yet(service: Service) -> None:
    ingestion_id = service.submit([2, 500, 3])
    service.until(lambda: "retrying" in service.status(ingestion_id)["batches"][0])

    assert ids(service.results(ingestion_id)) == [2, 3]
    assert service.status(ingestion_id)["batches"][0]["retrying"] == [
        {"id": 500, "error": "ID 500: answered 500", "attempts": 1}
    ]
    service.advance(INTERVAL)
    service.advance(INTERVAL)
    service.until_completed(ingestion_id)
    assert ids(service.results(ingestion_id)) == [2, 500, 3]


@pytest.mark.parametrize("ingestion_id", ["1", "x" * 3000, "%00", "00000000-0000-4000-8000-000000000000"])
def test_results_of_an_unknown_id_are_a_404(service: Service, ingestion_id: str) -> None:
    assert_problem(service.client.get(f"/results/{ingestion_id}"), 404, "unknown or expired")
    assert_problem(service.client.get(f"/results/{ingestion_id}?follow=true"), 404, "unknown or expired")


def test_follow_that_is_no_claim_is_a_422(service: Service) -> None:
    assert_problem(service.client.get(f"/results/{service.submit([2])}?follow=x"), 422, "follow")


def test_large_results_are_sent_in_pieces(tmp_path: Path, settings: Settings) -> None:
    large = settings.model_copy(update={"batch_interval": 0.0, "batch_size": 1000})
    with serving(large) as service:
        ingestion_id = service.submit(range(1, 10_001))
        service.until_completed(ingestion_id)
        service.wiretap.pieces.clear()

        lines = service.results(ingestion_id)

        assert ids(lines) == list(range(1, 10_001))
        assert len(service.wiretap.pieces) >= 10
        assert max(map(len, service.wiretap.pieces)) < 250_000


@pytest.mark.parametrize("backend", DURABLE)
def test_results_survive_a_restart(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, batch_interval=0, retry_base=0)
    with serving(settings, ScriptedUpstream(answer)) as service:
        ingestion_id = service.submit([2, 400, 3, 500, 4])
        service.until_completed(ingestion_id)
        before = service.results(ingestion_id), service.status(ingestion_id)

    with serving(settings, ScriptedUpstream(answer), ManualClock(60)) as service:
        assert (service.results(ingestion_id), service.status(ingestion_id)) == before


# Following


def test_follow_sends_each_line_when_its_turn_is_over_and_ends_with_the_ingestion(service: Service) -> None:
    ingestion_id = service.submit([2, 3, 4, 5, 6, 7, 8])

    text = follow(service, ingestion_id)

    service.until(lambda: seen(service) == [2, 3, 4])
    service.advance(INTERVAL)
    service.until(lambda: seen(service) == [2, 3, 4, 5, 6, 7])
    assert not text.done()
    service.advance(INTERVAL)
    assert ids(text.result(PATIENCE)) == [2, 3, 4, 5, 6, 7, 8]


def test_follow_keeps_batch_order_when_an_id_is_tried_again_later(service: Service) -> None:
    ingestion_id = service.submit([2, 500, 3, 4])

    text = follow(service, ingestion_id)

    service.until(lambda: seen(service) == [2])
    for _ in range(3):
        service.advance(INTERVAL)
    assert ids(text.result(PATIENCE)) == [2, 500, 3, 4]


def test_follow_of_what_is_completed_ends_at_once(hurried: Service) -> None:
    ingestion_id = hurried.submit([2, 400])
    hurried.until_completed(ingestion_id)

    followed = hurried.client.get(f"/results/{ingestion_id}?follow=true")

    assert followed.text == hurried.client.get(f"/results/{ingestion_id}").text


def test_follow_ends_when_the_ingestion_is_cancelled(service: Service, upstream: ScriptedUpstream) -> None:
    service.submit([1])
    ingestion_id = service.submit([2, 3])
    text = follow(service, ingestion_id)

    service.client.delete(f"/ingestions/{ingestion_id}")

    assert text.result(PATIENCE) == ""


def test_follow_of_a_cancelled_ingestion_waits_for_its_running_batch(
    service: Service, upstream: ScriptedUpstream
) -> None:
    ingestion_id = service.submit([1, 2, 3, 4])
    service.until_running([1, 2, 3])
    text = follow(service, ingestion_id)

    service.client.delete(f"/ingestions/{ingestion_id}")
    service.call(upstream.release)

    assert ids(text.result(PATIENCE)) == [1, 2, 3]
