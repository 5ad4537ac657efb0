"""The model: every ID of every ingestion in a plain list, looked through from the start each time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Interrupted,
    KeysExpired,
    Outcome,
    Part,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.ingestion import Trouble
from sluice.journal import Result, Saved, SavedIngestion
from sluice.models import Priority
from sluice.pace import START_BUDGET
from tests.virtual import TICK, VirtualLoop

NEVER = float("inf")
ATTEMPTS = 3


@dataclass
class Item:
    """One ID: `new`, `flying`, `waiting` (from `since`, with an error), `done`, `failed` or `cancelled`."""

    state: str
    since: float
    attempts: int = 0


@dataclass
class Job:
    """One ingestion."""

    accepted: Accepted
    priority: Priority
    items: list[Item]
    cancelled: bool = False
    gives_up: bool = False

    def key(self, aging: float | None, time: float) -> tuple[int, float, int]:
        """Return what the order goes by: the class at that time, since when it is in there, and its number."""
        since = self.accepted.created_time
        if aging is None:
            return self.priority, since, self.accepted.seq
        risen = min(int(self.priority), int((time - since) / aging))
        return self.priority - risen, since + aging * risen, self.accepted.seq

    def batches(self) -> list[list[Item]]:
        size = self.accepted.batch_size
        return [self.items[first : first + size] for first in range(0, len(self.items), size)]

    def next(self, now: float) -> tuple[int, ...]:
        """Return the positions that go next at `now`: IDs to be tried again, else the first new batch."""
        size = self.accepted.batch_size
        again = [place for place, item in enumerate(self.items) if item.state == "waiting" and item.since <= now]
        new = [place for place, item in enumerate(self.items) if item.state == "new"]
        return tuple(again[:size] or [place for place in new if place // size == new[0] // size])

    def status_of(self, batch: list[Item]) -> str:
        states = {item.state for item in batch}
        if states <= {"new"}:
            return "yet_to_start"
        if states & {"flying", "waiting"}:
            return "triggered"
        return next((state for state in ("cancelled", "failed") if state in states), "completed")

    @property
    def is_done(self) -> bool:
        return not {item.state for item in self.items} & {"new", "flying", "waiting"}


class Slot(NamedTuple):
    """Where an ingestion's first and last slots are: how many are ahead, and times."""

    position: int
    first: float
    last: float
    last_length: int


