"""What clients submitted and were told, and the keys of the calls that follow from it."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID, uuid5

BATCH_SIZE = 3


class Submission(NamedTuple):
    """What a client wants. Every ID is submitted once in a test."""

    key: str
    ids: tuple[int, ...]
    priority: str


class Acknowledged(NamedTuple):
    """A submission that was answered with an id, and when, in monotonic seconds."""

    at: float
    ingestion_id: str
    submission: Submission

    @property
    def call_keys(self) -> list[str]:
        return call_keys(self.ingestion_id, self.submission.ids)


def call_keys(ingestion_id: str, ids: Sequence[int]) -> list[str]:
    """Return the `Idempotency-Key` of the call for each ID."""
    return [f"{uuid5(UUID(ingestion_id), str(position // BATCH_SIZE))}/{item}" for position, item in enumerate(ids)]


def batch_id(call_key: str) -> str:
    return call_key.partition("/")[0]
