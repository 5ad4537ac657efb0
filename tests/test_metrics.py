"""What is measured, in virtual time."""

import asyncio
from collections.abc import Sequence

import pytest
from fastapi.testclient import TestClient
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sluice import control
from sluice.dispatcher import Dispatcher, Limits
from sluice.history import History
from sluice.ingestion import Batch
from sluice.journal.measured import MeasuredJournal
from sluice.metrics import Metrics
from sluice.models import Priority
from sluice.retry import RetryPolicy
from sluice.settings import Settings
from sluice.upstream import UpstreamError, UpstreamUnavailable
from tests.api import Service
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop


class Measured(Bench):
    """A bench that is watched."""

    def watch(self) -> "Measured":
        self.metrics = Metrics(self.clock)
        self.metrics.watch(self.lane, History(self.lane, self.clock))
        return self

    def resume(self) -> None:
        """Start another dispatcher after `stop`."""
        self._stopping.clear()
        self.start()

    def value(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(name, {"lane": "default", **labels})
        assert value is not None, name
        return value


def bench(loop: VirtualLoop, upstream: RecordingUpstream, **options: object) -> Measured:
    measured = Measured(loop, upstream, **options).watch()  # type: ignore[arg-type]
    measured.start()
    return measured


async def quick(batch: Batch) -> None:
    await asyncio.sleep(1)


def test_backlog_and_oldest_wait_are_told_by_priority(loop: VirtualLoop) -> None:
    measured = bench(loop, RecordingUpstream(quick))
    measured.submit([1, 2, 3, 4], Priority.LOW)
    loop.advance(2)
    measured.submit([5], Priority.HIGH)
    loop.advance(1)

    assert measured.value("sluice_backlog_batches", priority="LOW") == 1
    assert measured.value("sluice_backlog_batches", priority="HIGH") == 1
    assert measured.value("sluice_backlog_batches", priority="MEDIUM") == 0
    assert measured.value("sluice_oldest_wait_seconds", priority="LOW") == pytest.approx(3, abs=TICK)
    assert measured.value("sluice_oldest_wait_seconds", priority="HIGH") == pytest.approx(1, abs=TICK)
    assert measured.value("sluice_oldest_wait_seconds", priority="MEDIUM") == 0
    assert measured.value("sluice_ingestions_accepted_total", priority="LOW") == 1


def test_oldest_wait_is_that_of_the_first_which_still_waits(loop: VirtualLoop) -> None:
    measured = bench(loop, RecordingUpstream(quick))
    first = measured.submit([1], Priority.LOW)
    loop.advance(1)
    second = measured.submit([2], Priority.LOW)
    loop.advance(1)
    measured.submit([3], Priority.LOW)

    measured.decide(lambda: control.cancel(second, measured.clock.time()))

    assert first.is_done
    assert measured.value("sluice_oldest_wait_seconds", priority="LOW") == pytest.approx(0, abs=TICK)


def test_batches_and_ids_are_counted_by_what_came_of_them(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> Sequence[object]:
        answers = {2: UpstreamError("no"), 3: UpstreamUnavailable("later")}
        return [answers.get(each, each) for each in batch.ids]

    retry = RetryPolicy(attempts=2, base=1.0, longest=60.0, longest_hold=600.0, draw=lambda: 1.0)
    measured = bench(loop, RecordingUpstream(behave), retry=retry)
    measured.submit([1, 2, 3, 4, 5, 6, 3], Priority.HIGH)
    loop.advance(60)

    assert {each: measured.value("sluice_ids_total", outcome=each) for each in ("completed", "failed", "retrying")} == {
        "completed": 4,
        "failed": 3,
        "retrying": 2,
    }
    assert measured.value("sluice_batches_total", outcome="completed") == 1
    assert measured.value("sluice_batches_total", outcome="failed") == 3
    assert measured.value("sluice_batches_total", outcome="retrying") == 1
    assert measured.value("sluice_batch_starts_total", attempt="first") == 3
    assert measured.value("sluice_batch_starts_total", attempt="retry") == 2


def test_hold_and_pause_are_told_while_they_last(loop: VirtualLoop) -> None:
    asked = iter([UpstreamUnavailable("busy", retry_after=30.0)])

    async def behave(batch: Batch) -> None:
        for error in asked:
            raise error

    measured = bench(loop, RecordingUpstream(behave))
    measured.submit([1], Priority.HIGH)
    loop.advance(10)
    during = measured.value("sluice_held"), measured.value("sluice_retrying_ingestions")
    measured.decide(lambda: control.pause(measured.lane, measured.clock.time(), ""))
    paused = measured.value("sluice_paused")
    measured.decide(lambda: control.resume(measured.lane))
    loop.advance(60)

    assert (during, paused) == ((1, 1), 1)
    assert (measured.value("sluice_held"), measured.value("sluice_paused")) == (0, 0)
    assert measured.value("sluice_retrying_ingestions") == 0
    assert measured.value("sluice_holds_total") == 1


def test_upstream_and_lateness_are_measured_batch_by_batch(loop: VirtualLoop) -> None:
    measured = bench(loop, RecordingUpstream(quick))
    measured.submit([1, 2, 3, 4, 5, 6], Priority.HIGH)
    loop.advance(30)
    measured.submit([7], Priority.HIGH)
    loop.advance(30)

    assert measured.value("sluice_upstream_seconds_count") == 3
    assert measured.value("sluice_upstream_seconds_sum") == pytest.approx(3, abs=3 * TICK)
    assert measured.value("sluice_start_lateness_seconds_count") == 3
    assert measured.value("sluice_start_lateness_seconds_sum") == pytest.approx(0, abs=3 * TICK)


def test_start_that_comes_late_is_measured_as_late_as_it_came(loop: VirtualLoop) -> None:
    measured = Measured(loop, RecordingUpstream(quick)).watch()
    measured.submit([1], Priority.HIGH)
    loop.advance(3)

    measured.start()
    loop.advance(10)

    assert measured.value("sluice_start_lateness_seconds_sum") == pytest.approx(3, abs=2 * TICK)


def test_lateness_of_a_newcomer_counts_though_another_ingestion_waits_out_its_backoff(loop: VirtualLoop) -> None:
    async def behave(batch: Batch) -> None:
        raise UpstreamUnavailable("later")

    retry = RetryPolicy(attempts=2, base=60.0, longest=60.0, longest_hold=600.0, draw=lambda: 1.0)
    measured = bench(loop, RecordingUpstream(behave), retry=retry)
    measured.submit([1], Priority.HIGH)
    loop.advance(10)
    measured.stop()
    measured.submit([2], Priority.HIGH)
    loop.advance(3)

    measured.dispatcher = Dispatcher(measured.lane, RecordingUpstream(quick), measured.clock, retry, Limits(30.0, 1000))
    measured.resume()
    loop.advance(2)

    assert measured.value("sluice_start_lateness_seconds_sum") == pytest.approx(3, abs=3 * TICK)


@pytest.mark.parametrize("stop", ["pause", "hold", "overrun", "idle"])
def test_start_that_had_to_wait_is_not_late(loop: VirtualLoop, stop: str) -> None:
    async def behave(batch: Batch) -> None:
        if stop == "hold" and len(upstream.calls) == 1:
            raise UpstreamUnavailable("busy", retry_after=30.0)
        await asyncio.sleep(20 if stop == "overrun" else 1)

    upstream = RecordingUpstream(behave)
    measured = bench(loop, upstream)
    measured.submit([1, 2, 3] if stop == "idle" else [1, 2, 3, 4], Priority.HIGH)
    loop.advance(2)
    if stop == "pause":
        measured.decide(lambda: control.pause(measured.lane, measured.clock.time(), ""))
        loop.advance(20)
        measured.decide(lambda: control.resume(measured.lane))
    loop.advance(50)
    if stop == "idle":
        measured.submit([5], Priority.LOW)
    loop.advance(50)

    assert len(upstream.calls) >= 2
    assert measured.value("sluice_start_lateness_seconds_count") == len(upstream.calls)
    assert measured.value("sluice_start_lateness_seconds_sum") == pytest.approx(0, abs=len(upstream.calls) * TICK)


def test_utilisation_is_that_of_the_history(loop: VirtualLoop) -> None:
    measured = bench(loop, RecordingUpstream(quick))
    measured.submit([1], Priority.HIGH)
    loop.advance(10)

    assert measured.value("sluice_utilisation_ratio") == pytest.approx(0.5, abs=1e-4)


def test_only_what_is_recorded_counts_as_a_commit(loop: VirtualLoop) -> None:
    measured = Measured(loop, RecordingUpstream(quick))
    seconds: list[float] = []
    measured.lane.journal = MeasuredJournal(measured.lane.journal, seconds.append)
    measured.submit([1], Priority.HIGH)
    measured.decide(list)
    measured.decide(lambda: control.pause(measured.lane, measured.clock.time(), ""))

    assert len(seconds) == 2


def samples(client: TestClient) -> dict[tuple[str, str, str], float]:
    """Return how many requests there were by method, route and status."""
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "sluice_http_request_seconds_count"
    }


def test_requests_are_counted_by_the_template_of_their_route(client: TestClient) -> None:
    client.post("/ingest", json={"ids": [2], "priority": "LOW"})
    client.post("/ingest", content=b"{", headers={"Content-Type": "application/json"})
    for number in range(3):
        client.get(f"/status/{number}")
        client.get(f"/nowhere/{number}")
    for method in ("PUT", "BREW", "STIR"):
        client.request(method, "/queue")

    assert samples(client) == {
        ("POST", "/ingest", "200"): 1,
        ("POST", "/ingest", "400"): 1,
        ("GET", "/status/{ingestion_id}", "404"): 3,
        ("unmatched", "unmatched", "404"): 3,
        ("PUT", "/queue", "405"): 1,
        ("unmatched", "/queue", "405"): 2,
    }


def test_request_that_a_bug_ends_is_counted_as_a_500(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.api.queue.lane_of", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        client.get("/queue")

    assert samples(client)["GET", "/queue", "500"] == 1


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("text/plain;version=none", "text/plain"),
    ],
)
def test_format_is_the_one_that_is_asked_for(client: TestClient, accept: str, media_type: str) -> None:
    response = client.get("/metrics", headers={"Accept": accept})

    assert response.headers["content-type"].startswith(media_type)
    assert response.text.rstrip().endswith("# EOF") == ("openmetrics" in media_type)


def test_registries_of_two_services_know_nothing_of_each_other(loop: VirtualLoop) -> None:
    one, other = bench(loop, RecordingUpstream(quick)), bench(loop, RecordingUpstream(quick))
    one.submit([1], Priority.HIGH)

    assert one.value("sluice_ingestions_accepted_total", priority="HIGH") == 1
    assert other.value("sluice_ingestions_accepted_total", priority="HIGH") == 0
    assert b"sluice_ingestions_accepted_total" in generate_latest(other.metrics.registry)


def test_service_measures_on_every_backend_and_commits_where_there_are_any(
    service: Service, settings: Settings
) -> None:
    service.submit([1, 2, 3, 4], "HIGH")
    service.until_running([1, 2, 3])

    text = service.client.get("/metrics").text

    assert 'sluice_backlog_batches{lane="default",priority="HIGH"} 1.0' in text
    assert 'sluice_running_batches{lane="default"} 1.0' in text
    assert ("sluice_journal_commit_seconds_count" in text) == (settings.database_url is not None)