@dataclass
class ModelJournal:
    """Stands where the journal does, so it sees, and judges, every event at the instant of its decision."""

    loop: VirtualLoop
    interval: float
    jobs: dict[str, Job] = field(default_factory=dict)
    running: Started | None = None
    recorded_start: float = -NEVER
    last_start: float = -NEVER
    last_end: float = -NEVER
    held: Held | None = None
    paused: Paused | None = None
    not_before: float = -NEVER  # the last resumption or restart
    judge: Callable[[int, Outcome], None] = lambda item, outcome: None
    apply: Callable[[Event], None] = lambda event: None
    aging: float | None = None
    room: int = 0
    wall: Callable[[], float] = lambda: 0.0

    def earliest(self, now: float) -> float:
        """Return when the next start must have been, or must be; never if nothing is ready at `now`."""
        ready = min(
            (
                item.since
                for job in self.jobs.values()
                for item in job.items
                if item.state in ("new", "waiting") and item.since <= now
            ),
            default=NEVER,
        )
        held_until = self.held.until if self.held else -NEVER
        return max(self.last_start + self.interval, self.last_end, held_until, self.not_before, ready)

    def attach(self, apply: Callable[[Event], None], restore: Callable[[Saved], None]) -> None:
        self.apply = apply

    def replay(self) -> Saved:
        saved = []
        for job in self.jobs.values():
            started = sum(not {item.state for item in batch} & {"new", "cancelled"} for batch in job.batches())
            waiting, failed = [], []
            for place, item in enumerate(job.items):
                if item.state == "waiting" or (item.state == "flying" and item.attempts):
                    waiting.append((place, item.since, Trouble(item.attempts, "error", is_final=False)))
                if item.state == "failed":
                    failed.append((place, Trouble(item.attempts, "error", is_final=True)))
            accepted = job.accepted._replace(priority=job.priority)
            saved.append(SavedIngestion(accepted, started, job.cancelled, job.gives_up, waiting, failed, 0.0))
        last_start = None if self.recorded_start == -NEVER else self.recorded_start
        next_seq = 1 + max((job.accepted.seq for job in self.jobs.values()), default=-1)
        return Saved(saved, (), last_start, running=self.running, held=self.held, paused=self.paused, next_seq=next_seq)

    def resume_from_record(self) -> None:
        """Take note that a process takes up what was recorded, without having died."""
        if self.recorded_start > -NEVER:
            self.last_start = self.recorded_start + START_BUDGET

    def restart(self) -> None:
        """Take note that the process died and another one begins."""
        self.not_before = self.loop.time()
        if self.running:
            for name, positions in self.running.parts:
                for place in positions:
                    item = self.jobs[name].items[place]
                    item.state, item.since = "waiting", self.loop.time()
            self.running = None
            self.last_end = self.loop.time()
        self.resume_from_record()

    async def append(self, events: Sequence[Event]) -> None:
        for event in events:
            self.see(event)
            self.apply(event)

    async def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        await self.append(propose())

    async def catch_up(self) -> None:
        pass

    async def results(self, ingestion_id: str, start: int, end: int) -> list[Result]:
        return []

    async def sweep(self) -> bool:
        return False

    def see(self, event: Event) -> None:  # noqa: PLR0912 - one case an event
        now = self.loop.time()
        match event:
            case Accepted():
                self.jobs[event.ingestion_id] = Job(event, event.priority, [Item("new", now) for _ in event.ids])
            case Started():
                self.see_start(event, now)
            case Finished():
                self.see_end(event, now)
            case Held():
                self.held = event
            case Paused():
                self.paused = event
            case Resumed():
                self.paused, self.not_before = None, now
            case Cancelled():
                job = self.jobs[event.ingestion_id]
                job.cancelled = job.gives_up = True
                waiting = [place for place, item in enumerate(job.items) if item.state == "waiting"]
                assert [outcome.position for outcome in event.failed] == waiting
                for item in job.items:
                    item.state = {"new": "cancelled", "waiting": "failed"}.get(item.state, item.state)
            case Reprioritised():
                self.jobs[event.ingestion_id].priority = event.priority
            case Revived():
                self.jobs[event.ingestion_id].gives_up = False
                for item in self.jobs[event.ingestion_id].items:
                    if item.state == "failed":
                        item.state, item.since, item.attempts = "waiting", now, 0
            case Expired() | KeysExpired() | Interrupted():
                raise AssertionError("nothing expires here, and nobody else runs anything")

    def see_start(self, event: Started, now: float) -> None:
        assert self.running is None, "two batches at a time"
        assert self.paused is None
        assert event.at == pytest.approx(now, abs=TICK)
        assert event.at - self.last_start >= self.interval - TICK, "early"
        assert event.at == pytest.approx(self.earliest(now), abs=2 * TICK), "late"
        assert [*event.parts] == self.take_slot(now)
        self.running, self.last_start, self.recorded_start = event, event.at, event.at

    def see_end(self, event: Finished, now: float) -> None:
        assert self.running
        for part, started in zip(event.parts, self.running.parts, strict=True):
            assert part.ingestion_id == started.ingestion_id
            assert tuple(outcome.position for outcome in part.outcomes) == started.positions
            job = self.jobs[part.ingestion_id]
            for outcome in part.outcomes:
                item = job.items[outcome.position]
                assert item.attempts <= outcome.attempts <= item.attempts + 1
                if outcome.retry_at is not None:
                    assert not job.gives_up
                    assert outcome.attempts < ATTEMPTS
                    item.state, item.since = "waiting", outcome.retry_at
                else:
                    item.state = "done" if outcome.error is None else "failed"
                item.attempts = outcome.attempts
                self.judge(job.accepted.ids[outcome.position], outcome)
        self.running, self.last_end = None, event.at

    def take_slot(self, now: float) -> list[Part]:
        """Put in flight what the slot at `now` is for: the next batch, and what is next to it and fits in as well."""
        parts: list[Part] = []
        filled = 0
        while ready := [job for job in self.jobs.values() if job.next(now)]:
            first = min(ready, key=lambda job: job.key(self.aging, self.time(now)))
            positions = first.next(now)
            if parts and filled + len(positions) > self.room:
                break
            for place in positions:
                first.items[place].state = "flying"
            parts.append(Part(first.accepted.ingestion_id, positions))
            filled += len(positions)
        return parts

    def time(self, now: float) -> float:
        """Return the wall clock's time, which is set back for nobody that waits already."""
        latest = max(job.accepted.created_time for job in self.jobs.values())
        return max(self.wall() + now - float(self.loop.time()), latest)

    def play(self, start: float, spacing: float) -> dict[str, Slot]:
        """Play every coming slot if nothing more arrives or fails, the first at `start`."""
        states = {name: [item.state for item in job.items] for name, job in self.jobs.items()}
        slots: dict[str, Slot] = {}
        taken, now = 0, start
        while (
            next_due := min(
                (i.since for job in self.jobs.values() for i in job.items if i.state in ("new", "waiting")),
                default=NEVER,
            )
        ) < NEVER:
            if parts := self.take_slot(now):
                length = sum(len(part.positions) for part in parts)
                for name, _ in parts:
                    before = slots.get(name)
                    slots[name] = Slot(
                        before.position if before else taken, before.first if before else now, now, length
                    )
                taken, now = taken + 1, now + spacing
            else:
                now = next_due
        for name, job in self.jobs.items():
            for item, state in zip(job.items, states[name], strict=True):
                item.state = state
        return slots
