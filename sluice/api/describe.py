"""A lane's state as the API's answers."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sluice.clock import Clock, utc
from sluice.coming import Coming
from sluice.history import History, Slot
from sluice.ingestion import NEVER, Ingestion, Trouble, batch_id
from sluice.lane import Lane
from sluice.models import BatchStatus, Priority
from sluice.schemas import (
    BatchResponse,
    HoldResponse,
    IdProblem,
    IngestionResponse,
    PauseResponse,
    PriorityName,
    Progress,
    QueueResponse,
    RunningResponse,
    SharedSlot,
    StatusResponse,
)
from sluice.timeline_schemas import (
    ComingSlot,
    ForecastResponse,
    ForecastsResponse,
    PastSlot,
    SlotsResponse,
    UtilisationResponse,
)

NAMES: dict[Priority, PriorityName] = {Priority.HIGH: "HIGH", Priority.MEDIUM: "MEDIUM", Priority.LOW: "LOW"}


class Description:
    """What a lane looks like at one instant. Everything but the batches takes O(log n)."""

    def __init__(self, lane: Lane, clock: Clock) -> None:
        self._lane = lane
        self._now = clock.now()
        self._offset = clock.time() - self._now

    def ingestion(self, ingestion: Ingestion) -> IngestionResponse:
        """Describe an ingestion without its batches."""
        return IngestionResponse(**self._fields(ingestion))

    def _fields(self, ingestion: Ingestion) -> dict[str, Any]:
        forecast = self._lane.forecast(ingestion, self._now)
        counts = ingestion.batch_counts()
        return {
            "ingestion_id": ingestion.ingestion_id,
            "lane": self._lane.name,
            "status": ingestion.status,
            "priority": NAMES[ingestion.priority],
            "owner": ingestion.owner,
            "created_time": utc(ingestion.created_time),
            "finished_time": None if ingestion.finished_time is None else utc(ingestion.finished_time),
            "progress": Progress(
                total_ids=len(ingestion.ids),
                total_batches=ingestion.total,
                yet_to_start=counts[BatchStatus.YET_TO_START],
                triggered=counts[BatchStatus.TRIGGERED],
                completed=counts[BatchStatus.COMPLETED],
                failed=counts[BatchStatus.FAILED],
                cancelled=counts[BatchStatus.CANCELLED],
            ),
            "position": forecast.position if forecast else None,
            "expected_start": self._at(forecast.start) if forecast else None,
            "expected_completion": self._at(forecast.completion) if forecast else None,
        }

    def status(self, ingestion: Ingestion, indexes: range) -> StatusResponse:
        """Describe an ingestion and those of its batches. O(log n + IDs shown)."""
        batches = [_batch(ingestion, index) for index in indexes]
        return StatusResponse(**self._fields(ingestion), batches=batches)

    def forecasts(self, total_ids: int) -> ForecastsResponse:
        """Describe what the forecast of that many IDs would be at each priority."""
        forecasts = {
            priority: self._lane.quote(total_ids, priority, self._now, self._now + self._offset)
            for priority in Priority
        }
        return ForecastsResponse(
            lane=self._lane.name,
            total_ids=total_ids,
            total_batches=-(-total_ids // self._lane.batch_size),
            forecasts={
                NAMES[priority]: ForecastResponse(
                    position=forecast.position,
                    expected_start=self._at(forecast.start),
                    expected_completion=self._at(forecast.completion),
                )
                for priority, forecast in forecasts.items()
            },
        )

    def slots(self, history: History, past: int, coming: int, lanes: Iterable[str]) -> SlotsResponse:
        """Describe the last `past` slots and the next `coming` ones. O((past + coming) log n)."""
        lane = self._lane
        utilisation = history.utilisation(self._now)
        return SlotsResponse(
            lane=lane.name,
            lanes=list(lanes),
            interval=lane.pace.interval,
            batch_size=lane.batch_size,
            utilisation=None if utilisation is None else UtilisationResponse(**utilisation._asdict()),
            past=[self._past(slot) for slot in [*history.slots][-past:] if past],
            coming=[self._coming(slot) for slot in lane.coming(coming, self._now)],
        )

    def _past(self, slot: Slot) -> PastSlot:
        return PastSlot(
            ingestion_id=slot.ingestion_id,
            priority=NAMES[slot.priority],
            batch_ids=[batch_id(slot.ingestion_id, index) for index in slot.batches],
            ids=slot.ids,
            is_retry=slot.is_retry,
            started_at=utc(slot.started_at + self._offset),
            finished_at=None if slot.finished_at is None else utc(slot.finished_at + self._offset),
            completed=slot.completed,
            failed=slot.failed,
            retrying=slot.retrying,
        )

    def _coming(self, slot: Coming) -> ComingSlot:
        batch = slot.ingestion.batch(slot.positions)
        return ComingSlot(
            ingestion_id=batch.ingestion_id,
            priority=NAMES[slot.ingestion.priority],
            batch_ids=batch.distinct_batch_ids,
            ids=batch.ids,
            is_retry=slot.ingestion.is_retry(slot.positions),
            expected_start=self._at(slot.start),
        )

    def queue(self) -> QueueResponse:
        """Describe what waits, what runs, and what stands in the way."""
        lane = self._lane
        held, paused = lane.held, lane.paused
        next_start = lane.next_start(self._now)
        return QueueResponse(
            lane=lane.name,
            waiting={NAMES[priority]: lane.waiting(priority) for priority in Priority},
            retrying=len(lane.backlog.delayed),
            running=self._running(),
            next_start=self._at(next_start),
            hold=HoldResponse(until=utc(held.until + self._offset), reason=held.reason)
            if held and held.until > self._now
            else None,
            paused=PauseResponse(since=utc(paused.time), reason=paused.reason) if paused else None,
        )

    def _running(self) -> RunningResponse | None:
        if (running := self._lane.running) is None:
            return None
        first, *others = (
            SharedSlot(ingestion_id=batch.ingestion_id, batch_ids=batch.distinct_batch_ids, ids=batch.ids)
            for part in running.parts
            for batch in [self._lane.ingestions[part.ingestion_id].batch(part.positions)]
        )
        started_at = utc(self._lane.pace.last_start + self._offset)
        return RunningResponse(**dict(first), started_at=started_at, also=others)

    def _at(self, at: float) -> datetime | None:
        return None if at == NEVER else utc(at + self._offset)


def _batch(ingestion: Ingestion, index: int) -> BatchResponse:
    size = ingestion.batch_size
    ids = ingestion.ids[size * index : size * (index + 1)].tolist()
    if not ingestion.troubles:
        return BatchResponse(batch_id=ingestion.batch_id(index), ids=ids, status=ingestion.batch_status(index))
    positions = ingestion.positions_of(index)
    troubles = [(item, ingestion.troubles.get(position)) for position, item in zip(positions, ids, strict=True)]
    return BatchResponse(
        batch_id=ingestion.batch_id(index),
        ids=ids,
        status=ingestion.batch_status(index),
        failed=[_problem(item, trouble) for item, trouble in troubles if trouble and trouble.is_final],
        retrying=[_problem(item, trouble) for item, trouble in troubles if trouble and not trouble.is_final],
    )


def _problem(item: int, trouble: Trouble) -> IdProblem:
    return IdProblem(id=item, error=trouble.error, attempts=trouble.attempts)
