"""The words of the domain."""

from enum import IntEnum, StrEnum

MAX_ID = 1_000_000_007
DEFAULT_LANE = "default"


class Priority(IntEnum):
    """How urgent an ingestion is; the smaller value goes first."""

    HIGH = 0
    MEDIUM = 1
    LOW = 2


class BatchStatus(StrEnum):
    """Where one batch is on its way through the upstream."""

    YET_TO_START = "yet_to_start"
    TRIGGERED = "triggered"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class IngestionStatus(StrEnum):
    """Where a whole ingestion is: started when any batch has, completed when all are done."""

    YET_TO_START = "yet_to_start"
    TRIGGERED = "triggered"
    COMPLETED = "completed"
