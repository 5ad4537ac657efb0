"""How events are written into the tail of a shared journal and read from it, by processes of different machines."""

from array import array
from base64 import b64decode
from collections.abc import Callable
from typing import NamedTuple

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from sluice.events import (
    Accepted,
    Cancelled,
    Event,
    Expired,
    Finished,
    Held,
    Idempotency,
    Interrupted,
    KeysExpired,
    Outcome,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.journal import JournalError
from sluice.models import Priority

ACCEPTED = "accepted"
TYPES = (
    Started,
    Finished,
    Interrupted,
    Held,
    Paused,
    Resumed,
    Cancelled,
    Reprioritised,
    Revived,
    Expired,
    KeysExpired,
)
READERS: dict[str, TypeAdapter[Event]] = {each.__name__.lower(): TypeAdapter(each) for each in TYPES}


class Row(NamedTuple):
    """An event of the tail; its times are the database's."""

    position: int
    kind: str
    body: str
    seq: int | None
    ids: bytes | None
    owner: str = ""


def shifted(event: Event, seconds: float) -> Event:
    """Return an event with its monotonic times moved: from one machine's clock to the database's, or back."""
    match event:
        case Started() | Interrupted():
            return event._replace(at=event.at + seconds)
        case Held():
            return event._replace(until=event.until + seconds)
        case Finished():
            event = _changed(
                event, lambda each: each if each.retry_at is None else each._replace(retry_at=each.retry_at + seconds)
            )
            sent = None if event.sent is None else event.sent + seconds
            return event._replace(at=event.at + seconds, sent=sent)
        case _:
            return event


def encode(event: Event) -> tuple[str, str]:
    """Return the kind and the body of an event.

    Answers are not in it, for they are read from the results; nor is when a call was
    sent, for the lane's row has it, and processes of versions before would refuse it.
    """
    fields = tuple(event)
    if isinstance(event, Finished):
        fields = tuple(_changed(event, lambda each: each._replace(data=None)))[:-1]
    if isinstance(event, Started | Finished) and not event.also:
        fields = fields[:-1]  # as processes from before slots could be shared know it
    return type(event).__name__.lower(), to_json(fields).decode()


def decode(row: Row, offset: float) -> Event:
    """Return the event of a row in terms of a monotonic clock that is `offset` behind the database's.

    Raises `JournalError` if this version does not know it.
    """
    try:
        if row.kind == ACCEPTED:
            return _accepted(row)
        return shifted(READERS[row.kind].validate_json(row.body), -offset)
    except (KeyError, ValueError) as error:
        raise JournalError(f"the journal has an event {row.kind!r} that only a newer Sluice knows") from error


def _changed(event: Finished, change: Callable[[Outcome], Outcome]) -> Finished:
    outcomes, *others = (tuple(change(each) for each in part.outcomes) for part in event.parts)
    also = tuple(part._replace(outcomes=changed) for part, changed in zip(event.also, others, strict=True))
    return event._replace(outcomes=outcomes, also=also)


def _accepted(row: Row) -> Accepted:
    ingestion_id, priority, created_time, batch_size, key, digest = from_json(row.body)
    assert row.seq is not None
    assert row.ids is not None
    ids = array("I")
    ids.frombytes(row.ids)
    idempotency = Idempotency(key, b64decode(digest)) if key else None
    return Accepted(ingestion_id, Priority(priority), created_time, row.seq, batch_size, ids, idempotency, row.owner)
