"""FileJournal: whatever happened, a lane comes back from its file as it was."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sluice import control
from sluice.events import Event, Expired, Finished, Held, Idempotency, Interrupted, KeysExpired, Outcome, Started
from sluice.ingestion import INTERRUPTED, Ingestion
from sluice.lane import Lane
from sluice.models import Priority
from sluice.pace import START_BUDGET, Pace
from sluice.retry import RetryPolicy
from sluice.upstream import Answer, UpstreamError, UpstreamUnavailable
from tests.sqlite import INTERVAL, FileJournal, SteppedClock, crash

DISTANT = 1e12
ANSWERS: dict[str, Answer] = {
    "done": b'"done"',
    "refused": UpstreamError("answered 404"),
    "down": UpstreamUnavailable("answered 500"),
    "busy": UpstreamUnavailable("answered 429", 30.0),
}
EIGHTHS = st.integers(0, 8_000).map(lambda eighths: eighths / 8)  # seconds, such that sums are exact


def view_of(ingestion: Ingestion) -> tuple[object, ...]:
    """Return all there is to know of an ingestion, but for when its IDs are tried again."""
    return (
        *(ingestion.ingestion_id, ingestion.priority, ingestion.created_time, ingestion.seq, ingestion.batch_size),
        *(ingestion.ids, ingestion.started, ingestion.is_cancelled, ingestion.gives_up, ingestion.finished_time),
        *(ingestion.in_flight, ingestion.weight),
        *(ingestion.open, ingestion.troubles, ingestion.failed_batches, ingestion.batch_counts(), ingestion.status),
        sorted([*ingestion.ready, *(position for _, position in ingestion.delayed)]),
        [ingestion.batch_status(index) for index in range(ingestion.total)],
        [ingestion.has_ended(position) for position in range(len(ingestion.ids))],
    )


def drained(lane: Lane) -> list[tuple[str, tuple[int, ...]]]:
    """Return in which order all that waits would start, by applying just that, unrecorded."""
    order = []
    while batch := lane.next_batch(DISTANT):
        order.append((batch.ingestion_id, batch.positions))
        lane.apply(Started(batch.ingestion_id, batch.positions, 0.0))
        lane.apply(Finished(batch.ingestion_id, tuple(Outcome(each, 1, b"1") for each in batch.positions), 0.0, 0.0))
    return order


def view(lane: Lane) -> dict[str, object]:
    """Return all that a lane must come back with, but for monotonic times. Uses up what waits."""
    lane.backlog.release(DISTANT)
    ends = {(each.finished_time, each.ingestion_id) for each in lane.ingestions.values()}
    return {
        "ingestions": {each.ingestion_id: view_of(each) for each in lane.ingestions.values()},
        "by_seq": [(seq, each.ingestion_id) for seq, each in lane.by_seq.items()],
        "finished": {each for each in lane.finished if each in ends},
        "keys": dict(lane.keys).copy(),
        "held": lane.held and lane.held.reason,
        "paused": lane.paused,
        "waiting": [lane.waiting(priority) for priority in Priority],
        "order": drained(lane),
    }


class Restarts(RuleBasedStateMachine):
    """A lane under random events; at random points it is left, or killed, and another takes up its file."""

    @initialize(batch_size=st.integers(1, 3))
    def build(self, batch_size: int) -> None:
        self.folder = TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.files = 0
        self.batch_size = batch_size
        self.clock = SteppedClock()
        self.recorded = self.clock.at
        self.last_start: float | None = None
        self.dues: dict[tuple[str, int], float] = {}
        self.results: dict[str, dict[int, tuple[object, ...]]] = {}
        self.expired_seqs: set[int] = set()
        self.retry = RetryPolicy(attempts=3, base=4.0, longest=60.0, longest_hold=20.0, draw=lambda: 0.5)
        self.open()

    def open(self) -> None:
        self.journal = FileJournal(self.path, self.clock)
        self.lane = Lane(self.journal, Pace(INTERVAL), self.batch_size)

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / f"{self.files}.db"

    def record(self, *events: Event) -> None:
        self.runner.run(self.lane.record(*events))

    def pick(self, number: int) -> Ingestion | None:
        jobs = list(self.lane.by_seq.values())
        return jobs[number % len(jobs)] if jobs else None

    @rule(count=st.integers(1, 8), priority=st.sampled_from(Priority), key=st.none() | st.sampled_from("abc"))
    def submit(self, count: int, priority: Priority, key: str | None) -> None:
        idempotency = key and Idempotency(key, bytes([count]))
        accepted = self.lane.accept(range(1, count + 1), priority, self.clock.time(), idempotency or None)
        assert accepted.created_time >= max((job.created_time for job in self.lane.ingestions.values()), default=0)
        assert accepted.seq > max(self.expired_seqs | self.lane.by_seq.keys(), default=-1)
        self.record(accepted)
        self.results[accepted.ingestion_id] = {}

    @precondition(lambda self: self.lane.running is None)
    @rule()
    def start(self) -> None:
        if batch := self.lane.next_batch(self.clock.at):
            self.record(Started(batch.ingestion_id, batch.positions, self.clock.at))
            self.recorded = self.last_start = self.clock.at

    @precondition(lambda self: self.lane.running is not None)
    @rule(kinds=st.lists(st.sampled_from([*ANSWERS]), min_size=3, max_size=3))
    def finish(self, kinds: Sequence[str]) -> None:
        assert self.lane.running
        ingestion_id, positions, *_ = self.lane.running
        answers = [ANSWERS[kind] for kind in kinds[: len(positions)]]
        outcomes = self.retry.outcomes(self.lane.ingestions[ingestion_id], positions, answers, self.clock.at)
        events: list[Event] = [Finished(ingestion_id, outcomes, self.clock.at, self.clock.time())]
        if hold := self.retry.hold(answers):
            events.append(Held(self.clock.at + hold.seconds, hold.reason))
        self.record(*events)
        self.recorded = self.clock.at
        for position, attempts, data, error, retry_at in outcomes:
            if retry_at is None:
                self.results[ingestion_id][position] = (attempts, data, error, self.clock.time())
            else:
                self.dues[ingestion_id, position] = retry_at

    @precondition(lambda self: self.lane.running is not None)
    @rule()
    def interrupt(self) -> None:
        assert self.lane.running
        ingestion_id, positions, *_ = self.lane.running
        self.record(Interrupted(self.clock.at))
        self.recorded = self.clock.at
        self.dues |= {(ingestion_id, position): self.clock.at for position in positions}

    @precondition(lambda self: self.lane.running is None)
    @rule(slots=st.lists(st.tuples(EIGHTHS, st.lists(st.sampled_from([*ANSWERS]), min_size=3, max_size=3)), max_size=6))
    def work(self, slots: Sequence[tuple[float, Sequence[str]]]) -> None:
        """Start and finish several batches, time passing meanwhile."""
        for seconds, kinds in slots:
            self.start()
            self.pass_time(seconds)
            if self.lane.running:
                self.finish(kinds)

    @rule(number=st.integers(0))
    def cancel(self, number: int) -> None:
        if job := self.pick(number):
            given_up = job.given_up() if control.cancel(job, self.clock.time()) else ()
            self.record(*control.cancel(job, self.clock.time()))
            for position, attempts, data, error, _ in given_up:
                self.results[job.ingestion_id][position] = (attempts, data, error, self.clock.time())

    @rule(number=st.integers(0), priority=st.sampled_from(Priority))
    def reprioritise(self, number: int, priority: Priority) -> None:
        if (job := self.pick(number)) and not job.is_done:
            self.record(*control.reprioritise(job, priority))

    @rule(number=st.integers(0))
    def revive(self, number: int) -> None:
        if (job := self.pick(number)) and (failed := [*job.failures()]):
            self.record(*control.revive(job))
            for position in failed:
                self.dues[job.ingestion_id, position] = -DISTANT
                del self.results[job.ingestion_id][position]

    @rule(is_pause=st.booleans(), reason=st.text(max_size=5))
    def pause_or_resume(self, is_pause: bool, reason: str) -> None:
        self.record(*(control.pause(self.lane, self.clock.time(), reason) if is_pause else control.resume(self.lane)))

    @rule(number=st.integers(0))
    def expire(self, number: int) -> None:
        if (job := self.pick(number)) and job.is_done:
            self.record(Expired(job.ingestion_id))
            del self.results[job.ingestion_id]
            self.expired_seqs.add(job.seq)

    @rule(age=st.integers(-10, 1000))
    def expire_keys(self, age: int) -> None:
        self.record(KeysExpired(self.clock.time() - age))

    @rule()
    def sweep(self) -> None:
        while self.runner.run(self.journal.sweep()):
            pass
        self.expired_seqs.clear()

    @rule(seconds=EIGHTHS)
    def pass_time(self, seconds: float) -> None:
        self.clock.at += seconds
        self.clock.wall += seconds

    @rule(hours=st.integers(-48, 48))
    def set_the_wall_clock(self, hours: int) -> None:
        self.clock.wall += hours * 3600.0

    @rule(is_killed=st.booleans(), reboots_at=st.none() | EIGHTHS, downtime=EIGHTHS)
    def restart(self, is_killed: bool, reboots_at: float | None, downtime: float) -> None:
        before = self.lane
        if is_killed:
            crash(self.path, Path(self.folder.name) / f"{self.files + 1}.db")
        self.runner.run(self.journal.close())
        self.files += is_killed
        # Reboots that are not seen as such, for the origin is the same, count as well if the clock went back.
        self.clock.at = self.clock.at + downtime if reboots_at is None else reboots_at
        self.clock.origin += "'" if reboots_at is not None and downtime < 500 else ""
        is_shifted = reboots_at is not None and (downtime < 500 or reboots_at < self.recorded)
        shift = self.clock.at - self.recorded if is_shifted else 0.0
        interrupted = before.running
        if interrupted:
            before.apply(self.interruption(before, interrupted))
            self.dues |= {(interrupted.ingestion_id, position): -DISTANT for position in interrupted.positions}
        self.dues = {each: due + shift for each, due in self.dues.items()}
        self.recorded += shift
        held_until = before.held and before.held.until + shift
        next_seq = before.sequencer.upcoming
        expected = view(before)

        self.open()
        dues = {
            (job.ingestion_id, position): max(due, self.clock.at)
            for job in self.lane.ingestions.values()
            for due, position in job.delayed
        }
        ready_at = self.lane.pace.ready_at
        actual = view(self.lane)

        assert actual == expected
        assert dues == {each: max(self.dues[each], self.clock.at) for each in dues}
        assert (self.lane.held and self.lane.held.until) == held_until
        assert self.lane.sequencer.upcoming <= next_seq
        if self.last_start is not None:
            self.last_start += shift
            assert ready_at == self.last_start + START_BUDGET + INTERVAL
        self.runner.run(self.journal.close())
        self.open()
        self.results_are_kept()

    def interruption(self, lane: Lane, running: Started) -> Finished:
        """Return the running batch's end as a restart makes it: nothing is counted, all of it waits again."""
        troubles = lane.ingestions[running.ingestion_id].troubles
        outcomes = [
            Outcome(position, trouble.attempts, error=trouble.error, retry_at=0.0)
            if (trouble := troubles.get(position))
            else Outcome(position, 0, error=INTERRUPTED, retry_at=0.0)
            for position in running.positions
        ]
        return Finished(running.ingestion_id, tuple(outcomes), 0.0, 0.0)

    def results_are_kept(self) -> None:
        for ingestion_id, results in self.results.items():
            kept = self.runner.run(self.journal.results(ingestion_id, 0, 100))
            assert kept == [(position, *results[position]) for position in sorted(results)]

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.runner.run(self.journal.close())
            self.runner.close()
            self.folder.cleanup()


TestRestarts = Restarts.TestCase
TestRestarts.settings = settings(
    max_examples=100,
    stateful_step_count=40,
)
