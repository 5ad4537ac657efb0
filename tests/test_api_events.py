"""Server-sent events over HTTP."""

import asyncio
import json
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest

from sluice.api.streams import Streams
from sluice.keys import Role, make_key
from sluice.problem import ProblemError
from sluice.settings import Settings
from sluice.stream import Stream
from tests.api import INTERVAL, ScriptedUpstream, Service, assert_problem, serving
from tests.lanes import lanes_settings, serving_both

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class Told(NamedTuple):
    """An event as it came."""

    event_id: str
    kind: str
    data: dict[str, Any]


def events(response: httpx.Response) -> list[Told]:
    """Take a stream apart (HTML, section 9.2.6); comments are passed over."""
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    told = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            told.append(Told(fields["id"], fields["event"], json.loads(fields["data"])))
    return told


def listen(service: Service, path: str = "/events", last_event_id: str | None = None) -> "Future[httpx.Response]":
    """Listen beside the test until the stream ends; return once it is listened to."""
    stream: Stream = service.client.app_state["stream"]
    before = stream.listeners
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    future = service.aside(lambda: service.client.get(path, headers=headers))
    service.until(lambda: stream.listeners > before or future.done())
    return future


def end(service: Service, future: "Future[httpx.Response]") -> list[Told]:
    """Have the server stop; return what a listener heard."""
    service.call(service.lanes.close)
    return events(future.result(timeout=10))


def kinds(told: list[Told]) -> list[str]:
    return [each.kind for each in told]


def test_everything_is_told_until_the_server_stops(service: Service) -> None:
    future = listen(service)
    ingestion_id = service.submit([2, 3], "HIGH")
    service.until_completed(ingestion_id)
    service.client.post("/queue/pause", json={"reason": "why not"})
    service.client.post("/queue/resume")

    told = end(service, future)

    assert kinds(told) == ["reset", "accepted", "started", "finished", "paused", "resumed"]
    assert {each.data["lane"] for each in told[1:]} == {"default"}
    assert [each.data["ingestion_id"] for each in told[1:4]] == [ingestion_id] * 3
    assert told[3].data["status"] == "completed"
    assert len({each.event_id for each in told}) == len(told)


def test_stream_of_an_ingestion_ends_with_its_completion(service: Service, upstream: ScriptedUpstream) -> None:
    service.submit([1])
    service.until_running([1])
    ingestion_id = service.submit([2, 3, 4, 5])
    future = listen(service, f"/events/{ingestion_id}")
    service.submit([6])
    service.call(upstream.release)
    for _ in range(3):
        service.advance(INTERVAL)

    told = events(future.result(timeout=10))

    assert kinds(told) == ["reset", "started", "finished", "started", "finished"]
    assert {each.data["ingestion_id"] for each in told} == {ingestion_id}
    assert told[0].data["progress"]["yet_to_start"] == 2
    assert told[-1].data["status"] == "completed"


def test_who_comes_back_hears_what_was_missed_and_once_all_is_heard_there_is_no_content(service: Service) -> None:
    earlier = service.submit([4])
    service.until_completed(earlier)
    (reset,) = events(service.client.get(f"/events/{earlier}"))
    assert (reset.kind, reset.data["status"]) == ("reset", "completed")
    ingestion_id = service.submit([2, 3])
    service.advance(INTERVAL)
    service.until_completed(ingestion_id)
    path = f"/events/{ingestion_id}"

    missed = events(service.client.get(path, headers={"Last-Event-ID": reset.event_id}))
    again = service.client.get(path, headers={"Last-Event-ID": missed[-1].event_id})

    assert kinds(missed) == ["accepted", "started", "finished"]
    assert (again.status_code, again.content) == (204, b"")


def test_proxies_are_told_to_pass_events_on_at_once_and_keep_none(service: Service) -> None:
    ingestion_id = service.submit([2])
    service.until_completed(ingestion_id)

    headers = service.client.get(f"/events/{ingestion_id}").headers

    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


def test_quiet_stream_has_a_heartbeat(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.api.streams.HEARTBEAT", 0.01)
    future = listen(service)
    service.call(asyncio.sleep, 0.05)
    service.call(service.lanes.close)

    assert "\n\n: ping\n\n" in future.result(timeout=10).text


def test_one_key_has_so_many_streams_open_and_others_have_theirs() -> None:
    made = {name: make_key(name, Role.READ) for name in ("rita", "eve")}
    api_keys = ",".join(entry for _, entry in made.values())
    rita, eve = ({"X-API-Key": secret} for secret, _ in made.values())
    with serving(Settings(api_keys=api_keys, max_streams=2, shutdown_grace=0)) as service:
        stream: Stream = service.client.app_state["stream"]
        futures = [service.aside(lambda: service.client.get("/events", headers=rita)) for _ in range(2)]
        service.until(lambda: stream.listeners == 2)

        refused = service.client.get("/events", headers=rita)
        other = service.aside(lambda: service.client.get("/events", headers=eve))
        service.until(lambda: stream.listeners == 3)

        assert_problem(refused, 429, "2 streams are open with this key")
        assert refused.headers["retry-after"] == "5"
        service.call(service.lanes.close)
        assert [each.result(timeout=10).status_code for each in [*futures, other]] == [200] * 3
        assert service.client.get("/events", headers=rita).status_code == 200


def test_followed_results_are_streams_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streams, "begin", full)
    ingestion_id = service.submit([1, 2])

    assert_problem(service.client.get(f"/results/{ingestion_id}?follow=true"), 429, "full")
    assert service.client.get(f"/results/{ingestion_id}").status_code == 200


def full(streams: Streams, caller: str) -> None:
    raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, "full")


def test_stream_ends_with_the_session_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.api.streams.HEARTBEAT", 0.01)
    secret, api_keys = make_key("rita", Role.READ)
    with serving(Settings(api_keys=api_keys, session_ttl=60, shutdown_grace=0)) as service:
        service.client.post("/session", json={"key": secret})
        future = listen(service)
        service.advance(59)
        assert not future.done()

        service.advance(3)

        assert kinds(events(future.result(timeout=10))) == ["reset"]


@pytest.mark.parametrize("ingestion_id", [UNKNOWN, "x", "", UNKNOWN.upper() + "0"])
def test_unknown_ingestion_is_a_404(service: Service, ingestion_id: str) -> None:
    response = service.client.get(f"/events/{ingestion_id}")

    assert_problem(response, 404, "No ingestion" if ingestion_id else "Nothing is at")


def test_unknown_lane_is_a_422(service: Service) -> None:
    assert_problem(service.client.get("/events?lane=nowhere"), 422, "lane: ")


def test_lane_is_listened_to_alone_and_all_together(tmp_path: Path) -> None:
    with serving_both(lanes_settings("memory", tmp_path)) as both:
        service = both.service
        of_maps, of_all = listen(service, "/events?lane=maps"), listen(service)
        service.until_completed(service.submit([2]), service.submit([102], lane="maps"))

        service.call(service.lanes.close)

        assert {each.data["lane"] for each in events(of_maps.result(timeout=10))} == {"maps"}
        assert {each.data["lane"] for each in events(of_all.result(timeout=10))} == {None, "default", "maps"}
