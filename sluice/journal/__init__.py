"""Where a lane's events are remembered, and what the upstream answered."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from sluice.events import Accepted, Event, Held, Idempotency, Paused, Started
from sluice.ingestion import Trouble

PAGE_BYTES = 256 * 1024

T = TypeVar("T")


class JournalError(Exception):
    """The journal cannot remember anything now; nothing was changed. The text says why."""


class KeyTakenError(JournalError):
    """Another process accepted a submission with this idempotency key; `catch_up` tells of it."""


class LeaseLostError(Exception):
    """Another process runs the lane now: this one may start no batch of it, and end none."""


class EarlyError(Exception):
    """The journal's clock says that a start would come `seconds` too early; nothing was changed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:g} s too early")
        self.seconds = seconds


class JournalRefusedError(JournalError):
    """The journal cannot be used at all; the text says what to do, in one line."""


class Result(NamedTuple):
    """How one ID ended: with an answer (JSON) or an error. `finished_time` is Unix seconds."""

    position: int
    attempts: int
    data: bytes | None
    error: str | None
    finished_time: float

    @property
    def size(self) -> int:
        """Bytes of the answer."""
        return len(self.data or b"")


class SavedIngestion(NamedTuple):
    """An ingestion as it was when the journal last heard of it.

    `waiting` has the IDs that are to be tried again, and not before when.
    """

    accepted: Accepted
    started: int
    is_cancelled: bool
    gives_up: bool
    waiting: Sequence[tuple[int, float, Trouble]]
    failed: Sequence[tuple[int, Trouble]]
    changed_time: float


class SavedKey(NamedTuple):
    """An idempotency key and the ingestion that was submitted with it."""

    idempotency: Idempotency
    ingestion_id: str
    created_time: float


class Saved(NamedTuple):
    """A lane to start from. Ingestions come in the order of `seq`, keys in that of `created_time`.

    `running` is what another process runs; what this one ran is among what waits.
    """

    ingestions: Iterable[SavedIngestion] = ()
    keys: Iterable[SavedKey] = ()
    last_start: float | None = None
    running: Started | None = None
    held: Held | None = None
    paused: Paused | None = None
    next_seq: int = 0


class Journal(Protocol):
    """What a lane asks of the place that remembers its events, and that other processes may share."""

    def attach(self, apply: Callable[[Event], None], restore: Callable[[Saved], None]) -> None:
        """Take what applies an event to the state, and what goes on from a saved state instead; before all else."""

    def replay(self) -> Saved:
        """Return the state to start from, in terms of this process's clocks."""

    async def append(self, events: Sequence[Event]) -> None:
        """Make the events durable, all or none, then apply each; in order with other appends.

        They are applied even if the caller was cancelled meanwhile. What is accepted
        comes this way, with nothing else beside it, and may get its `seq` and
        `created_time` here. Raises `JournalError` if they cannot
        be made durable, `KeyTakenError` where an idempotency key is another's.
        """

    async def decide(self, propose: Callable[[], Sequence[Event]]) -> None:
        """Append what `propose` makes of the state, with nothing appended between its look and that.

        Raises what `propose` or `append` does; `LeaseLostError` or `EarlyError` for a
        start or an end that is not this process's to decide, or not yet.
        """

    async def catch_up(self) -> None:
        """Return when everything has been applied that anyone appended before; raise `JournalError` if impossible."""

    async def results(self, ingestion_id: str, start: int, end: int) -> list[Result]:
        """Return results of the positions from `start` to before `end`, in order: the first `PAGE_BYTES` or so.

        There may be more after the last one returned; there are none when none is.
        """

    async def sweep(self) -> bool:
        """Remove a little of what expired ingestions left; return whether there is more."""


def page(items: Iterable[T], size_of: Callable[[T], int]) -> list[T]:
    """Return the first items, as many as it takes to have `PAGE_BYTES`."""
    taken, size = [], 0
    for item in items:
        taken.append(item)
        size += size_of(item)
        if size >= PAGE_BYTES:
            break
    return taken
