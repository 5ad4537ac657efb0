"""Decisions: each is taken on the state as it is, with no other one between its look and the record."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from sluice.events import Cancelled, Event, Expired, Reprioritised, Revived

Propose = Callable[[], Sequence[Event]]

OF_ONE = Cancelled | Reprioritised | Revived | Expired  # what changes one ingestion, and nothing else
AT_ONCE = 8  # decisions that share a record, at most: a batch start waits for all that go on when it is there


class _Decision:
    """What is to be decided, and what came of it."""

    def __init__(self, propose: Propose) -> None:
        self._propose = propose
        self._failure: Exception | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever waited for it may be gone.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

    def ask(self) -> Sequence[Event]:
        """Return what it makes of the state: nothing, if it fails."""
        self._failure = None
        try:
            return self._propose()
        except Exception as error:  # noqa: BLE001 - it is raised where the decision was asked for; others go on
            self._failure = error
            return ()

    def settle(self, failure: Exception | None) -> None:
        """Let who waits for it know what came of it; `failure` is the record's."""
        if error := self._failure or failure:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class Decisions:
    """Takes the decisions on a lane, one after another; what is urgent goes ahead of all that wait.

    Those that wait share a record if each is about an ingestion of its own: none of
    them can tell whether the others were taken before it or after it.
    """

    def __init__(self, record: Callable[[Propose], Awaitable[None]]) -> None:
        """Take what records what is proposed, as `Journal.decide` does."""
        self._record = record
        self._urgent: deque[_Decision] = deque()
        self._waiting: deque[_Decision] = deque()
        self._taking: asyncio.Task[None] | None = None
        self._is_held = False

    async def take(self, propose: Propose, *, is_urgent: bool) -> None:
        """Record what `propose` makes of the state; it may be asked several times. Raise what it or the journal does.

        One whose caller is cancelled is taken all the same.
        """
        decision = _Decision(propose)
        (self._urgent if is_urgent else self._waiting).append(decision)
        self._begin()
        await asyncio.shield(decision.done)

    async def settled(self) -> None:
        """Return when no decision is being taken, and none waits."""
        self.go_on()
        while self._taking is not None:
            await asyncio.wait([self._taking])

    def hold(self) -> None:
        """Take what is urgent only until `go_on`."""
        self._is_held = True

    def go_on(self) -> None:
        """Take what waits as well."""
        self._is_held = False
        self._begin()

    @property
    def _has_next(self) -> bool:
        return bool(self._urgent or (self._waiting and not self._is_held))

    def _begin(self) -> None:
        if self._taking is None and self._has_next:
            self._taking = asyncio.create_task(self._take_all(), name="decisions")

    async def _take_all(self) -> None:
        try:
            while self._has_next:
                await self._take_some()
        finally:
            self._taking = None

    async def _take_some(self) -> None:
        chosen: list[_Decision] = []
        taken: list[_Decision] = []

        def propose() -> Sequence[Event]:
            nonlocal chosen, taken
            # As late as the journal asks, for who is urgent may have come; the same ones should it ask again.
            chosen = chosen or self._next()
            taken, events = _together(chosen)
            return events

        failure: Exception | None = None
        try:
            await self._record(propose)
        except Exception as error:  # noqa: BLE001 - it is raised where the decisions were asked for; others go on
            failure = error
            taken = taken or self._next()
        self._waiting.extendleft(reversed(chosen[len(taken) :]))
        for decision in taken:
            decision.settle(failure)

    def _next(self) -> list[_Decision]:
        if self._urgent:
            return [self._urgent.popleft()]
        return [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]


def _together(decisions: list[_Decision]) -> tuple[list[_Decision], list[Event]]:
    """Return those of the first decisions that can be taken together, and what they make of the state."""
    together: list[Event] = []
    concerned: set[str | None] = set()
    for number, decision in enumerate(decisions):
        events = decision.ask()
        about = {each.ingestion_id if isinstance(each, OF_ONE) else None for each in events}
        # Where there is nothing to do it may be for what those before it do.
        if concerned and (not about or None in concerned | about or concerned & about):
            return decisions[:number], together
        concerned |= about
        together += events
    return decisions, together
