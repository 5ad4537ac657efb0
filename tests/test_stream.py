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
from sluice.events import Accepted, Expired, Interrupted, KeysExpired
from sluice.ingestion import Batch, Ingestion
from sluice.journal import Saved
from sluice.lane import Lane
from sluice.models import Priority
from sluice.notice import Notice
from sluice.retry import RetryPolicy
from sluice.stream import AT_ONCE, LENGTH, MOST_BEHIND, REST, Listener, Stream
from sluice.upstream import UpstreamError, UpstreamUnavailable
from tests.virtual import Bench, RecordingUpstream, VirtualLoop

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


def watched(loop: VirtualLoop, behave: Any = None, retry: RetryPolicy | None = None) -> Watched:
    bench = Watched(loop, RecordingUpstream(behave), retry=retry).watch()
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
    bench.submit([1], Priority.HIGH)
    one, other = bench.listen(), bench.listen()
    bench.submit([2], Priority.HIGH)

    loop.advance(2 * REST)

    (_, to_one), (_, to_other) = (loop.run_until_complete(each.hear(0)) for each in (one, other))

    assert to_one.encoded is to_other.encoded
    kept = next(iter(bench.stream._kept))
    assert kept._encoded is None


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
    most, before = 0, 0

    async def look() -> None:
        nonlocal most, before
        bench.lane.apply(bench.lane.accept([1], Priority.HIGH, bench.clock.time()))
        for _ in range(100):
            await asyncio.sleep(0)
            heard = sum(each.done() for each in hearing)
            most, before = max(most, heard - before), heard

    loop.run_until_complete(look())

    assert before == len(listeners)
    assert most == AT_ONCE


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
    "last", ["", "x", "-", "other-1", "{epoch}-", "{epoch}-x", "{epoch}-999", "{epoch}--1", "{epoch}-1.0"]
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
