"""What clients and operators may ask of a lane: each proposes the events that do it."""

from collections.abc import Sequence

from sluice.events import Cancelled, Event, Paused, Reprioritised, Resumed, Revived
from sluice.ingestion import Ingestion
from sluice.lane import Lane
from sluice.models import Priority

NOTHING_WAITS = "The ingestion is completed: nothing of it waits any more."
NOTHING_FAILED = "No ID of the ingestion has failed."


class ConflictError(Exception):
    """What was asked is impossible as things stand; the text says why."""


def cancel(ingestion: Ingestion, time: float) -> Sequence[Event]:
    """Propose to start no more of an ingestion; nothing to do when it is done or was given up before."""
    if ingestion.is_done or ingestion.gives_up:
        return []
    return [Cancelled(ingestion.ingestion_id, ingestion.given_up(), time)]


def reprioritise(ingestion: Ingestion, priority: Priority) -> Sequence[Event]:
    """Propose another priority; raise `ConflictError` when nothing of the ingestion waits any more."""
    if ingestion.is_done:
        raise ConflictError(NOTHING_WAITS)
    return [] if ingestion.priority == priority else [Reprioritised(ingestion.ingestion_id, priority)]


def revive(ingestion: Ingestion) -> Sequence[Event]:
    """Propose a fresh set of attempts for the failed IDs; raise `ConflictError` when there are none."""
    if next(ingestion.failures(), None) is None:
        raise ConflictError(NOTHING_FAILED)
    return [Revived(ingestion.ingestion_id)]


def pause(lane: Lane, time: float, reason: str) -> Sequence[Event]:
    """Propose to start no batch until `resume`; a running one finishes."""
    return [] if lane.paused else [Paused(time, reason)]


def resume(lane: Lane) -> Sequence[Event]:
    """Propose to start batches again."""
    return [Resumed()] if lane.paused else []
