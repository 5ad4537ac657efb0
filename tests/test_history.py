"""The slots that went by, and how much of the permitted rate they used."""

from array import array

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sluice.control import cancel, revive
from sluice.events import Accepted, Finished, Interrupted, Outcome, Started
from sluice.history import GRAINS, LENGTH, WINDOW, History, Slot, Utilisation
from sluice.ingestion import Ingestion, Trouble
from sluice.journal import Saved, SavedIngestion
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.models import Priority
from sluice.pace import Pace
from tests.api import ManualClock

EXACT = 1e-9
NAME = "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"


class Watched:
    """A lane whose history is kept, and what happens to it; times are seconds on its clock, from 0."""

    def __init__(self, interval: float = 5.0, since: float = 0.0, journal: MemoryJournal | None = None) -> None:
        self.clock = ManualClock(since)
        self.boot = self.clock.now() - since
        self.lane = Lane(journal or MemoryJournal(), Pace(interval), 3)
        self.history = History(self.lane, self.clock)

    def submit(self, count: int, priority: Priority = Priority.MEDIUM) -> Ingestion:
        accepted = self.lane.accept(range(1, count + 1), priority, 0.0)
        self.lane.apply(accepted)
        return self.lane.ingestions[accepted.ingestion_id]

    def start(self, at: float) -> Started:
        batch = self.lane.next_batch(self.boot + at)
        assert batch is not None
        started = Started(batch.ingestion_id, batch.positions, self.boot + at)
        self.lane.apply(started)
        return started

    def finish(self, at: float, *outcomes: Outcome) -> None:
        """End what runs: what is not said of an ID is that it is done."""
        assert self.lane.running is not None
        name, positions, *_ = self.lane.running
        said = {outcome.position: outcome for outcome in outcomes}
        every = tuple(said.get(position, Outcome(position, 1, data=b"null")) for position in positions)
        self.lane.apply(Finished(name, every, self.boot + at, 0.0))

    def run(self, at: float) -> None:
        self.start(at)
        self.finish(at)

    def utilisation(self, at: float) -> Utilisation | None:
        return self.history.utilisation(self.boot + at)

    @property
    def last(self) -> Slot:
        """The last slot, in terms of this clock."""
        slot = self.history.slots[-1]
        finished_at = None if slot.finished_at is None else slot.finished_at - self.boot
        return slot._replace(started_at=slot.started_at - self.boot, finished_at=finished_at)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def failed(position: int, retry_at: float | None = None) -> Outcome:
    return Outcome(position, 1, error="answered 500", retry_at=retry_at)


