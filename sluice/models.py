"""The words of the domain, and the shapes that the HTTP API speaks."""

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, FailFast, Field, create_model

MAX_ID = 1_000_000_007


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


class IngestionStatus(StrEnum):
    """Where a whole ingestion is: started when any batch has, completed when all are done."""

    YET_TO_START = "yet_to_start"
    TRIGGERED = "triggered"
    COMPLETED = "completed"


PriorityName = Literal["HIGH", "MEDIUM", "LOW"]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]

INGEST_EXAMPLE: dict[str, Any] = {"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"}
INGESTION_ID_EXAMPLE = "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"
STATUS_EXAMPLE: dict[str, Any] = {
    "ingestion_id": INGESTION_ID_EXAMPLE,
    "status": "triggered",
    "priority": "MEDIUM",
    "created_time": "2026-01-01T12:00:00.000000Z",
    "progress": {
        "total_ids": 5,
        "total_batches": 2,
        "yet_to_start": 1,
        "triggered": 0,
        "completed": 1,
        "failed": 0,
    },
    "position": 0,
    "expected_start": "2026-01-01T12:00:05.000000Z",
    "expected_completion": "2026-01-01T12:00:07.000000Z",
    "batches": [
        {"batch_id": "7e3f8d7a-51a5-5d35-8b63-1a9fbc9b8c3d", "ids": [1, 2, 3], "status": "completed"},
        {"batch_id": "b1c9dd09-6f0e-5a50-9d4f-4ac1a1f6b6f2", "ids": [4, 5], "status": "yet_to_start"},
    ],
}


class IngestRequest(BaseModel):
    """What `POST /ingest` takes: 1 to `MAX_IDS` integer IDs, each 1 to 1,000,000,007, and a priority.

    Strict: no strings, floats or booleans stand in for integers, and unknown
    fields are refused, so that a misspelt field cannot pass unnoticed.
    """

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": INGEST_EXAMPLE})

    # Fail fast: a million bad IDs cost, and answer with, a single error.
    ids: Annotated[list[Id], Field(min_length=1, description="Duplicates and order are kept."), FailFast()]
    priority: PriorityName


def ingest_request(max_ids: int) -> type[IngestRequest]:
    """Return the `IngestRequest` that takes at most `max_ids` IDs."""
    ids = IngestRequest.model_fields["ids"]
    limited = Annotated[list[Id], Field(min_length=1, max_length=max_ids, description=ids.description), FailFast()]
    return create_model("IngestRequest", __base__=IngestRequest, __doc__=IngestRequest.__doc__, ids=(limited, ...))


class IngestResponse(BaseModel):
    """What `POST /ingest` answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"ingestion_id": INGESTION_ID_EXAMPLE}})

    ingestion_id: UUID


class BatchResponse(BaseModel):
    """One batch: at most `BATCH_SIZE` IDs that go to the upstream together."""

    batch_id: UUID
    ids: list[int]
    status: BatchStatus
    error: Annotated[
        str | None,
        Field(description="Why the batch failed; absent otherwise.", exclude_if=lambda error: error is None),
    ] = None


class Progress(BaseModel):
    """Counts over the whole ingestion, whatever page of batches is shown."""

    total_ids: int
    total_batches: int
    yet_to_start: int
    triggered: int
    completed: int
    failed: int


class StatusResponse(BaseModel):
    """What `GET /status/{ingestion_id}` answers. Times are UTC, RFC 3339.

    The forecast holds if nothing more arrives: the batches ahead take one slot
    each, a slot every `BATCH_INTERVAL` seconds (or as long as a full batch is
    expected to take, if that is longer).
    """

    model_config = ConfigDict(json_schema_extra={"example": STATUS_EXAMPLE})

    ingestion_id: UUID
    status: IngestionStatus
    priority: PriorityName
    created_time: datetime
    progress: Progress
    position: Annotated[int | None, Field(description="Batches ahead of its next one; null when done.")]
    expected_start: Annotated[
        datetime | None,
        Field(description="When its next batch starts (or its last, now running, did); null when done."),
    ]
    expected_completion: Annotated[datetime | None, Field(description="When its last batch ends; null when done.")]
    batches: Annotated[list[BatchResponse], Field(description="In order; paged by `offset` and `limit`.")]
