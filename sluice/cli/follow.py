"""Following an ingestion or a queue: the events say when to look, a look says how things are.

So nothing is missed, whatever the stream does: it may end, drop events or not be
there at all, and then there is a look every second.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from sluice.cli.client import Answer, Client
from sluice.cli.errors import UnreachableError
from sluice.cli.stream import Event, Listener
from sluice.models import IngestionStatus
from sluice.schemas import QueueResponse, StatusResponse

REFRESH = 5.0  # seconds: what others submit moves the forecast, and is no event of this ingestion
POLL = 1.0  # seconds
LEAST_GAP = 0.2  # seconds between looks, however many events there are
PATIENCE = 60.0  # seconds that a server that was there may be away: to restart, say
LAST_EVENTS = 2.0  # seconds that the stream has to end when all is done

AWAY = "the server does not answer; waiting for it to come back"
NO_STREAM = "there is no stream of events; looking every second instead"

Model = TypeVar("Model", bound=BaseModel)


class Step(NamedTuple, Generic[Model]):
    """How things are, and the events that led there since the step before, as far as they were told."""

    answer: Answer[Model]
    events: Sequence[Event]


def follow_ingestion(
    client: Client, ingestion_id: str, say: Callable[[str], None], *, was_there: bool = False
) -> Iterator[Step[StatusResponse]]:
    """Yield how far an ingestion is, again and again, until it is completed.

    `say` is told, once each, that the stream is not there and that the server is away.
    Raises `UsageError` if the ingestion is unknown, `UnreachableError` if the server
    is away for longer than `PATIENCE`, or when this begins, unless it `was_there` just now.
    """
    if not was_there:
        first = client.status(ingestion_id, limit=1)
        if _is_completed(first.content):
            yield Step(first, ())
            return
        ingestion_id = first.content.ingestion_id
    listener = Listener(client.http, f"/events/{ingestion_id}")
    try:
        yield from _follow(listener, lambda: client.status(ingestion_id, limit=1), _is_completed, say)
    finally:
        listener.close()


def follow_queue(client: Client, lane: str | None, say: Callable[[str], None]) -> Iterator[Step[QueueResponse]]:
    """Yield what waits and what runs, again and again, for ever; errors as in `follow_ingestion`."""
    client.queue(lane)
    listener = Listener(client.http, "/events", {} if lane is None else {"lane": lane})
    try:
        yield from _follow(listener, lambda: client.queue(lane), lambda queue: False, say)
    finally:
        listener.close()


def _is_completed(status: StatusResponse) -> bool:
    return status.status == IngestionStatus.COMPLETED


def _follow(
    listener: Listener,
    look: Callable[[], Answer[Model]],
    is_over: Callable[[Model], bool],
    say: Callable[[str], None],
) -> Iterator[Step[Model]]:
    last_answer = time.monotonic()
    is_told, is_away = False, False
    events: list[Event] = []
    while True:
        # Before the look: a stream also ends when all is done, which only a look after that end is sure to show.
        is_missing = listener.has_failed and not listener.is_connected
        try:
            answer = look()
        except UnreachableError:
            if time.monotonic() - last_answer > PATIENCE:
                raise
            if not is_away:
                say(AWAY)
            # What is said of the server goes for its stream as well.
            is_told = is_away = True
            events += listener.wait(POLL)
            continue
        last_answer, is_away = time.monotonic(), False
        if is_over(answer.content):
            yield Step(answer, [*events, *listener.wait_for_end(LAST_EVENTS)])
            return
        if is_missing and not is_told:
            say(NO_STREAM)
            is_told = True
        yield Step(answer, events)
        events = listener.wait(REFRESH if listener.is_connected else POLL)
        if events:
            time.sleep(LEAST_GAP)
            events += listener.wait(0)
