"""What monitoring is told, in the terms of Prometheus."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.clock import Clock
from sluice.durations import DurationsCollector
from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Interrupted,
    KeysExpired,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.history import History
from sluice.ingestion import NEVER
from sluice.journal.measured import MeasuredJournal
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.models import Priority

LATENESS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UPSTREAM = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60)
COMMIT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
REQUEST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

FROM_BEST_TO_WORST = ("completed", "retrying", "failed")

# A series beside each counter that tells when it began, which the process's start does for all of them.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Everything that is measured, in a registry of its own. Counts begin with the process."""

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._gauges = _Gauges(clock)
        self.registry.register(self._gauges)
        ProcessCollector(registry=self.registry)
        lane = ["lane"]
        self.starts = Counter(
            "sluice_batch_starts",
            "Batches started: first attempts, and retries.",
            [*lane, "attempt"],
            registry=self.registry,
        )
        self.batches = Counter(
            "sluice_batches",
            "Batches that ended, by the worst that came of their IDs.",
            [*lane, "outcome"],
            registry=self.registry,
        )
        self.ids = Counter(
            "sluice_ids", "IDs that were tried, by what came of it.", [*lane, "outcome"], registry=self.registry
        )
        self.holds = Counter(
            "sluice_holds", "Times that the upstream asked to be left alone.", lane, registry=self.registry
        )
        self.lateness = self._durations(
            "sluice_start_lateness_seconds", "How much later a batch started than it could have.", lane, LATENESS
        )
        self.upstream = self._durations(
            "sluice_upstream_seconds", "How long the upstream took for a batch.", lane, UPSTREAM
        )
        self.commits = self._durations(
            "sluice_journal_commit_seconds",
            "How long it took to record something, waiting for others included.",
            lane,
            COMMIT,
        )
        self.requests = self._durations(
            "sluice_http_request_seconds",
            "How long it took until the answer to a request began.",
            ["method", "route", "status"],
            REQUEST,
        )

    def watch(self, lane: Lane, history: History) -> None:
        """Measure a lane from now on."""
        counting = _LaneMetrics(self, lane, self._clock)
        lane.observers.append(counting)
        if not isinstance(lane.journal, MemoryJournal):  # where nothing is committed
            lane.journal = MeasuredJournal(lane.journal, self.commits.of(lane.name).observe)
        self._gauges.lanes.append((lane, history, counting.accepted))

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Measure a request: the template of its route, never its path, for there is no end to those."""
        self.requests.of(method, route, status).observe(seconds)

    def note_readiness(self, is_ready: bool) -> None:
        """Take note of whether work can be accepted."""
        self._gauges.is_ready = is_ready

    def _durations(self, name: str, text: str, labels: list[str], bounds: tuple[float, ...]) -> DurationsCollector:
        collector = DurationsCollector(name, text, labels, bounds)
        self.registry.register(collector)
        return collector

    def count_listeners(self, listeners: Callable[[], int]) -> None:
        """Tell how many listen to events, whenever that is asked for."""
        self._gauges.listeners = listeners


class _Gauges(Collector):
    """What is counted elsewhere, and looked up when it is asked for."""

    def __init__(self, clock: Clock) -> None:
        self.lanes: list[tuple[Lane, History, list[int]]] = []
        self.listeners: Callable[[], int] = lambda: 0
        self.is_ready = True
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        by_priority = ["lane", "priority"]
        accepted = CounterMetricFamily("sluice_ingestions_accepted", "Ingestions taken in.", labels=by_priority)
        backlog = GaugeMetricFamily("sluice_backlog_batches", "Batches that could start.", labels=by_priority)
        oldest = GaugeMetricFamily(
            "sluice_oldest_wait_seconds", "How long the first of those that wait has been waiting.", labels=by_priority
        )
        retrying = GaugeMetricFamily(
            "sluice_retrying_ingestions",
            "Ingestions with IDs that wait for their time to be tried again.",
            labels=["lane"],
        )
        used = GaugeMetricFamily(
            "sluice_utilisation_ratio", "The share of the permitted rate that was used lately.", labels=["lane"]
        )
        paused = GaugeMetricFamily("sluice_paused", "Whether an operator stopped the lane.", labels=["lane"])
        held = GaugeMetricFamily("sluice_held", "Whether the upstream asked to be left alone.", labels=["lane"])
        running = GaugeMetricFamily("sluice_running_batches", "Batches that the upstream is at.", labels=["lane"])
        now, time = self._clock.now(), self._clock.time()
        for lane, history, newcomers in self.lanes:
            lane.backlog.release(now)
            for priority in Priority:
                accepted.add_metric([lane.name, priority.name], newcomers[priority])
                backlog.add_metric([lane.name, priority.name], lane.waiting(priority))
                first = lane.backlog.slots[priority].first()
                wait = 0.0 if first is None else max(0.0, time - lane.by_seq[first].created_time)
                oldest.add_metric([lane.name, priority.name], wait)
            retrying.add_metric([lane.name], len(lane.backlog.delayed))
            if utilisation := history.utilisation(now):
                used.add_metric([lane.name], utilisation.share)
            paused.add_metric([lane.name], lane.paused is not None)
            held.add_metric([lane.name], lane.held is not None and lane.held.until > now)
            running.add_metric([lane.name], len(lane.running.parts) if lane.running else 0)
        listeners = GaugeMetricFamily("sluice_event_listeners", "Listeners to server-sent events.", self.listeners())
        ready = GaugeMetricFamily("sluice_ready", "Whether work can be accepted, as /readyz says.", self.is_ready)
        yield from (accepted, backlog, oldest, retrying, used, paused, held, running, listeners, ready)


class _LaneMetrics:
    """Looks on at a lane and measures."""

    def __init__(self, metrics: Metrics, lane: Lane, clock: Clock) -> None:
        self._lane = lane
        self._clock = clock
        name = lane.name
        self.accepted = [0 for _ in Priority]  # numbers, for a counter of Prometheus' takes a lock
        self._starts = [metrics.starts.labels(name, attempt) for attempt in ("first", "retry")]
        outcomes = (*FROM_BEST_TO_WORST, "interrupted")
        self._ids = {outcome: metrics.ids.labels(name, outcome) for outcome in FROM_BEST_TO_WORST}
        self._batches = {outcome: metrics.batches.labels(name, outcome) for outcome in outcomes}
        self._holds = metrics.holds.labels(name)
        self._lateness = metrics.lateness.of(name)
        self._upstream = metrics.upstream.of(name)
        self._parts = len(lane.running.parts) if lane.running else 0
        self._due = NEVER  # when the next batch could start, and when the one that runs could have
        self._running_due = NEVER
        self._look()

    def applied(self, event: Event) -> None:
        """Measure what an event tells."""
        match event:
            case Accepted():
                self.accepted[event.priority] += 1
                # What has to wait longer than for its slot, if there is anything, this one need not wait for.
                if self._due > self._lane.pace.ready_at:
                    self._look()
            case Started():
                for ingestion_id, positions in event.parts:
                    self._starts[self._lane.ingestions[ingestion_id].is_retry(positions)].inc()
                self._parts = len(event.parts)
                self._running_due, self._due = self._due, NEVER
            case Finished():
                self._finished(event)
                self._look()
            case Interrupted():
                self._batches["interrupted"].inc(self._parts)
                self._look()
            case Held():
                self._holds.inc()
                self._look()
            case Paused() | Resumed() | Cancelled() | Reprioritised() | Revived():
                self._look()
            case Expired() | KeysExpired():
                pass

    def restored(self) -> None:
        """Begin anew to look for what is late."""
        self._due = self._running_due = NEVER
        self._parts = len(self._lane.running.parts) if self._lane.running else 0
        self._look()

    def _look(self) -> None:
        """Note when the next batch can start; where it could have already, that stays."""
        if self._lane.running is not None:
            return
        now = self._clock.now()
        at = self._lane.next_start(now)
        if at > now or self._due > now:
            self._due = at

    def _finished(self, event: Finished) -> None:
        # By now the lane knows when the call came, where the batch ran in this process.
        started = self._lane.pace.last_start
        self._upstream.observe(max(0.0, event.at - started))
        if self._running_due < NEVER:
            self._lateness.observe(max(0.0, started - self._running_due))
        for part in event.parts:
            statuses = [outcome.status for outcome in part.outcomes]
            for status in statuses:
                self._ids[status].inc()
            self._batches[max(statuses, key=FROM_BEST_TO_WORST.index)].inc()
