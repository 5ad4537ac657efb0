"""What happened lately, number by number, and those who listen for what happens next."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from itertools import starmap
from typing import Any

from uuid_utils import uuid4

from sluice.background import in_background
from sluice.clock import Clock, utc
from sluice.events import (
    Accepted,
    Ended,
    Event,
    Expired,
    Finished,
    Held,
    Interrupted,
    KeysExpired,
    Outcome,
    Paused,
    Resumed,
    Started,
)
from sluice.lane import Lane
from sluice.notice import EXPIRED, KINDS, RESET, Newcomer, Notice, details, summary

LENGTH = 1000  # notices that are kept for who comes back
MOST_BEHIND = 1000  # notices that wait for a listener before it is dropped
MOST_IDS = 100_000  # that kept or waiting notices name, for with large batches each takes megabytes
MOST_UNSTIRRED = 100  # notices: a burst may not have one dropped that would have listened in time
AT_ONCE = 20  # listeners
LONGEST_NUMBER = 18  # digits
PAUSE, REST = 0.002, 0.05  # seconds: between a few listeners and the next, and before all have their turn again


class Listener:
    """One who listens to a lane, to an ingestion of it, or to everything."""

    def __init__(self, lane: Lane | None, ingestion_id: str | None) -> None:
        self.lane = lane
        self.ingestion_id = ingestion_id
        self.is_ended = False
        self._unheard: deque[Notice] = deque()
        self._unheard_ids = 0
        self._stir = asyncio.Event()

    @property
    def is_behind(self) -> bool:
        """Whether it was told what it has not heard."""
        return bool(self._unheard)

    async def hear(self, longest: float) -> list[Notice]:
        """Return what has not been heard yet, once there is some: nothing after `longest` seconds, or at the end."""
        if not self.is_ended:
            try:
                async with asyncio.timeout(longest):
                    await self._stir.wait()
            except TimeoutError:
                # The end may have come in the same instant: what was told before it is still to be heard.
                if not self.is_ended:
                    return []
            self._stir.clear()
        heard = [*self._unheard]
        self._drop()
        return heard

    def is_for(self, notice: Notice) -> bool:
        """Return whether it listens for this one."""
        if self.ingestion_id is not None:
            return notice.ingestion_id == self.ingestion_id
        return self.lane is None or self.lane.name == notice.lane

    def tell(self, notice: Notice) -> None:
        """Let it hear; one that is too far behind hears no more, and had better come back."""
        if self.is_ended:
            return
        if len(self._unheard) == MOST_BEHIND or self._unheard_ids > MOST_IDS:
            self._drop()
            self.end()
            return
        self._unheard.append(notice)
        self._unheard_ids += notice.ids
        if len(self._unheard) > MOST_UNSTIRRED:
            self._stir.set()
        if notice.is_last and self.ingestion_id is not None:
            # Not stirred by that: there may be a crowd that listens to the same.
            self.is_ended = True

    def stir(self) -> None:
        """Have it hear what it has been told."""
        if self.is_behind:
            self._stir.set()

    def end(self) -> None:
        """Let it know that it will hear no more."""
        self.is_ended = True
        self._stir.set()

    def _drop(self) -> None:
        self._unheard.clear()
        self._unheard_ids = 0


class Stream:
    """Everything that happens to the lanes, in one sequence of numbers that is this process's own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoch = str(uuid4())[:8]
        self._latest = 0
        self._kept: deque[Notice] = deque()
        self._kept_ids = 0
        self._listeners: dict[str | None, set[Listener]] = {}  # by the ingestion that they listen to
        self._leaving: list[Listener] = []  # those who are forgotten already, and are yet to hear the last
        self._is_closed = False
        self.was_heard = False  # before, nobody can have an id to come back with
        self._news = asyncio.Event()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Pass on what happens until the block is left."""
        return in_background(self.run(), "stream")

    async def run(self) -> None:
        """Pass on what happens until cancelled.

        A few listeners at a time, and not again at once: with a thousand of them one
        event takes tens of milliseconds, and the start of a batch must not wait for it.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            listeners = [each for each in [*self._leaving, *self._all()] if each.is_behind]
            self._leaving.clear()
            for first in range(0, len(listeners), AT_ONCE):
                for listener in listeners[first : first + AT_ONCE]:
                    listener.stir()
                await asyncio.sleep(PAUSE)
            await asyncio.sleep(REST)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return sum(map(len, self._listeners.values()))

    def watch(self, lane: Lane) -> None:
        """Tell of everything that happens to a lane from now on."""
        lane.observers.append(_Watcher(self, lane, self._clock))

    @contextmanager
    def listening(self, lane: Lane | None, ingestion_id: str | None, last_event_id: str | None) -> Iterator[Listener]:
        """Listen, going on after the event with this id.

        If it is not known any more, or none is given, what comes first is a reset; of an
        ingestion it tells how far that has come.
        """
        self.was_heard = True
        listener = Listener(lane, ingestion_id)
        missed = self._since(last_event_id)
        for notice in [self._reset(listener)] if missed is None else filter(listener.is_for, missed):
            listener.tell(notice)
        listener.stir()
        if self._is_closed or (lane and ingestion_id and _is_over(lane, ingestion_id)):
            listener.end()
        self._listeners.setdefault(ingestion_id, set()).add(listener)
        try:
            yield listener
        finally:
            self._forget(listener)

    async def has_news(self, lane: Lane, ingestion_id: str, longest: float) -> bool:
        """Return True once anything happens to an ingestion, or the stream ends; False after `longest` seconds."""
        with self.listening(lane, ingestion_id, f"{self._epoch}-{self._latest}") as listener:
            return bool(await listener.hear(longest)) or listener.is_ended

    def is_over(self, lane: Lane, ingestion_id: str, last_event_id: str | None) -> bool:
        """Return whether who heard this event has heard all that there is to hear of an ingestion."""
        missed = self._since(last_event_id)
        return (
            missed is not None
            and _is_over(lane, ingestion_id)
            and all(notice.ingestion_id != ingestion_id for notice in missed)
        )

    def publish(self, kind: str, lane: Lane, data: dict[str, Any] | Newcomer) -> None:
        """Tell of something that happened just now."""
        if not self.was_heard:
            return
        self._latest += 1
        notice = self._notice(kind, lane.name, data)
        self._keep(notice)
        for ingestion_id in {None, notice.ingestion_id} if self._listeners else ():
            for listener in [*self._listeners.get(ingestion_id, ())]:
                if listener.is_for(notice):
                    self._tell(listener, notice)
        if self._listeners or self._leaving:
            self._news.set()

    def start_anew(self, lane: Lane) -> None:
        """Tell those who listen to a lane that they missed something of it."""
        self._latest += 1
        self._kept.clear()
        self._kept_ids = 0
        for listener in self._all():
            if listener.lane in (None, lane):
                self._tell(listener, self._reset(listener))
        self._news.set()

    def close(self) -> None:
        """Let everyone know that there will be no more."""
        self._is_closed = True
        for listener in self._all():
            listener.end()

    def _since(self, event_id: str | None) -> list[Notice] | None:
        """Return what came after an event, or None if that cannot be told."""
        epoch, _, number = (event_id or "").partition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdecimal() and len(number) < LONGEST_NUMBER):
            return None
        missing = self._latest - int(number)
        if not 0 <= missing <= len(self._kept):
            return None
        return list(self._kept)[len(self._kept) - missing :]

    def _reset(self, listener: Listener) -> Notice:
        lane, ingestion_id = listener.lane, listener.ingestion_id
        if lane is None or ingestion_id is None:
            return self._notice(RESET, lane.name if lane else None, {})
        if ingestion := lane.ingestions.get(ingestion_id):
            return self._notice(RESET, lane.name, summary(ingestion))
        return self._notice(EXPIRED, lane.name, {"ingestion_id": ingestion_id})

    def _notice(self, kind: str, lane: str | None, data: dict[str, Any] | Newcomer) -> Notice:
        return Notice((self._epoch, self._latest), kind, lane, self._clock.time(), data)

    def _keep(self, notice: Notice) -> None:
        self._kept.append(notice)
        self._kept_ids += notice.ids
        while len(self._kept) > LENGTH or self._kept_ids > MOST_IDS:
            self._kept_ids -= self._kept.popleft().ids

    def _tell(self, listener: Listener, notice: Notice) -> None:
        listener.tell(notice)
        if listener.is_ended:
            # Now, for whoever sends to it may be held up for ever.
            self._forget(listener)
            self._leaving.append(listener)

    def _forget(self, listener: Listener) -> None:
        listeners = self._listeners.get(listener.ingestion_id, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(listener.ingestion_id, None)

    def _all(self) -> list[Listener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]


class _Watcher:
    """Looks on at a lane for the stream."""

    def __init__(self, stream: Stream, lane: Lane, clock: Clock) -> None:
        self._stream = stream
        self._lane = lane
        self._clock = clock
        self._running = _running(lane)

    def applied(self, event: Event) -> None:
        if isinstance(event, Accepted):
            # By themselves, for there may be thousands in a second.
            if not self._stream.was_heard:
                return
            self._publish(event, Newcomer(event.ingestion_id, event.priority, len(event.ids), event.batch_size))
            return
        data: dict[str, Any]
        match event:
            case KeysExpired():
                return
            case Held(until, reason):
                data = {"until": utc(until - self._clock.now() + self._clock.time()), "reason": reason}
            case Paused(_, reason):
                data = {"reason": reason}
            case Resumed():
                data = {}
            case Expired(ingestion_id):
                data = {"ingestion_id": ingestion_id}
            case Interrupted():
                for ingestion_id in self._running:
                    self._publish(event, summary(self._lane.ingestions[ingestion_id]))
                return
            case Started() | Finished():
                self._running = _running(self._lane) or self._running
                for part in event.parts if isinstance(event, Started) else _by_ingestion(event):
                    ingestion = self._lane.ingestions[part.ingestion_id]
                    self._publish(event, summary(ingestion) | details(part, ingestion))
                return
            case _:
                data = summary(self._lane.ingestions[event.ingestion_id])
        self._publish(event, data)

    def restored(self) -> None:
        self._running = _running(self._lane)
        self._stream.start_anew(self._lane)

    def _publish(self, event: Event, data: dict[str, Any] | Newcomer) -> None:
        self._stream.publish(KINDS[type(event)], self._lane, data)


def _running(lane: Lane) -> list[str]:
    """Return the ingestions that the upstream is at, each once."""
    return list(dict.fromkeys(part.ingestion_id for part in lane.running.parts)) if lane.running else []


def _by_ingestion(finished: Finished) -> list[Ended]:
    """Return what ended of each ingestion: who hears that one is completed has heard all of it."""
    outcomes: dict[str, tuple[Outcome, ...]] = {}
    for part in finished.parts:
        outcomes[part.ingestion_id] = outcomes.get(part.ingestion_id, ()) + part.outcomes
    return [*starmap(Ended, outcomes.items())]


def _is_over(lane: Lane, ingestion_id: str) -> bool:
    ingestion = lane.ingestions.get(ingestion_id)
    return ingestion is None or ingestion.is_done
