"""Lanes in any state that they can come to in virtual time, and what then happens if nothing more fails.

Every time is a multiple of 1/64 s, which binary fractions and the virtual loop's
microseconds both hold: so what is told of the future can be exact.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from hypothesis import strategies as st

from sluice import control
from sluice.events import Event, Finished, Started
from sluice.ingestion import NEVER, Batch, Ingestion
from sluice.lane import Lane
from sluice.models import Priority
from sluice.retry import RetryPolicy
from sluice.upstream import UpstreamError, UpstreamUnavailable
from tests.virtual import Bench, RecordingUpstream, VirtualLoop

UNIT = 1 / 64  # seconds
PRIORITIES = st.sampled_from(Priority)
Step = tuple[Any, ...]


class Shape(NamedTuple):
    """How a lane is set up; times are in units."""

    interval: int
    batch_size: int
    per_id: int
    aging: int | None = None
    fills_slots: bool = False


@st.composite
def shapes(draw: st.DrawFn, *, may_overrun: bool = False) -> Shape:
    """Draw how a lane is set up; unless it `may_overrun`, a full batch has the time that it takes."""
    batch_size = draw(st.integers(1, 4))
    per_id = draw(st.integers(0, 128))
    interval = draw(st.integers(0 if may_overrun else batch_size * per_id, 700))
    aging = draw(st.none() | st.integers(1, 2000))
    return Shape(interval, batch_size, per_id, aging, fills_slots=interval > 0 and draw(st.booleans()))


BEGINNING: list[Step] = [
    ("fail", "unavailable", 4),
    ("fail", "unavailable", 2),
    ("submit", 7, Priority.MEDIUM),
    ("submit", 3, Priority.LOW),
]
PLACES = st.integers(0, 11)
FAILURES = st.tuples(
    st.just("fail"), st.sampled_from(["unavailable", "unavailable", "unavailable", "refuse", "hold"]), st.integers(1, 4)
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 14), PRIORITIES),
        FAILURES,
        FAILURES,
        st.tuples(st.just("pass"), st.integers(0, 64)),
        st.tuples(st.just("pass"), st.integers(0, 1000)),
        st.tuples(st.just("cancel"), PLACES),
        st.tuples(st.just("reprioritise"), PLACES, PRIORITIES),
        st.tuples(st.just("revive"), PLACES),
        st.tuples(st.just("jitter"), st.integers(0, 8)),
        st.tuples(st.sampled_from(["pause", "resume"])),
    ),
    min_size=6,
    max_size=30,
).map(lambda steps: [*BEGINNING, *steps])


class Start(NamedTuple):
    """A start as it was seen, and when what it started ended."""

    ingestion_id: str
    positions: tuple[int, ...]
    at: float
    ended: float | None = None


class Witness:
    """Looks on and notes every start."""

    def __init__(self) -> None:
        self.starts: list[Start] = []

    def applied(self, event: Event) -> None:
        if isinstance(event, Started):
            self.starts += [Start(*part, event.at) for part in event.parts]
        elif isinstance(event, Finished) and self.starts:
            count = len(event.parts)
            self.starts[-count:] = [start._replace(ended=event.at) for start in self.starts[-count:]]

    def restored(self) -> None:
        raise AssertionError("nobody else runs anything here")


class Scene:
    """A lane that works in virtual time, and fails as it is told to until it is told to `settle`."""

    def __init__(self, loop: VirtualLoop, shape: Shape) -> None:
        self.loop = loop
        self._per_id = shape.per_id * UNIT
        self._failures: list[tuple[str, int]] = []
        self._is_settled = False
        self._jitter = 0.5
        retry = RetryPolicy(3, base=16.0, longest=64.0, longest_hold=64.0, draw=lambda: self._jitter)
        self.bench = Bench(
            loop,
            RecordingUpstream(self._behave),
            interval=shape.interval * UNIT,
            batch_size=shape.batch_size,
            seconds_per_id=self._per_id,
            timeout=1000.0,
            retry=retry,
            aging=None if shape.aging is None else shape.aging * UNIT,
            fills_slots=shape.fills_slots,
        ).start()

    @property
    def lane(self) -> Lane:
        return self.bench.lane

    @property
    def now(self) -> float:
        return self.bench.clock.now()

    async def _behave(self, batch: Batch) -> object:
        await asyncio.sleep(self._per_id * len(batch.ids))
        if self._is_settled or not self._failures:
            return None
        kind, count = self._failures.pop(0)
        error: dict[str, UpstreamError] = {
            "unavailable": UpstreamUnavailable("answered 503"),
            "refuse": UpstreamError("answered 404"),
            "hold": UpstreamUnavailable("answered 429", retry_after=20.5),
        }
        return [error[kind] if place < count else item for place, item in enumerate(batch.ids)]

    def do(self, steps: Sequence[Step]) -> None:
        """Take steps, one after another; those that are impossible as things stand are passed over."""
        for kind, *values in steps:
            match kind:
                case "submit":
                    self.bench.submit(range(1, values[0] + 1), values[1])
                case "fail":
                    self._failures.append((values[0], values[1]))
                case "pass":
                    self.loop.advance(values[0] * UNIT)
                case "jitter":
                    self._jitter = values[0] / 8
                case "pause":
                    self.bench.decide(lambda: control.pause(self.lane, 0.0, ""))
                case "resume":
                    self.bench.decide(lambda: control.resume(self.lane))
                case _:
                    self._control(kind, *values)
        self._rest()

    def _rest(self) -> None:
        """Let all happen that is due by now: what is about to fail at this very instant is no question of forecasts."""
        witness = Witness()
        self.lane.observers.append(witness)
        seen: list[Start] | None = None
        while seen != witness.starts:
            seen = witness.starts.copy()
            for _ in range(20):
                self.loop.advance(0)
        self.lane.observers.remove(witness)

    def _control(self, kind: str, place: int, priority: Priority = Priority.LOW) -> None:
        ingestions = [*self.lane.ingestions.values()]
        ingestion = ingestions[place % len(ingestions)]
        try:
            match kind:
                case "cancel":
                    self.bench.decide(lambda: control.cancel(ingestion, 0.0))
                case "reprioritise":
                    self.bench.decide(lambda: control.reprioritise(ingestion, priority))
                case "revive":
                    self.bench.decide(lambda: control.revive(ingestion))
        except control.ConflictError:
            pass

    def accept(self, count: int, priority: Priority) -> Ingestion:
        """Take in an ingestion at this very instant, before anything else can happen."""
        accepted = self.lane.accept([1] * count, priority, self.bench.clock.time())
        self.lane.apply(accepted)
        return self.lane.ingestions[accepted.ingestion_id]

    def settle(self) -> list[Start]:
        """Let everything be done, with nothing more arriving or failing; return what then started."""
        self._is_settled = True
        witness = Witness()
        self.lane.observers.append(witness)
        self.bench.decide(lambda: control.resume(self.lane))
        while (at := self.lane.next_start(self.now)) < NEVER or self.lane.running is not None:
            self.loop.advance(max(UNIT, min(at, self.now + 64.0) - self.now))
        return witness.starts


@contextmanager
def scene(shape: Shape, steps: Sequence[Step] = ()) -> Iterator[Scene]:
    """Return a lane in the state that these steps lead to."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        made = Scene(loop, shape)
        made.do(steps)
        yield made
    finally:
        loop.finish()
        asyncio.set_event_loop(None)


def numbered(times: Sequence[float], shape: Shape) -> list[int]:
    """Return which slot each of these is in that start at these times."""
    if not shape.fills_slots:
        return [*range(len(times))]
    return [*accumulate((before != at for before, at in pairwise(times)), initial=0)][: len(times)]


def state_of(lane: Lane) -> object:
    """Return all that there is to a lane's state but for invalid queue entries, in a form that keeps and compares."""
    backlog = lane.backlog
    return (
        [
            [(name, repr(getattr(ingestion, name))) for name in Ingestion.__slots__]
            for ingestion in lane.ingestions.values()
        ],
        [ingestion.ingestion_id for ingestion in backlog.in_order()],
        [repr(slots.__dict__) for slots in backlog.slots],
        {seq: due for seq, (due, _) in backlog.delayed.items()},
        backlog.became_ready.is_set(),
        (lane.sequencer.upcoming, lane.running, lane.held, lane.paused, repr(lane.pace.__dict__)),
    )
