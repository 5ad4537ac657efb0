"""The shapes that the HTTP API speaks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, GetPydanticSchema, create_model

from sluice.models import DEFAULT_LANE, MAX_ID, BatchStatus, IngestionStatus

PriorityName = Literal["HIGH", "MEDIUM", "LOW"]
# Text and not UUID: they are made as text, and shown as text.
UuidText = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]
# A list in JSON; a large body's is an `array("I")` by the time that anyone sees it.
Ids = Annotated[Sequence[int], GetPydanticSchema(lambda _, handler: handler(list[Id]))]

INGEST_EXAMPLE: dict[str, Any] = {"ids": [1, 2, 3, 4, 5], "priority": "MEDIUM"}
INGESTION_ID_EXAMPLE = "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"
STATUS_EXAMPLE: dict[str, Any] = {
    "ingestion_id": INGESTION_ID_EXAMPLE,
    "lane": DEFAULT_LANE,
    "status": "triggered",
    "priority": "MEDIUM",
    "created_time": "2026-01-01T12:00:00.000000Z",
    "finished_time": None,
    "progress": {
        "total_ids": 5,
        "total_batches": 2,
        "yet_to_start": 1,
        "triggered": 0,
        "completed": 1,
        "failed": 0,
        "cancelled": 0,
    },
    "position": 0,
    "expected_start": "2026-01-01T12:00:05.000000Z",
    "expected_completion": "2026-01-01T12:00:07.000000Z",
    "batches": [
        {"batch_id": "7e3f8d7a-51a5-5d35-8b63-1a9fbc9b8c3d", "ids": [1, 2, 3], "status": "completed"},
        {"batch_id": "b1c9dd09-6f0e-5a50-9d4f-4ac1a1f6b6f2", "ids": [4, 5], "status": "yet_to_start"},
    ],
}


def is_empty(value: list[Any] | str) -> bool:
    """Return whether a list or a text has nothing that is worth a field."""
    return not value


class IngestRequest(BaseModel):
    """What `POST /ingest` takes: 1 to `MAX_IDS` integer IDs, each 1 to 1,000,000,007, and a priority.

    Strict: no strings, floats or booleans stand in for integers, and unknown
    fields are refused, so that a misspelt field cannot pass unnoticed.
    """

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": INGEST_EXAMPLE})

    # Fail fast: a million bad IDs cost, and answer with, a single error.
    ids: Annotated[Ids, Field(min_length=1, description="Duplicates and order are kept."), FailFast()]
    priority: PriorityName
    lane: Annotated[str, Field(description="Which upstream the IDs are for.")] = DEFAULT_LANE


def ingest_request(max_ids: int) -> type[IngestRequest]:
    """Return the `IngestRequest` that takes at most `max_ids` IDs."""
    ids = IngestRequest.model_fields["ids"]
    limited = Annotated[Ids, Field(min_length=1, max_length=max_ids, description=ids.description), FailFast()]
    return create_model("IngestRequest", __base__=IngestRequest, __doc__=IngestRequest.__doc__, ids=(limited, ...))


class IngestResponse(BaseModel):
    """What `POST /ingest` answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"ingestion_id": INGESTION_ID_EXAMPLE}})

    ingestion_id: UuidText


class IdProblem(BaseModel):
    """An ID whose last attempt failed. `attempts` counts the calls that count."""

    id: int
    error: str
    attempts: int


class BatchResponse(BaseModel):
    """One batch: at most `BATCH_SIZE` IDs that go to the upstream together."""

    batch_id: UuidText
    ids: list[int]
    status: BatchStatus
    failed: Annotated[
        list[IdProblem], Field(description="Its IDs that failed for good; absent if none.", exclude_if=is_empty)
    ] = []
    retrying: Annotated[
        list[IdProblem],
        Field(description="Its IDs that failed and will be tried again; absent if none.", exclude_if=is_empty),
    ] = []


class Progress(BaseModel):
    """Counts over the whole ingestion, whatever page of batches is shown."""

    total_ids: int
    total_batches: int
    yet_to_start: int
    triggered: int
    completed: int
    failed: int
    cancelled: int


class IngestionResponse(BaseModel):
    """How far an ingestion has come. Times are UTC, RFC 3339.

    The forecast holds if nothing more arrives or fails: the batches ahead take one
    slot each, a slot every `BATCH_INTERVAL` seconds (or as long as a full batch is
    expected to take, if that is longer).
    """

    ingestion_id: UuidText
    lane: str
    status: IngestionStatus
    priority: PriorityName
    owner: Annotated[
        str, Field(description="The key that it was submitted with; absent if none was needed.", exclude_if=is_empty)
    ] = ""
    created_time: datetime
    finished_time: Annotated[datetime | None, Field(description="When its last batch ended; null until then.")]
    progress: Progress
    position: Annotated[int | None, Field(description="Batches ahead of its next one; null when done.")]
    expected_start: Annotated[
        datetime | None,
        Field(description="When its next batch starts (or its last, now running, did); null when done or paused."),
    ]
    expected_completion: Annotated[
        datetime | None, Field(description="When its last batch ends; null when done or paused.")
    ]


class StatusResponse(IngestionResponse):
    """What `GET /status/{ingestion_id}` answers: an ingestion and its batches."""

    model_config = ConfigDict(json_schema_extra={"example": STATUS_EXAMPLE})

    batches: Annotated[list[BatchResponse], Field(description="In order; paged by `offset` and `limit`.")]


class ListResponse(BaseModel):
    """What `GET /ingestions` answers, newest first."""

    ingestions: list[IngestionResponse]
    next_cursor: Annotated[str | None, Field(description="The `cursor` of the next page; null when there is none.")]


class PatchRequest(BaseModel):
    """What `PATCH /ingestions/{ingestion_id}` takes."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": {"priority": "HIGH"}})

    priority: PriorityName


class PauseRequest(BaseModel):
    """What `POST /queue/pause` takes, if anything."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": {"reason": "maintenance"}})

    reason: Annotated[str, Field(max_length=200, description="Shown to everyone who looks at the queue.")] = ""


class PauseResponse(BaseModel):
    """Since when, and why, no batch starts."""

    since: datetime
    reason: str


class HoldResponse(BaseModel):
    """Until when the upstream asked to be left alone, and what it said."""

    until: datetime
    reason: str


class SharedSlot(BaseModel):
    """What one ingestion has in a slot."""

    ingestion_id: UuidText
    batch_ids: list[UuidText]
    ids: list[int]


class RunningResponse(SharedSlot):
    """What the upstream is working on."""

    started_at: datetime
    also: Annotated[
        list[SharedSlot],
        Field(description="With FILL_SLOTS: what shares the slot; absent if nothing.", exclude_if=is_empty),
    ] = []


class HealthResponse(BaseModel):
    """What `GET /healthz` and `GET /readyz` answer."""

    status: Literal["ok"]


class QueueResponse(BaseModel):
    """What `GET /queue` answers."""

    lane: str
    waiting: Annotated[
        dict[PriorityName, int], Field(description="Batches that could start, IDs to be tried again among them.")
    ]
    retrying: Annotated[int, Field(description="Ingestions with IDs whose time to be tried again has not come.")]
    running: RunningResponse | None
    next_start: Annotated[datetime | None, Field(description="When the next batch starts; null when none waits.")]
    hold: HoldResponse | None
    paused: PauseResponse | None
