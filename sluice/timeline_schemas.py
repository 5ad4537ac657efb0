"""The shapes of what is ahead and what went by."""

from datetime import datetime
from typing import Annotated, Any, LiteralString, Self

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from sluice.models import DEFAULT_LANE
from sluice.schemas import Ids, PriorityName, UuidText

# What the model's validator checks: either is there, and not null, and not both are.
ONE_OF: list[Any] = [
    {"required": ["ids"], "properties": {"ids": {"type": "array"}}},
    {"required": ["count"], "properties": {"count": {"type": "integer"}}},
]


class ForecastRequest(BaseModel):
    """What `POST /forecast` takes: what `POST /ingest` does, or just how many IDs it would be."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"count": 30}, "oneOf": ONE_OF}
    )

    count: Annotated[int | None, Field(ge=1, description="How many IDs, if they are not given.")] = None
    ids: Annotated[Ids | None, Field(min_length=1, description="As for `POST /ingest`."), FailFast()] = None
    priority: Annotated[PriorityName | None, Field(description="Allowed, for every priority is answered.")] = None
    lane: Annotated[str, Field(description="Which upstream the IDs are for.")] = DEFAULT_LANE

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.count is None and self.ids is None:
            raise self._refusal("ids", "Give the ids, or just their count")
        if self.count is not None and self.ids is not None:
            raise self._refusal("count", "Give either ids or their count, not both")
        return self

    @classmethod
    def _refusal(cls, field: str, text: LiteralString) -> ValidationError:
        error = InitErrorDetails(type=PydanticCustomError("one_of", text), loc=(field,), input=None)
        return ValidationError.from_exception_data(cls.__name__, [error])

    @property
    def total_ids(self) -> int:
        """How many IDs it is about."""
        return len(self.ids) if self.ids is not None else self.count or 0


def forecast_request(max_ids: int) -> type[ForecastRequest]:
    """Return the `ForecastRequest` that takes at most `max_ids` IDs."""
    fields = ForecastRequest.model_fields
    count = Annotated[int | None, Field(ge=1, le=max_ids, description=fields["count"].description)]
    ids = Annotated[
        Ids | None,
        Field(min_length=1, max_length=max_ids, description=fields["ids"].description),
        FailFast(),
    ]
    return create_model(
        "ForecastRequest",
        __base__=ForecastRequest,
        __doc__=ForecastRequest.__doc__,
        count=(count, None),
        ids=(ids, None),
    )


class ForecastResponse(BaseModel):
    """Where an ingestion would stand, and when it would run, if it were accepted now."""

    position: Annotated[int, Field(description="Batches ahead of its first one.")]
    expected_start: Annotated[datetime | None, Field(description="When its first batch would start; null when paused.")]
    expected_completion: Annotated[
        datetime | None, Field(description="When its last batch would end; null when paused.")
    ]


class ForecastsResponse(BaseModel):
    """What `POST /forecast` answers: the forecast at each priority, if nothing else arrives or fails."""

    lane: str
    total_ids: int
    total_batches: int
    forecasts: dict[PriorityName, ForecastResponse]


class PastSlot(BaseModel):
    """What an ingestion had in a slot that was used, and what came of how many of its IDs."""

    ingestion_id: UuidText
    priority: PriorityName
    batch_ids: list[UuidText]
    ids: list[int]
    is_retry: bool
    started_at: Annotated[datetime, Field(description="The same for all that shared the slot.")]
    finished_at: Annotated[
        datetime | None, Field(description="Null while it runs; the same for all that shared the slot.")
    ]
    completed: int
    failed: int
    retrying: int


class ComingSlot(BaseModel):
    """What an ingestion will have in a slot to come."""

    ingestion_id: UuidText
    priority: PriorityName
    batch_ids: list[UuidText]
    ids: list[int]
    is_retry: bool
    expected_start: Annotated[
        datetime | None, Field(description="The same for all that will share the slot; null while paused.")
    ]


class UtilisationResponse(BaseModel):
    """The share, 0 to 1, of the permitted rate that was used over the last `seconds`."""

    seconds: float
    share: float


class SlotsResponse(BaseModel):
    """What `GET /slots` answers: what the last slots were used for, and what the next ones will be."""

    lane: str
    lanes: Annotated[list[str], Field(description="All there are.")]
    interval: Annotated[float, Field(description="Seconds from start to start.")]
    batch_size: int
    utilisation: Annotated[
        UtilisationResponse | None, Field(description="Null when the interval is 0: there is no limit to use.")
    ]
    past: Annotated[
        list[PastSlot],
        Field(
            description="As far as this process saw them, the oldest first; a running one is the last. "
            "With FILL_SLOTS, one entry for each ingestion that shared a slot, next to each other and with the same "
            "times; the first of them may be beyond what is shown."
        ),
    ]
    coming: Annotated[
        list[ComingSlot],
        Field(
            description="If nothing more arrives or fails; the next one first. With FILL_SLOTS, one entry for each "
            "ingestion that will share a slot, next to each other and with the same time, while there are times; the "
            "last of them may be beyond what is shown."
        ),
    ]