class SavedRun(MemoryJournal):
    """Remembers an ingestion whose first batch runs since `at`, on the clock."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self._at = at

    def replay(self) -> Saved:
        accepted = Accepted(NAME, Priority.LOW, 0.0, 0, 3, array("I", [7, 8, 9, 10]))
        running = Started(NAME, (0, 1, 2), self._at)
        saved = SavedIngestion(accepted, 1, False, False, (), (), 0.0)
        return Saved([saved], (), self._at, running=running, held=None, paused=None, next_seq=1)


# Slots


def test_slot_is_there_with_what_runs_and_no_end_from_its_start_on(watched: Watched) -> None:
    job = watched.submit(5, Priority.HIGH)

    watched.start(1.0)

    assert watched.last == Slot(job.ingestion_id, Priority.HIGH, [0], [1, 2, 3], is_retry=False, started_at=1.0)


def test_end_of_a_slot_counts_what_was_done_what_failed_and_what_will_be_tried_again(watched: Watched) -> None:
    watched.submit(3)
    watched.start(1.0)

    watched.finish(3.5, failed(0), failed(2, retry_at=1000.0))

    slot = watched.last
    assert (slot.finished_at, slot.completed, slot.failed, slot.retrying) == (3.5, 1, 1, 1)
    assert len(watched.history.slots) == 1


def test_slot_of_ids_tried_again_is_a_retry_and_names_every_batch_they_are_of(watched: Watched) -> None:
    job = watched.submit(6)
    for at in (0.0, 5.0):
        watched.start(at)
        watched.finish(at, *(failed(position, retry_at=watched.boot + 6.0) for position in (1, 2, 4)))
    assert [slot.is_retry for slot in watched.history.slots] == [False, False]

    watched.start(10.0)
    watched.finish(11.0, failed(4))

    assert watched.last == Slot(job.ingestion_id, Priority.MEDIUM, [0, 1], [2, 3, 5], True, 10.0, 11.0, 2, 1, 0)


def test_failed_ids_that_get_fresh_attempts_are_a_retry_and_the_next_new_batch_is_none(watched: Watched) -> None:
    job = watched.submit(6)
    watched.start(0.0)
    watched.finish(0.0, failed(1))
    for each in revive(job):
        watched.lane.apply(each)

    watched.run(5.0)
    watched.run(10.0)

    assert [(slot.ids, slot.is_retry) for slot in watched.history.slots] == [
        ([1, 2, 3], False),
        ([2], True),
        ([4, 5, 6], False),
    ]


def test_interrupted_slot_ends_with_all_its_ids_to_be_tried_again(watched: Watched) -> None:
    watched.submit(2)
    watched.start(0.0)

    watched.lane.apply(Interrupted(watched.boot + 4.0))
    first = watched.last
    watched.run(5.0)

    assert (first.finished_at, first.completed, first.failed, first.retrying) == (4.0, 0, 0, 2)
    assert (watched.last.ids, watched.last.is_retry, watched.last.completed) == ([1, 2], True, 2)


def test_start_that_is_recorded_twice_is_one_slot(watched: Watched) -> None:
    watched.submit(2)

    started = watched.start(0.0)
    watched.lane.apply(started._replace(at=started.at + 0.2))

    assert [slot.ids for slot in watched.history.slots] == [[1, 2]]


def test_priority_of_a_slot_stays_what_it_was_then(watched: Watched) -> None:
    job = watched.submit(6, Priority.LOW)
    watched.run(0.0)

    job.priority = Priority.HIGH
    watched.run(5.0)

    assert [slot.priority for slot in watched.history.slots] == [Priority.LOW, Priority.HIGH]


def test_what_uses_no_slot_leaves_none(watched: Watched) -> None:
    job = watched.submit(6)
    for each in cancel(job, 0.0):
        watched.lane.apply(each)
    watched.lane.apply(Interrupted(watched.boot))

    assert not watched.history.slots


def test_only_the_last_hundred_slots_are_kept(watched: Watched) -> None:
    watched.submit(3 * (LENGTH + 5))

    for number in range(LENGTH + 5):
        watched.run(5.0 * number)

    assert LENGTH == 100
    assert [slot.batches for slot in watched.history.slots] == [[number] for number in range(5, LENGTH + 5)]


def test_batch_that_runs_already_when_the_process_begins_to_look_is_its_first_slot() -> None:
    watched = Watched(since=10.0, journal=SavedRun(ManualClock(8.0).now()))

    assert watched.last == Slot(NAME, Priority.LOW, [0], [7, 8, 9], is_retry=False, started_at=8.0)
    watched.finish(11.0, failed(0))
    assert watched.last == Slot(NAME, Priority.LOW, [0], [7, 8, 9], False, 8.0, 11.0, 2, 1, 0)


def test_second_attempt_that_runs_already_when_the_process_begins_to_look_is_a_retry() -> None:
    class SavedRetry(SavedRun):
        def replay(self) -> Saved:
            saved = super().replay()
            (each,) = saved.ingestions
            waiting = [(place, 0.0, Trouble(1, "answered 500", is_final=False)) for place in range(3)]
            return saved._replace(ingestions=[each._replace(waiting=waiting)])

    assert Watched(journal=SavedRetry(ManualClock().now())).last.is_retry


def test_what_was_seen_is_forgotten_when_a_saved_state_is_taken_up_but_for_what_runs() -> None:
    watched = Watched()
    watched.submit(3)
    watched.run(0.0)
    watched.clock.passed = 20.0

    watched.lane.restore(SavedRun(watched.boot + 19.0).replay())

    assert [slot.ingestion_id for slot in watched.history.slots] == [NAME]
    assert watched.utilisation(20.0) is None
    assert watched.utilisation(22.0) == pytest.approx((2.0, 1.0), abs=EXACT)
    assert watched.utilisation(28.0) == pytest.approx((8.0, 4 / 8), abs=EXACT)


# Utilisation


def share(watched: Watched, at: float) -> float:
    utilisation = watched.utilisation(at)
    assert utilisation is not None
    return utilisation.share


@pytest.mark.parametrize("interval", [0.3, 1.0, 5.0, 14.9, 15.0, 15.1, 77.7, 400.0])
def test_a_start_every_interval_is_full_use_at_any_time(interval: float) -> None:
    watched = Watched(interval)
    watched.submit(3 * 500)

    for number in range(500):
        watched.run(number * interval)
        for part in (0.0, 0.01, 0.37, 0.99):
            if number or part:
                assert share(watched, (number + part) * interval) == pytest.approx(1.0, abs=EXACT)


@pytest.mark.parametrize("interval", [1.0, 5.0, 30.0])
def test_a_start_every_other_interval_is_half_use(interval: float) -> None:
    watched = Watched(interval)
    watched.submit(3 * 500)

    for number in range(500):
        watched.run(2 * number * interval)

    assert share(watched, 1000 * interval) == pytest.approx(0.5, abs=EXACT)


def test_a_fresh_process_with_one_batch_right_away_has_used_all_of_its_time_and_no_more() -> None:
    watched = Watched()
    watched.submit(3)
    watched.run(0.0)

    assert watched.utilisation(0.0) is None
    assert watched.utilisation(1.0) == (1.0, 1.0)
    assert watched.utilisation(5.0) == (5.0, 1.0)
    assert watched.utilisation(20.0) == (20.0, 0.25)


def test_a_process_that_saw_nothing_start_has_used_nothing(watched: Watched) -> None:
    assert watched.utilisation(0.0) is None
    assert watched.utilisation(60.0) == (60.0, 0.0)
    assert watched.utilisation(7000.0) == pytest.approx((WINDOW, 0.0))


def test_what_is_long_past_counts_no_more(watched: Watched) -> None:
    watched.submit(30)
    for number in range(10):
        watched.run(5.0 * number)

    assert share(watched, 60.0) == pytest.approx(50 / 60, abs=EXACT)
    assert watched.utilisation(330.0) == pytest.approx((300.0, 20 / 300), abs=EXACT)
    assert watched.utilisation(350.0) == (300.0, 0.0)


def test_time_before_the_process_began_to_look_is_not_counted_as_used() -> None:
    # In the middle of a grain, which reaches from 405 to 410.
    watched = Watched(since=307.0, journal=SavedRun(ManualClock(305.5).now()))

    assert watched.utilisation(317.0) == pytest.approx((10.0, 3.5 / 10), abs=EXACT)


def test_batch_that_ran_long_before_the_process_began_to_look_uses_none_of_its_time() -> None:
    watched = Watched(since=1000.0, journal=SavedRun(ManualClock(10.0).now()))

    assert watched.utilisation(1010.0) == (10.0, 0.0)


def test_without_an_interval_there_is_no_rate_to_use() -> None:
    watched = Watched(interval=0.0)
    watched.submit(30)
    watched.run(0.0)
    watched.run(0.0)

    assert watched.utilisation(10.0) is None


def test_memory_does_not_grow_with_the_time(watched: Watched) -> None:
    watched.submit(3 * 1000)

    for number in range(1000):
        watched.run(5.0 * number)

    assert len(watched.history._used) <= GRAINS + 2


@given(
    interval=st.one_of(st.floats(0.01, 20.0), st.floats(0.01, 500.0)),
    since=st.floats(0.0, 2000.0),
    idle=st.lists(st.one_of(st.just(0.0), st.just(0.0), st.floats(0.0, 3.0), st.floats(0.0, 200.0)), max_size=150),
    after=st.one_of(st.floats(0.0, 20.0), st.floats(0.0, 1000.0)),
)
@settings(max_examples=200)
def test_share_is_that_of_the_window_in_which_the_rate_was_used(
    interval: float, since: float, idle: list[float], after: float
) -> None:
    watched = Watched(interval, since)
    watched.submit(3 * len(idle) + 3)
    starts: list[float] = []
    now = since
    for seconds in idle:
        now += seconds
        watched.run(now)
        starts.append(now)
        now += interval
    now = (starts[-1] if starts else since) + after

    utilisation = watched.utilisation(now)

    window = max(WINDOW, 20 * interval)
    if now - since < EXACT:
        return
    assert utilisation is not None
    first = now - utilisation.seconds
    if now - since < window * (1 - 1 / GRAINS):
        assert utilisation.seconds == pytest.approx(now - since)
    else:
        assert window * (1 - 1 / GRAINS) - EXACT <= utilisation.seconds <= window + EXACT
    used = sum(max(0.0, min(start + interval, now) - max(start, first)) for start in starts)
    event(f"share: {utilisation.share:.1f}")
    assert utilisation.share == pytest.approx(used / utilisation.seconds, abs=1e-6)
    assert 0.0 <= utilisation.share <= 1.0
