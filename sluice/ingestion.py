"""One accepted ingestion: its IDs, its cursor, and everything that follows from them."""

from typing import NamedTuple

from uuid_utils import UUID, uuid5

from sluice.events import Accepted
from sluice.models import BatchStatus, IngestionStatus


class Batch(NamedTuple):
    """Up to `batch_size` IDs of one ingestion that go to the upstream together."""

    ingestion_id: str
    batch_index: int
    batch_id: str
    ids: list[int]


class Ingestion:
    """An accepted list of IDs and how far it has come.

    Batches are derived, never stored: batch k is `ids[size * k : size * (k + 1)]`,
    its id is `uuid5(ingestion_id, str(k))`, and its status follows from the two
    cursors `started` and `finished` (in batches). Only failures are kept, sparsely.
    """

    __slots__ = (
        "accepted_before",
        "batch_size",
        "created_time",
        "errors",
        "finished",
        "ids",
        "ingestion_id",
        "priority",
        "seq",
        "started",
    )

    def __init__(self, accepted: Accepted) -> None:
        self.ingestion_id, self.priority, self.created_time, self.seq, self.batch_size, self.ids = accepted
        self.started = 0
        self.finished = 0
        self.errors: dict[int, str] = {}
        self.accepted_before = 0  # batches of its class accepted before it: the backlog's to set

    @property
    def total(self) -> int:
        """Batches in all."""
        return -(-len(self.ids) // self.batch_size)

    @property
    def waiting(self) -> int:
        """Batches that have not started."""
        return self.total - self.started

    @property
    def is_done(self) -> bool:
        """Whether every batch has ended."""
        return self.finished == self.total

    @property
    def status(self) -> IngestionStatus:
        """The overall status, as the API words it."""
        if self.started == 0:
            return IngestionStatus.YET_TO_START
        return IngestionStatus.COMPLETED if self.is_done else IngestionStatus.TRIGGERED

    def batch_status(self, index: int) -> BatchStatus:
        """Return the status of batch `index` (0 to `total - 1`)."""
        if index >= self.started:
            return BatchStatus.YET_TO_START
        if index >= self.finished:
            return BatchStatus.TRIGGERED
        return BatchStatus.FAILED if index in self.errors else BatchStatus.COMPLETED

    def batch_length(self, index: int) -> int:
        """Return how many IDs batch `index` has."""
        return min(self.batch_size, len(self.ids) - index * self.batch_size)

    def batch(self, index: int) -> Batch:
        """Return batch `index` (0 to `total - 1`)."""
        first = index * self.batch_size
        ids = self.ids[first : first + self.batch_size].tolist()
        return Batch(self.ingestion_id, index, str(uuid5(UUID(self.ingestion_id), str(index))), ids)
