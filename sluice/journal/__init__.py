"""Where a lane's events are remembered, and what the upstream answered."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from sluice.events import Accepted, Event, Held, Idempotency, Paused
from sluice.ingestion import Trouble

PAGE_BYTES = 256 * 1024

T = TypeVar("T")


class JournalError(Exception):
    """The journal cannot remember anything now; nothing was changed. The text says why."""


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
    """A lane to start from. Ingestions come in the order of `seq`, keys in that of `created_time`."""

    ingestions: Iterable[SavedIngestion] = ()
    keys: Iterable[SavedKey] = ()
    last_start: float | None = None
    held: Held | None = None
    paused: Paused | None = None
    next_seq: int = 0


class Journal(Protocol):
    """What a lane asks of the place that remembers its events."""

    def replay(self) -> Saved:
        """Return the state to start from, in terms of this process's clocks."""

    async def append(self, events: Sequence[Event], apply: Callable[[Event], None]) -> None:
        """Make the events durable, all or none, then apply each; in order with other appends.

        They are applied even if the caller was cancelled meanwhile. Raises
        `JournalError` if they cannot be made durable.
        """

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
