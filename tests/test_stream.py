"""What listeners hear, in virtual time."""

import asyncio
import gc
import json
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, NamedTuple, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import control
from sluice.events import Accepted, Expired, Finished, Interrupted, KeysExpired, Outcome, Reprioritised, Started
from sluice.ingestion import Batch, Ingestion
from sluice.journal import Saved
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.models import Priority
from sluice.notice import Notice
from sluice.pace import Pace
from sluice.retry import RetryPolicy
from sluice.stream import AT_ONCE, LENGTH, MOST_BEHIND, MOST_IDS, PAUSE, REST, Listener, Stream
from sluice.upstream import UpstreamError, UpstreamUnavailable
from tests.virtual import TICK, Bench, RecordingUpstream, VirtualLoop

LONG = 1000.0  # seconds


class Heard(NamedTuple):
    """A server-sent event as a browser takes it apart."""

    event_id: str
    kind: str
    data: dict[str, Any]


def parsed(notice: Notice) -> Heard:
    """Take an event apart (HTML, section 9.2.6)."""
    text = notice.encoded.decode()
    assert text.endswith("\n\n")
    fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
    assert fields.keys() == {"id", "event", "data"}
    return Heard(fields["id"], fields["event"], json.loads(fields["data"]))


class Watched(Bench):
    """A bench with a stream."""

    def watch(self) -> Self:
        self.stream = Stream(self.clock)
        self.stream.watch(self.lane)
        self._listening: list[AbstractContextManager[Listener]] = []
        self.loop.create_task(self.stream.run())
        return self

    def listen(
        self, lane: Lane | None = None, ingestion_id: str | None = None, last_event_id: str | None = None
    ) -> Listener:
        """Listen until the test ends."""
        listening = self.stream.listening(lane, ingestion_id, last_event_id)
        self._listening.append(listening)  # else it would be over at once
        return listening.__enter__()

    def heard(self, listener: Listener) -> list[Heard]:
        """Return what a listener has not heard yet, once that has been passed on."""
        self.loop.advance(2 * REST)
        return [parsed(notice) for notice in self.loop.run_until_complete(listener.hear(0))]


def watched(loop: VirtualLoop, behave: Any = None, retry: RetryPolicy | None = None, **options: Any) -> Watched:
    bench = Watched(loop, RecordingUpstream(behave), retry=retry, **options).watch()
    bench.start()
    return bench


def at_rest(loop: VirtualLoop) -> Watched:
    """Return a bench that starts no batch."""
    return Watched(loop, RecordingUpstream()).watch()


def kinds(heard: Sequence[Heard]) -> list[str]:
    return [each.kind for each in heard]


# What is told


def test_life_of_an_ingestion_is_told_step_by_step(loop: VirtualLoop) -> None:
    bench = watched(loop)
    listener = bench.listen()
    ingestion = bench.submit([1, 2, 3, 4], Priority.LOW)
    loop.advance(20)

    reset, accepted, started, finished, _, last = bench.heard(listener)

    assert kinds([reset, accepted, started, finished]) == ["reset", "accepted", "started", "finished"]
    assert reset.data == {"lane": None, "time": "2027-01-15T08:00:00Z"}
    progress = {"total_ids": 4, "total_batches": 2, "triggered": 0, "completed": 0, "failed": 0, "cancelled": 0}
    about = {"lane": "default", "ingestion_id": ingestion.ingestion_id, "priority": "LOW"}
    assert accepted.data == {
        **about,
        "time": "2027-01-15T08:00:00Z",
        "status": "yet_to_start",
        "progress": {**progress, "yet_to_start": 2},
    }
    batch = {"batch_ids": [ingestion.batch_id(0)], "ids": [1, 2, 3]}
    assert started.data == {
        **about,
        **batch,
        "time": started.data["time"],
        "status": "triggered",
        "progress": {**progress, "yet_to_start": 1, "triggered": 1},
        "is_retry": False,
    }
    assert finished.data == {
        **about,
        **batch,
        "time": finished.data["time"],
        "status": "triggered",
        "progress": {**progress, "yet_to_start": 1, "completed": 1},
        "outcomes": [{"id": item, "status": "completed"} for item in (1, 2, 3)],
    }
    assert last.data["status"] == "completed"


