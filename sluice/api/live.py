"""What happens, as it happens: server-sent events."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT

from sluice.api.documented import (
    EVENTS,
    LANE_PROBLEM,
    LAST_EVENT_PARAMETER,
    NOT_FOUND,
    OVER,
    TOO_MANY_OPEN,
    not_allowed,
)
from sluice.api.route import IngestionId, LaneName, find, lane_of, stream_of
from sluice.api.streams import Streams
from sluice.lane import Lane

MEDIA_TYPE = "text/event-stream"
GOES_ON: dict[str, Any] = {"parameters": [LAST_EVENT_PARAMETER]}
# Proxies must pass each event on at once.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def add_routes(router: APIRouter, streams: Streams) -> None:
    """Add `/events`."""

    @router.get(
        "/events",
        summary="Watch everything",
        response_class=StreamingResponse,
        responses={**EVENTS, **not_allowed("POST", "/events"), **LANE_PROBLEM, **TOO_MANY_OPEN},
        openapi_extra=GOES_ON,
    )
    async def events(request: Request, lane: LaneName | None = None) -> Response:
        """Send what happens to a lane, or to all, until the listener leaves, its session is over or the server stops.

        The first event is a `reset`: look at everything once. With the header
        `Last-Event-ID` the stream goes on after that event, if it is still known.
        """
        chosen = None if lane is None else lane_of(request, lane)
        return streams.answer(request, _sent(request, chosen), MEDIA_TYPE, HEADERS)

    @router.get(
        "/events/{ingestion_id}",
        summary="Watch an ingestion",
        response_class=StreamingResponse,
        responses={**EVENTS, **OVER, **NOT_FOUND, **not_allowed("POST", "/events/1"), **TOO_MANY_OPEN},
        openapi_extra=GOES_ON,
    )
    async def ingestion_events(request: Request, ingestion_id: IngestionId) -> Response:
        """Send what happens to an ingestion until it is completed; the first event, a `reset`, says how far it is."""
        lane, ingestion = await find(request, ingestion_id)
        if stream_of(request).is_over(lane, ingestion.ingestion_id, _last_event_id(request)):
            # Anything else would have a browser come back for ever (HTML, section 9.2.2).
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return streams.answer(request, _sent(request, lane, ingestion.ingestion_id), MEDIA_TYPE, HEADERS)

    # Not one of FastAPI's generator routes: those take three tasks a listener, and encode an event for each of them.
    async def _sent(request: Request, lane: Lane | None, ingestion_id: str | None = None) -> AsyncIterator[bytes]:
        with stream_of(request).listening(lane, ingestion_id, _last_event_id(request)) as listener:
            while (longest := streams.longest_silence(request)) > 0:
                if heard := await listener.hear(longest):
                    yield b"".join(notice.encoded for notice in heard)
                elif listener.is_ended:
                    return
                else:
                    yield KEEPALIVE_COMMENT


def _last_event_id(request: Request) -> str | None:
    return request.headers.get("last-event-id")
