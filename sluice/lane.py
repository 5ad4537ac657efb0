"""One upstream's state machine: events change it, decisions read it and propose events."""

import logging
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from sortedcontainers import SortedDict, SortedList
from uuid_utils import uuid4

from sluice.backlog import Backlog
from sluice.decisions import Decisions
from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Idempotency,
    Interrupted,
    KeysExpired,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.ingestion import Ingestion
from sluice.journal import Journal, Saved, SavedIngestion, SavedKey
from sluice.models import DEFAULT_LANE, Priority
from sluice.observer import Observer
from sluice.order import Order
from sluice.outlook import Outlook
from sluice.pace import START_BUDGET, Pace
from sluice.quiet import Quiet
from sluice.sequencer import Sequencer

logger = logging.getLogger(__name__)


class Lane(Outlook):
    """One upstream, its pace, its backlog and every ingestion it was given.

    Whatever must be remembered is an event: `record` appends it to the journal,
    which has it applied once it is durable. What follows from the state is the
    outlook's to say.
    """

    def __init__(  # noqa: PLR0913 - each is a setting
        self,
        journal: Journal,
        pace: Pace,
        batch_size: int,
        name: str = DEFAULT_LANE,
        sequencer: Sequencer | None = None,
        *,
        order: Order | None = None,
        fills_slots: bool = False,
        quiet: Quiet | None = None,
    ) -> None:
        """Start from what the journal remembers.

        A slot has one batch, or, if it is to be filled, as many whole ones, next in the
        order, as have `batch_size` IDs together. Lanes of one process share the quiet before their starts.
        """
        self.journal = journal
        self.pace = pace
        self.batch_size = batch_size
        self.name = name
        self.sequencer = sequencer or Sequencer()
        self.keys_in_flight: set[str] = set()
        self.arriving = self.arriving_ids = 0  # ingestions that are being recorded, and their IDs
        self.is_closing = False
        self.observers: list[Observer] = []
        self._decisions = Decisions(lambda each: self.journal.decide(each))  # noqa: PLW0108 - it may yet be measured
        self.quiet = quiet or Quiet()
        self.quiet.add(self._decisions)
        self.latest_created_time = 0.0
        self.backlog = Backlog(order, room=batch_size if fills_slots else 0)
        journal.attach(self.apply, self.restore)
        self.restore(journal.replay())
        self.quiet.watch(self.next_start)

    def restore(self, saved: Saved) -> None:
        """Take up a saved state instead of the present one."""
        replaced, self.backlog = self.backlog, Backlog(self.backlog.order, self.backlog.room)
        # Not a dict: the first key of one costs as much as all that were deleted before it.
        self.keys: OrderedDict[str, SavedKey] = OrderedDict()
        self.finished: SortedList[tuple[float, str]] = SortedList()
        self.running, self.held, self.paused = saved.running, saved.held, saved.paused
        in_flight: dict[str, tuple[int, ...]] = {}
        for part in saved.running.parts if saved.running else ():
            in_flight[part.ingestion_id] = in_flight.get(part.ingestion_id, ()) + part.positions
        ingestions = [_restored(each, in_flight) for each in saved.ingestions]
        self.ingestions = {each.ingestion_id: each for each in ingestions}
        self.by_seq: SortedDict[int, Ingestion] = SortedDict((each.seq, each) for each in ingestions)
        self.backlog.fill(ingestions)
        self.waiting_ids = sum(each.waiting_ids for each in ingestions)
        self.finished.update(
            (each.finished_time, each.ingestion_id) for each in ingestions if each.finished_time is not None
        )
        if ingestions:
            self.latest_created_time = max(self.latest_created_time, ingestions[-1].created_time)
        for key in saved.keys:
            self._remember(key)
            self.latest_created_time = max(self.latest_created_time, key.created_time)
        self.sequencer.skip_to(saved.next_seq)
        if saved.last_start is not None:
            # Whoever runs the lane may know that the call was sent later than that.
            self.pace.started(max(self.pace.last_start, saved.last_start + START_BUDGET))
        # Whoever waits for the backlog looks at what there is now.
        replaced.became_ready.set()
        for observer in self.observers:
            observer.restored()

    async def record(self, *events: Event) -> None:
        """Make the events durable and apply them; raise `JournalError`, with nothing changed, if that is impossible."""
        await self.journal.append(events)

    async def decide(self, propose: Callable[[], Sequence[Event]], *, is_urgent: bool = False) -> None:
        """Record what `propose` makes of the state, with no other decision on the same between its look and the record.

        One that is urgent goes ahead of all that wait. Taken even if the caller is
        cancelled; raises what `propose` does, or `JournalError`, with nothing changed.
        """
        await self._decisions.take(propose, is_urgent=is_urgent)

    async def settled(self) -> None:
        """Return when all that was to be decided is recorded, or was refused."""
        await self._decisions.settled()

    def close(self) -> None:
        """Let those who look know that there will be no more progress."""
        self.is_closing = True

    def apply(self, event: Event) -> None:
        """Change the state as the event says, and tell the observers. Deterministic but for them."""
        was_running = self.running
        self._apply(event)
        # A start can be recorded again, with a later time, and the end of what had ended.
        if (isinstance(event, Started) and was_running) or (isinstance(event, Interrupted) and not was_running):
            return
        for observer in self.observers:
            try:
                observer.applied(event)
            except Exception:  # whoever looks on must not stop what happens
                logger.exception("an observer failed")

    def _apply(self, event: Event) -> None:  # noqa: PLR0912, PLR0915 - one case an event
        match event:
            case Accepted():
                self._add(Ingestion(event))
                if event.idempotency:
                    self.keys_in_flight.discard(event.idempotency.key)
                    self._remember(SavedKey(event.idempotency, event.ingestion_id, event.created_time))
            case Started():
                self.pace.started(event.at)
                for ingestion_id, positions in event.parts if self.running is None else ():
                    ingestion = self.ingestions[ingestion_id]
                    self.waiting_ids -= ingestion.waiting_ids
                    ingestion.start(positions)
                    self.waiting_ids += ingestion.waiting_ids
                    self.backlog.update(ingestion)
                self.running = event
            case Finished():
                if event.sent is not None:
                    self.pace.started(max(self.pace.last_start, event.sent))
                self.pace.finished(sum(len(part.outcomes) for part in event.parts), event.at)
                self.running = None
                for ingestion_id, outcomes in event.parts:
                    ingestion = self.ingestions[ingestion_id]
                    ingestion.finish(outcomes, event.time)
                    self._changed(ingestion)
            case Interrupted():
                interrupted, self.running = self.running, None
                for part in interrupted.parts if interrupted else ():
                    ingestion = self.ingestions[part.ingestion_id]
                    ingestion.interrupt(event.at)
                    self._changed(ingestion)
            case Held():
                self.held = event
            case Paused():
                self.paused = event
            case Resumed():
                self.paused = None
                self.backlog.became_ready.set()
            case Cancelled():
                ingestion = self.ingestions[event.ingestion_id]
                self.waiting_ids -= ingestion.waiting_ids
                ingestion.cancel(event.failed, event.time)
                self._changed(ingestion)
            case Reprioritised():
                ingestion = self.ingestions[event.ingestion_id]
                self.backlog.remove(ingestion)
                ingestion.priority = event.priority
                self.backlog.update(ingestion)
            case Revived():
                ingestion = self.ingestions[event.ingestion_id]
                ingestion.revive()
                self._changed(ingestion)
            case Expired():
                self._remove(self.ingestions[event.ingestion_id])
            case KeysExpired():
                while self.keys and next(iter(self.keys.values())).created_time <= event.time:
                    self.keys.popitem(last=False)

    # Decisions

    def accept(
        self,
        ids: Sequence[int],
        priority: Priority,
        time: float,
        idempotency: Idempotency | None = None,
        owner: str = "",
    ) -> Accepted:
        """Propose to take in `ids` at `time`, Unix seconds, for the key named `owner`.

        An array is kept, not copied: leave it as it is.
        """
        # A wall clock that is set back must not let a newcomer overtake.
        self.latest_created_time = max(self.latest_created_time, time)
        return Accepted(
            str(uuid4()),
            priority,
            self.latest_created_time,
            self.sequencer.take(),
            self.batch_size,
            ids if isinstance(ids, array) else array("I", ids),
            idempotency,
            owner,
        )

    # Plumbing

    def _changed(self, ingestion: Ingestion) -> None:
        self.backlog.update(ingestion)
        if ingestion.finished_time is not None:
            self.finished.add((ingestion.finished_time, ingestion.ingestion_id))

    def _add(self, ingestion: Ingestion) -> None:
        self.ingestions[ingestion.ingestion_id] = ingestion
        self.by_seq[ingestion.seq] = ingestion
        self.waiting_ids += len(ingestion.ids)
        self.backlog.add(ingestion)

    def _remove(self, ingestion: Ingestion) -> None:
        del self.ingestions[ingestion.ingestion_id]
        del self.by_seq[ingestion.seq]
        self.waiting_ids -= ingestion.waiting_ids
        self.backlog.remove(ingestion)
        if ingestion.finished_time is not None:
            self.finished.discard((ingestion.finished_time, ingestion.ingestion_id))

    def _remember(self, key: SavedKey) -> None:
        self.keys[key.idempotency.key] = key
        self.keys.move_to_end(key.idempotency.key)


def _restored(saved: SavedIngestion, in_flight: Mapping[str, tuple[int, ...]]) -> Ingestion:
    ingestion = Ingestion(saved.accepted)
    if saved.started or saved.is_cancelled:
        ingestion.is_cancelled, ingestion.gives_up = saved.is_cancelled, saved.gives_up
        ingestion.troubles.update(saved.failed)
        own_flight = in_flight.get(ingestion.ingestion_id, ())
        ingestion.restore(saved.started, saved.waiting, saved.changed_time, own_flight)
    return ingestion