def test_failures_retries_and_holds_are_told(loop: VirtualLoop) -> None:
    answers = {
        2: UpstreamError("no"),
        3: UpstreamUnavailable("later"),
        4: UpstreamUnavailable("busy", retry_after=30.0),
    }

    async def behave(batch: Batch) -> Sequence[object]:
        given = [answers.get(each, each) for each in batch.ids]
        answers.pop(4, None)
        return given

    retry = RetryPolicy(attempts=2, base=1.0, longest=60.0, longest_hold=600.0, draw=lambda: 1.0)
    bench = watched(loop, behave, retry)
    listener = bench.listen()
    ingestion = bench.submit([2, 3, 4], Priority.HIGH)
    loop.advance(100)
    bench.decide(lambda: control.revive(ingestion))

    heard = bench.heard(listener)

    assert kinds(heard[:5]) == ["reset", "accepted", "started", "finished", "held"]
    assert kinds(heard[5:9]) == ["started", "finished", "retried", "started"]
    first, held, again = heard[3], heard[4], heard[6]
    assert first.data["outcomes"] == [
        {"id": 2, "status": "failed", "error": "no"},
        {"id": 3, "status": "retrying", "error": "later"},
        {"id": 4, "status": "retrying", "error": "busy"},
    ]
    assert (held.data["reason"], held.data["until"]) == ("busy", "2027-01-15T08:00:30Z")
    assert heard[5].data["is_retry"]
    assert {each["id"]: each["status"] for each in again.data["outcomes"]} == {3: "failed", 4: "completed"}


def test_all_that_ends_of_an_ingestion_in_a_slot_is_told_in_one_event(loop: VirtualLoop) -> None:
    answers = {1: UpstreamUnavailable("later")}

    async def behave(batch: Batch) -> Sequence[object]:
        return [answers.pop(each, each) for each in batch.ids]

    retry = RetryPolicy(attempts=2, base=1.0, longest=60.0, longest_hold=600.0, draw=lambda: 1.0)
    bench = watched(loop, behave, retry, batch_size=3, fills_slots=True)
    ingestion = bench.submit([1, 2, 3, 4], Priority.HIGH)
    everything, own = bench.listen(), bench.listen(bench.lane, ingestion.ingestion_id)
    loop.advance(100)

    heard, heard_of_own = bench.heard(everything), bench.heard(own)

    # 1, for the second time, and 4 share a slot: two batches start, and both are over with that event.
    assert kinds(heard) == ["reset", "started", "finished", "started", "started", "finished"]
    assert kinds(heard_of_own) == kinds(heard)
    assert heard[-1].data["ids"] == [1, 4]
    assert heard[-1].data["batch_ids"] == [ingestion.batch_id(0), ingestion.batch_id(1)]
    assert [each["id"] for each in heard[-1].data["outcomes"]] == [1, 4]
    assert heard[-1].data["status"] == "completed"
    assert own.is_ended


