"""What can happen to a lane. A journal remembers these; `Lane.apply` is what they do.

An `ingestion_id` is the canonical text of a UUID: lower case, with hyphens. A
`position` is the place of an ID in its ingestion, from 0. `at` and what else is
compared with it are seconds on the monotonic clock; `time` is Unix seconds.
"""

from array import array
from typing import Literal, NamedTuple

from sluice.models import Priority


class Idempotency(NamedTuple):
    """The key that a client sent with a submission, and the digest of what it submitted."""

    key: str
    digest: bytes


class Accepted(NamedTuple):
    """An ingestion was taken in. `created_time` is Unix seconds; `seq` breaks its ties.

    `owner` is the name of the key that it was submitted with, empty where none was needed.
    """

    ingestion_id: str
    priority: Priority
    created_time: float
    seq: int
    batch_size: int
    ids: "array[int]"
    idempotency: Idempotency | None = None
    owner: str = ""


class Part(NamedTuple):
    """IDs of one ingestion that are in a slot: its first unstarted batch, or IDs tried again."""

    ingestion_id: str
    positions: tuple[int, ...]


class Started(NamedTuple):
    """These IDs of an ingestion were handed to the upstream, and `also` those of others that share its slot.

    One ingestion can be there twice: with IDs tried again, and with the last of its batches.
    """

    ingestion_id: str
    positions: tuple[int, ...]
    at: float
    also: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that is in the slot, in the order that it was taken."""
        return (Part(self.ingestion_id, self.positions), *self.also)


class Outcome(NamedTuple):
    """What came of one ID in one slot: an answer (JSON), or an error that is final or leads to another attempt.

    `attempts` counts the calls so far that count; `retry_at` is when the next one may come.
    """

    position: int
    attempts: int
    data: bytes | None = None
    error: str | None = None
    retry_at: float | None = None

    @property
    def status(self) -> Literal["completed", "failed", "retrying"]:
        """What came of it, in a word."""
        if self.error is None:
            return "completed"
        return "failed" if self.retry_at is None else "retrying"


class Ended(NamedTuple):
    """What came of the IDs of one ingestion that were in a slot."""

    ingestion_id: str
    outcomes: tuple[Outcome, ...]


class Finished(NamedTuple):
    """The upstream is done with the IDs that were last started, and `also` with those that shared their slot.

    `sent` is when their first call was sent, where that was later than the start lets one expect.
    """

    ingestion_id: str
    outcomes: tuple[Outcome, ...]
    at: float
    time: float
    also: tuple[Ended, ...] = ()
    sent: float | None = None

    @property
    def parts(self) -> tuple[Ended, ...]:
        """What came of all that was in the slot."""
        return (Ended(self.ingestion_id, self.outcomes), *self.also)


class Interrupted(NamedTuple):
    """Whoever ran the batch that is in flight is gone: its IDs are to be tried again, with no attempt counted."""

    at: float


class Held(NamedTuple):
    """The upstream asked to be left alone: no batch starts before `until`."""

    until: float
    reason: str


class Paused(NamedTuple):
    """An operator stopped the starting of batches."""

    time: float
    reason: str


class Resumed(NamedTuple):
    """An operator let batches start again."""


class Cancelled(NamedTuple):
    """What has not started of an ingestion never will, and what waits for another attempt has failed."""

    ingestion_id: str
    failed: tuple[Outcome, ...]
    time: float


class Reprioritised(NamedTuple):
    """An ingestion moved to where it would be had it been accepted with this priority."""

    ingestion_id: str
    priority: Priority


class Revived(NamedTuple):
    """The failed IDs of an ingestion got a fresh set of attempts."""

    ingestion_id: str


class Expired(NamedTuple):
    """A finished ingestion and its results are forgotten."""

    ingestion_id: str


class KeysExpired(NamedTuple):
    """Idempotency keys of ingestions created at `time` or before are forgotten."""

    time: float


Event = (
    Accepted
    | Started
    | Finished
    | Interrupted
    | Held
    | Paused
    | Resumed
    | Cancelled
    | Reprioritised
    | Revived
    | Expired
    | KeysExpired
)
