"""What can happen to a lane. A journal remembers these; `Lane.apply` is what they do.

An `ingestion_id` is the canonical text of a UUID: lower case, with hyphens.
"""

from array import array
from typing import NamedTuple

from sluice.models import Priority


class Accepted(NamedTuple):
    """An ingestion was taken in. `created_time` is Unix seconds; `seq` breaks its ties."""

    ingestion_id: str
    priority: Priority
    created_time: float
    seq: int
    batch_size: int
    ids: "array[int]"


class Started(NamedTuple):
    """Batch `batch_index` was handed to the upstream at `at`, seconds on the monotonic clock."""

    ingestion_id: str
    batch_index: int
    at: float


class Finished(NamedTuple):
    """Batch `batch_index` ended at `at`, seconds on the monotonic clock; `error` says why if it failed."""

    ingestion_id: str
    batch_index: int
    at: float
    error: str | None = None


Event = Accepted | Started | Finished