def test_what_operators_do_is_told(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    bench.submit([1], Priority.HIGH)
    ingestion = bench.submit([2, 3, 4, 5], Priority.LOW)
    listener = bench.listen()

    bench.decide(lambda: control.pause(bench.lane, bench.clock.time(), "why not"))
    bench.decide(lambda: control.resume(bench.lane))
    bench.decide(lambda: control.reprioritise(ingestion, Priority.HIGH))
    bench.decide(lambda: control.cancel(ingestion, bench.clock.time()))
    bench.decide(lambda: [Expired(ingestion.ingestion_id), KeysExpired(0.0)])

    heard = bench.heard(listener)
    assert kinds(heard) == ["reset", "paused", "resumed", "reprioritised", "cancelled", "expired"]
    assert heard[1].data["reason"] == "why not"
    assert heard[3].data["priority"] == "HIGH"
    assert heard[4].data["progress"]["cancelled"] == 2
    assert heard[5].data["ingestion_id"] == ingestion.ingestion_id


def test_interruption_is_told_of_the_ingestion_that_ran(loop: VirtualLoop) -> None:
    bench = watched(loop, behave=lambda batch: asyncio.sleep(LONG))
    ingestion = bench.submit([1], Priority.HIGH)
    loop.advance(1)
    listener = bench.listen()

    bench.decide(lambda: [Interrupted(bench.clock.now())])

    (_, interrupted) = bench.heard(listener)
    assert (interrupted.kind, interrupted.data["ingestion_id"]) == ("interrupted", ingestion.ingestion_id)


# Who hears what


def test_listener_to_an_ingestion_hears_only_of_that_and_no_more_once_it_is_completed(loop: VirtualLoop) -> None:
    bench = watched(loop)
    other = bench.submit([1], Priority.HIGH)
    ingestion = bench.submit([2, 3, 4, 5], Priority.HIGH)
    listener = bench.listen(bench.lane, ingestion.ingestion_id)
    loop.advance(60)
    bench.submit([6], Priority.HIGH)

    heard = bench.heard(listener)

    assert kinds(heard) == ["reset", "started", "finished", "started", "finished"]
    assert {each.data["ingestion_id"] for each in heard} == {ingestion.ingestion_id}
    assert heard[0].data["progress"]["yet_to_start"] == 2
    assert listener.is_ended
    assert other.is_done


@pytest.mark.parametrize("end", ["completed", "cancelled", "expired"])
def test_stream_of_an_ingestion_that_is_over_says_so_and_ends(loop: VirtualLoop, end: str) -> None:
    bench = watched(loop)
    bench.submit([1], Priority.HIGH)
    ingestion = bench.submit([2], Priority.LOW)
    if end == "completed":
        loop.advance(30)
    else:
        bench.decide(lambda: control.cancel(ingestion, bench.clock.time()))
    if end == "expired":
        bench.decide(lambda: [Expired(ingestion.ingestion_id)])

    listener = bench.listen(bench.lane, ingestion.ingestion_id)

    (only,) = bench.heard(listener)
    assert only.kind == ("expired" if end == "expired" else "reset")
    assert listener.is_ended
    assert bench.stream.is_over(bench.lane, ingestion.ingestion_id, only.event_id)
    assert not bench.stream.is_over(bench.lane, ingestion.ingestion_id, None)


def test_event_is_encoded_once_for_all_and_not_before_someone_listens(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    with bench.stream.listening(None, None, None):
        pass
    bench.submit([1], Priority.HIGH)
    one, other = bench.listen(), bench.listen()
    bench.submit([2], Priority.HIGH)

    loop.advance(2 * REST)

    (_, to_one), (_, to_other) = (loop.run_until_complete(each.hear(0)) for each in (one, other))

    assert to_one.encoded is to_other.encoded
    kept = next(iter(bench.stream._kept))
    assert kept._encoded is None


def test_nothing_is_kept_before_anyone_could_have_an_id_to_come_back_with(loop: VirtualLoop) -> None:
    bench = at_rest(loop)

    bench.submit([1], Priority.HIGH)

    assert not bench.stream._kept
    listener = bench.listen()
    bench.submit([2], Priority.HIGH)
    assert [each.kind for each in bench.heard(listener)] == ["reset", "accepted"]
    assert len(bench.stream._kept) == 1


def test_quiet_stream_returns_nothing_after_a_while_so_that_a_heartbeat_can_be_sent(loop: VirtualLoop) -> None:
    bench = watched(loop)
    listener = bench.listen()
    bench.heard(listener)
    before = loop.time()

    assert loop.run_until_complete(listener.hear(15.0)) == []

    assert loop.time() - before == pytest.approx(15.0, abs=1e-3)
    assert not listener.is_ended


def test_listener_that_never_hears_is_dropped_and_costs_nothing_more(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    slow, quick = bench.listen(), bench.listen()
    heard = len(bench.heard(quick))
    for _ in range(MOST_BEHIND + 10):
        bench.lane.apply(bench.lane.accept([1], Priority.LOW, bench.clock.time()))
        heard += len(bench.heard(quick))

    assert heard == MOST_BEHIND + 11
    assert slow.is_ended
    assert bench.heard(slow) == []
    assert not quick.is_ended


def test_event_reaches_a_few_listeners_at_a_time_so_that_nothing_else_waits_for_all_of_them(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    listeners = [bench.listen() for _ in range(3 * AT_ONCE)]
    for each in listeners:
        bench.heard(each)
    hearing = [loop.create_task(each.hear(LONG)) for each in listeners]
    loop.advance(1)
    counts = []

    bench.lane.apply(bench.lane.accept([1], Priority.HIGH, bench.clock.time()))
    for _ in range(3):
        loop.advance(0.9 * PAUSE)
        counts.append(sum(each.done() for each in hearing))
        loop.advance(0.1 * PAUSE + TICK)

    assert counts == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]


def test_nobody_waits_for_listeners_that_have_nothing_to_hear(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    quiet, ingestion = bench.submit([1], Priority.HIGH), bench.submit([2], Priority.HIGH)
    for _ in range(3 * AT_ONCE):
        bench.heard(bench.listen(bench.lane, quiet.ingestion_id))
    listener = bench.listen(bench.lane, ingestion.ingestion_id)
    bench.heard(listener)
    hearing = loop.create_task(listener.hear(LONG))
    loop.advance(1)

    bench.lane.apply(Reprioritised(ingestion.ingestion_id, Priority.LOW))
    loop.advance(PAUSE / 2)

    assert hearing.done()


def test_who_is_told_the_last_in_the_instant_of_a_heartbeat_hears_it(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    ingestion = bench.submit([1], Priority.HIGH)
    listener = bench.listen(bench.lane, ingestion.ingestion_id)
    bench.heard(listener)
    cancel = control.cancel(ingestion, bench.clock.time())

    async def hear() -> list[Notice]:
        # In one turn of the loop, the time is up and then the ingestion is.
        hearing = loop.create_task(listener.hear(1.0))
        await asyncio.sleep(0)
        loop.call_at(loop.time() + 1.0, bench.lane.apply, *cancel)
        heard: list[Notice] = await hearing
        return heard

    heard = loop.run_until_complete(hear())

    assert listener.is_ended
    assert [each.kind for each in heard] == ["cancelled"]


def test_listener_that_never_hears_of_large_batches_is_dropped_sooner(loop: VirtualLoop) -> None:
    bench = Watched(loop, RecordingUpstream(), batch_size=MOST_IDS // 10).watch()
    slow, quick = bench.listen(), bench.listen()

    for _ in range(2):
        work_through(bench, MOST_IDS // 10 * 3)
        bench.heard(quick)

    assert slow.is_ended
    assert not quick.is_ended
    assert bench.stream.listeners == 1
    assert bench.heard(slow) == []


def test_who_is_dropped_by_a_state_that_is_loaded_anew_is_counted_no_more(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    bench.listen()
    for _ in range(MOST_BEHIND - 1):
        bench.lane.apply(bench.lane.accept([1], Priority.LOW, bench.clock.time()))

    bench.lane.restore(Saved())

    assert bench.stream.listeners == 0


def test_closing_ends_every_listener_also_those_that_come_later(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    ingestion = bench.submit([1], Priority.HIGH)
    before = [bench.listen(), bench.listen(bench.lane, ingestion.ingestion_id)]

    bench.stream.close()

    assert [each.is_ended for each in [*before, bench.listen()]] == [True, True, True]


def test_listeners_are_counted_while_they_listen(loop: VirtualLoop) -> None:
    bench = watched(loop)
    ingestion = bench.submit([1], Priority.HIGH)

    with (
        bench.stream.listening(None, None, None),
        bench.stream.listening(bench.lane, ingestion.ingestion_id, None),
    ):
        assert bench.stream.listeners == 2

    assert bench.stream.listeners == 0
    assert bench.stream._listeners == {}


def test_ids_and_answers_are_not_kept_for_those_who_come_back(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    bench.lane.apply(bench.lane.accept([1] * 10, Priority.LOW, 0.0))

    assert not {array, bytes, Ingestion} & reachable(bench.stream._kept)


def reachable(root: object) -> set[type]:
    """Return the types of all that something keeps alive."""
    seen: dict[int, object] = {}
    left = [root]
    while left:
        each = left.pop()
        if id(each) not in seen and not isinstance(each, type | ModuleType):
            seen[id(each)] = each
            left += gc.get_referents(each)
    return set(map(type, seen.values()))


# Coming back


@pytest.mark.parametrize(
    "last",
    [
        "",
        "x",
        "-",
        "other-1",
        "{epoch}-",
        "{epoch}-x",
        "{epoch}-999",
        "{epoch}--1",
        "{epoch}-1.0",
        f"{{epoch}}-{'9' * 5000}",
    ],
)
def test_who_comes_back_with_an_id_that_is_not_known_starts_anew(loop: VirtualLoop, last: str) -> None:
    bench = at_rest(loop)
    bench.submit([1], Priority.HIGH)

    listener = bench.listen(last_event_id=last.format(epoch=bench.stream._epoch))

    assert kinds(bench.heard(listener)) == ["reset"]


def test_what_is_kept_is_bounded_and_who_missed_more_starts_anew(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    (reset,) = bench.heard(bench.listen())
    for _ in range(LENGTH):
        bench.lane.apply(bench.lane.accept([1], Priority.LOW, bench.clock.time()))
    all_of_it = bench.heard(bench.listen(last_event_id=reset.event_id))
    bench.lane.apply(bench.lane.accept([1], Priority.LOW, bench.clock.time()))

    assert len(all_of_it) == LENGTH
    assert kinds(bench.heard(bench.listen(last_event_id=reset.event_id))) == ["reset"]
    assert len(bench.stream._kept) == LENGTH


def test_fewer_large_batches_are_kept(loop: VirtualLoop) -> None:
    size = MOST_IDS // 10
    bench = Watched(loop, RecordingUpstream(), batch_size=size).watch()
    (reset,) = bench.heard(bench.listen())

    work_through(bench, 4 * size)
    kept = bench.heard(bench.listen(last_event_id=reset.event_id))
    work_through(bench, 2 * size)

    assert kinds(kept) == ["accepted", *["started", "finished"] * 4]
    assert kinds(bench.heard(bench.listen(last_event_id=reset.event_id))) == ["reset"]
    since = bench.heard(bench.listen(last_event_id=kept[3].event_id))
    assert kinds(since) == ["finished", *["started", "finished"] * 2, "accepted", *["started", "finished"] * 2]
    bench.lane.restore(Saved())
    work_through(bench, 5 * size)
    assert [each.kind for each in bench.stream._kept] == ["accepted", *["started", "finished"] * 5]


def test_batch_that_is_larger_than_all_that_may_be_kept_is_not_kept(loop: VirtualLoop) -> None:
    bench = Watched(loop, RecordingUpstream(), batch_size=MOST_IDS + 1).watch()
    (reset,) = bench.heard(bench.listen())

    work_through(bench, MOST_IDS + 1)
    (anew,) = bench.heard(bench.listen(last_event_id=reset.event_id))
    bench.submit([1], Priority.LOW)

    assert anew.kind == "reset"
    assert not bench.stream._kept_ids
    assert kinds(bench.heard(bench.listen(last_event_id=anew.event_id))) == ["accepted"]


def work_through(bench: Bench, count: int) -> None:
    """Have so many IDs accepted and sent, with no time passing."""
    bench.submit([1] * count, Priority.LOW)
    while batch := bench.lane.next_batch(bench.clock.now()):
        bench.lane.apply(Started(batch.ingestion_id, batch.positions, bench.clock.now()))
        outcomes = tuple(Outcome(position, 1, data=b"null") for position in batch.positions)
        bench.lane.apply(Finished(batch.ingestion_id, outcomes, bench.clock.now(), bench.clock.time()))


def test_state_that_is_loaded_anew_is_told_to_those_concerned_and_nobody_resumes_across_it(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    ingestion = bench.submit([1, 2, 3, 4], Priority.HIGH)
    everything, one = bench.listen(), bench.listen(bench.lane, ingestion.ingestion_id)
    last = bench.heard(everything)[-1].event_id
    bench.heard(one)

    bench.lane.restore(Saved())

    assert kinds(bench.heard(everything)) == ["reset"]
    assert kinds(bench.heard(one)) == ["expired"]
    assert one.is_ended
    assert kinds(bench.heard(bench.listen(last_event_id=last))) == ["reset"]


@given(st.data())
def test_who_comes_and_goes_hears_everything_once(data: st.DataObject) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        bench = Watched(loop, RecordingUpstream()).watch()
        happened: list[str] = []
        listener, heard, last = None, list[str](), None
        missed_from = 0
        for step in data.draw(st.lists(st.sampled_from(["happen", "hear", "leave", "come"]), max_size=60)):
            if step == "happen":
                accepted: Accepted = bench.lane.accept([1], Priority.LOW, bench.clock.time())
                bench.lane.apply(accepted)
                happened.append(accepted.ingestion_id)
            elif step == "come" and listener is None:
                missed_from = missed_from if last else len(happened)
                listener = bench.listen(last_event_id=last)
            elif listener is not None and step in ("hear", "leave"):
                for each in bench.heard(listener) if step == "hear" else []:
                    last = each.event_id
                    if each.kind != "reset":
                        heard.append(each.data["ingestion_id"])
                if step == "leave":
                    listener = None
            if last is None and listener is None:
                missed_from = len(happened)
        if listener is None:
            missed_from = missed_from if last else len(happened)
            listener = bench.listen(last_event_id=last)
        heard += [each.data["ingestion_id"] for each in bench.heard(listener) if each.kind != "reset"]

        assert heard == happened[missed_from:]


class Visitor:
    """Comes, hears and goes; `expected` is what it should hear in all, since it first came."""

    def __init__(self, bench: Watched, lane: Lane | None, ingestion_id: str | None = None) -> None:
        self.expected: list[str] = []
        self.heard: list[str] = []
        self.has_come = False
        self._bench = bench
        self._lane = lane
        self._ingestion_id = ingestion_id
        self._last: str | None = None
        self._listener: Listener | None = None

    def learn(self, lane: Lane, ingestion_id: str, what: str) -> None:
        """Note what happened if it is to hear that."""
        is_wanted = self._lane in (None, lane) and self._ingestion_id in (None, ingestion_id)
        if self.has_come and is_wanted:
            self.expected.append(what)

    def come_or_go(self) -> None:
        if self._listener is None:
            self._listener = self._bench.listen(self._lane, self._ingestion_id, self._last)
            if not self.has_come:
                self.has_come = True
                (reset,) = self._bench.heard(self._listener)
                assert reset.kind == "reset"
                self._last = reset.event_id
        else:
            self._listener = None

    def hear(self) -> None:
        for each in self._bench.heard(self._listener) if self._listener else []:
            self.heard.append(f"{each.data['ingestion_id']} {each.data['priority']}")
            self._last = each.event_id

    def hear_the_rest(self) -> None:
        if self._listener is None:
            self.come_or_go()
        self.hear()


@given(st.lists(st.integers(0, 11), max_size=60))
def test_each_visitor_hears_what_it_listens_for_once_and_in_order(steps: list[int]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        bench = Watched(loop, RecordingUpstream()).watch()
        maps = Lane(MemoryJournal(), Pace(5.0), 3, "maps")
        bench.stream.watch(maps)
        lanes = [bench.lane, maps]
        jobs = [lane.accept([1], Priority.LOW, bench.clock.time()) for lane in lanes]
        for lane, job in zip(lanes, jobs, strict=True):
            lane.apply(job)
        visitors = [Visitor(bench, None), Visitor(bench, maps), Visitor(bench, bench.lane, jobs[0].ingestion_id)]

        for number, step in enumerate(steps):
            if step < 6:
                lane, job = lanes[step % 2], jobs[step % 2]
                if step < 4:
                    priority = list(Priority)[number % 3]
                    lane.apply(Reprioritised(job.ingestion_id, priority))
                else:
                    job = lane.accept([number + 1], Priority.HIGH, bench.clock.time())
                    priority = job.priority
                    lane.apply(job)
                for visitor in visitors:
                    visitor.learn(lane, job.ingestion_id, f"{job.ingestion_id} {priority.name}")
            elif step < 9:
                visitors[step % 3].come_or_go()
            else:
                visitors[step % 3].hear()
        for visitor in visitors:
            visitor.hear_the_rest()

        assert [visitor.heard for visitor in visitors] == [visitor.expected for visitor in visitors]


def test_burst_larger_than_a_queue_drops_nobody_who_listens(loop: VirtualLoop) -> None:
    bench = at_rest(loop)
    listener = bench.listen()
    heard: list[Notice] = []

    async def listen() -> None:
        while not listener.is_ended:
            heard.extend(await listener.hear(LONG))

    async def burst() -> None:
        for _ in range(3 * MOST_BEHIND // 100):
            for _ in range(100):
                bench.lane.apply(bench.lane.accept([1], Priority.LOW, bench.clock.time()))
            await asyncio.sleep(0)

    listening = loop.create_task(listen())
    loop.run_until_complete(burst())
    loop.advance(1)
    listening.cancel()

    assert not listener.is_ended
    assert len(heard) == 3 * MOST_BEHIND + 1
