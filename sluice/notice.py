"""What listeners are told of an event: its kind and its data, as a server-sent event."""

from typing import Any, NamedTuple

from fastapi.sse import format_sse_event
from pydantic_core import to_json

from sluice.clock import utc
from sluice.events import (
    Accepted,
    Cancelled,
    Ended,
    Event,
    Expired,
    Finished,
    Held,
    Interrupted,
    Outcome,
    Part,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.ingestion import Ingestion
from sluice.models import BatchStatus, IngestionStatus, Priority

EXPIRED, RESET = "expired", "reset"
KINDS: dict[type[Event], str] = {
    Accepted: "accepted",
    Started: "started",
    Finished: "finished",
    Interrupted: "interrupted",
    Cancelled: "cancelled",
    Reprioritised: "reprioritised",
    Revived: "retried",
    Expired: EXPIRED,
    Held: "held",
    Paused: "paused",
    Resumed: "resumed",
}


class Newcomer(NamedTuple):
    """An ingestion that was just accepted: so many come that its summary waits until it is wanted."""

    ingestion_id: str
    priority: Priority
    total_ids: int
    batch_size: int

    def summary(self) -> dict[str, Any]:
        """Return how far it had come: nowhere."""
        total = -(-self.total_ids // self.batch_size)
        counts = dict.fromkeys(BatchStatus, 0) | {BatchStatus.YET_TO_START: total}
        return _summary(self.ingestion_id, self.priority, IngestionStatus.YET_TO_START, self.total_ids, counts)


class Notice:
    """Something that happened. `time` is Unix seconds; `data` is what there is to say beside that and the lane.

    `ids` is how many IDs it names.
    """

    __slots__ = ("_encoded", "data", "ids", "ingestion_id", "is_last", "kind", "lane", "notice_id", "time")

    def __init__(
        self, notice_id: tuple[str, int], kind: str, lane: str | None, time: float, data: dict[str, Any] | Newcomer
    ) -> None:
        self.notice_id = notice_id
        self.kind = kind
        self.lane = lane
        self.time = time
        self.data = data
        if isinstance(data, Newcomer):
            self.ingestion_id: str | None = data.ingestion_id
            self.is_last = False
            self.ids = 0
        else:
            self.ingestion_id = data.get("ingestion_id")
            # Nothing more is to come of the ingestion that it is about.
            self.is_last = kind == EXPIRED or data.get("status") == IngestionStatus.COMPLETED
            self.ids = len(data.get("ids", ()))
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """The server-sent event, made once for all who listen, and not before anyone does."""
        if self._encoded is None:
            data = self.data.summary() if isinstance(self.data, Newcomer) else self.data
            text = to_json({"lane": self.lane, "time": utc(self.time), **data}).decode()
            self._encoded = format_sse_event(id="{}-{}".format(*self.notice_id), event=self.kind, data_str=text)
        return self._encoded


def summary(ingestion: Ingestion) -> dict[str, Any]:
    """Return how far an ingestion has come."""
    return _summary(
        ingestion.ingestion_id, ingestion.priority, ingestion.status, len(ingestion.ids), ingestion.batch_counts()
    )


def details(part: Part | Ended, ingestion: Ingestion) -> dict[str, Any]:
    """Return what a start or an end tells beside the summary of its ingestion."""
    if isinstance(part, Part):
        return {**_batch(ingestion, part.positions), "is_retry": ingestion.is_retry(part.positions)}
    positions = tuple(outcome.position for outcome in part.outcomes)
    return {**_batch(ingestion, positions), "outcomes": [_outcome(ingestion, each) for each in part.outcomes]}


def _summary(
    ingestion_id: str, priority: Priority, status: IngestionStatus, total_ids: int, counts: dict[BatchStatus, int]
) -> dict[str, Any]:
    progress = {"total_ids": total_ids, "total_batches": sum(counts.values())}
    return {
        "ingestion_id": ingestion_id,
        "priority": priority.name,
        "status": status,
        "progress": progress | {each.value: count for each, count in counts.items()},
    }


def _batch(ingestion: Ingestion, positions: tuple[int, ...]) -> dict[str, Any]:
    batch = ingestion.batch(positions)
    return {"batch_ids": batch.distinct_batch_ids, "ids": batch.ids}


def _outcome(ingestion: Ingestion, outcome: Outcome) -> dict[str, Any]:
    told = {"id": ingestion.ids[outcome.position], "status": outcome.status}
    return told if outcome.error is None else {**told, "error": outcome.error}
