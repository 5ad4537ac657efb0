"""The routes."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from sluice.clock import Clock
from sluice.ingestion import Ingestion
from sluice.lane import Lane
from sluice.models import (
    INGESTION_ID_EXAMPLE,
    BatchResponse,
    IngestResponse,
    Priority,
    Progress,
    StatusResponse,
    ingest_request,
)
from sluice.problem import FieldProblem, ProblemError, documented
from sluice.settings import Settings

PAGE = 1000
NOT_JSON = "Send the body as JSON, with the header 'Content-Type: application/json'."
UNKNOWN = "No ingestion with this id is known here."
LAST_TIME = 253_402_300_799  # 9999-12-31T23:59:59Z: RFC 3339 has no later one

INGEST_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Location": {"description": "`/status/{ingestion_id}`", "schema": {"type": "string"}}}},
    400: documented(HTTPStatus.BAD_REQUEST, "The body is not JSON. Invalid JSON: EOF while parsing."),
    413: documented(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "The body has more than 33554432 bytes; split the IDs over several ingestions.",
    ),
    415: documented(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, NOT_JSON),
    405: documented(HTTPStatus.METHOD_NOT_ALLOWED, "GET is not possible at /ingest."),
    422: documented(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "ids[1]: Input should be greater than or equal to 1",
        [FieldProblem(field="ids[1]", detail="Input should be greater than or equal to 1")],
    ),
}
STATUS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {"Link": {"description": '`rel="next"`: the next page of batches.', "schema": {"type": "string"}}}
    },
    404: documented(HTTPStatus.NOT_FOUND, UNKNOWN),
    405: documented(HTTPStatus.METHOD_NOT_ALLOWED, "DELETE is not possible at /status/1."),
    422: documented(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "limit: Input should be less than or equal to 1000",
        [FieldProblem(field="limit", detail="Input should be less than or equal to 1000")],
    ),
}


class BodyRoute(APIRoute):
    """A route whose endpoint, `async (request) -> response`, reads the request itself.

    Documented like any other, but served without FastAPI's dependency solving,
    which costs as much as all the rest of a small request.
    """

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive))
            await response(scope, receive, send)

        self.app = serve


def routes(settings: Settings, clock: Clock) -> list[BaseRoute]:
    """Return the service's routes; each request finds its `lane` in the lifespan's state."""
    router = APIRouter()
    request_model = ingest_request(settings.max_ids)

    async def ingest(request: Request) -> Response:
        """Take in an ingestion and answer at once with its id; `Location` is where its status is.

        The IDs are sliced into batches that start one per slot, in the order of
        priority, then arrival.
        """
        _require_json(request)
        wanted = request_model.model_validate_json(await _read_body(request, settings.max_body_bytes))
        lane: Lane = request.scope["state"]["lane"]
        accepted = lane.accept(wanted.ids, Priority[wanted.priority], clock.time())
        await lane.record(accepted)
        return Response(
            f'{{"ingestion_id":"{accepted.ingestion_id}"}}',
            media_type="application/json",
            headers={"Location": f"/status/{accepted.ingestion_id}"},
        )

    router.add_api_route(
        "/ingest",
        ingest,
        methods=["POST"],
        summary="Submit IDs",
        response_model=IngestResponse,
        responses=INGEST_RESPONSES,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": request_model.model_json_schema()}},
            }
        },
        route_class_override=BodyRoute,
    )

    @router.get(
        "/status/{ingestion_id}",
        summary="Follow an ingestion",
        response_model=StatusResponse,
        responses=STATUS_RESPONSES,
    )
    async def status(
        request: Request,
        ingestion_id: Annotated[str, Path(examples=[INGESTION_ID_EXAMPLE])],
        offset: Annotated[int, Query(ge=0, description="The first batch to show.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE, description="How many batches to show, at most.")] = PAGE,
    ) -> Response:
        """Tell how far an ingestion has come, every batch of it, and when the rest will run."""
        lane: Lane = request.scope["state"]["lane"]
        ingestion = _find(lane, ingestion_id)
        end = offset + limit
        shown = range(ingestion.total)[offset:end]
        link = f'</status/{ingestion_id}?offset={end}&limit={limit}>; rel="next"'
        return Response(
            describe(lane, clock, ingestion, shown).model_dump_json(),
            media_type="application/json",
            headers={"Link": link} if end < ingestion.total else None,
        )

    return router.routes


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, NOT_JSON)


async def _read_body(request: Request, limit: int) -> bytes:
    """Return the body; raise a 413 as soon as it is known to exceed `limit` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size, more = 0, True
    # Not `request.stream()`: making an async generator costs as much as validating a small body.
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body has more than {limit} bytes; split the IDs over several ingestions.",
    )


def _find(lane: Lane, text: str) -> Ingestion:
    """Return the ingestion whose id is `text`; raise a 404 if there is none or it is no id."""
    if ingestion := lane.ingestions.get(text.lower()):
        return ingestion
    raise ProblemError(HTTPStatus.NOT_FOUND, UNKNOWN)


def describe(lane: Lane, clock: Clock, ingestion: Ingestion, indexes: range) -> StatusResponse:
    """Return what `/status` answers for an ingestion, with the batches of `indexes`. O(len(indexes))."""
    now = clock.now()
    offset = clock.time() - now

    def utc(at: float) -> datetime:
        return datetime.fromtimestamp(min(at + offset, LAST_TIME), UTC)

    forecast = lane.forecast(ingestion, now)
    failed = len(ingestion.errors)
    return StatusResponse(
        ingestion_id=ingestion.ingestion_id,
        status=ingestion.status,
        priority=ingestion.priority.name,
        created_time=datetime.fromtimestamp(ingestion.created_time, UTC),
        progress=Progress(
            total_ids=len(ingestion.ids),
            total_batches=ingestion.total,
            yet_to_start=ingestion.waiting,
            triggered=ingestion.started - ingestion.finished,
            completed=ingestion.finished - failed,
            failed=failed,
        ),
        position=forecast.position if forecast else None,
        expected_start=utc(forecast.start) if forecast else None,
        expected_completion=utc(forecast.completion) if forecast else None,
        batches=[_batch(ingestion, index) for index in indexes],
    )


def _batch(ingestion: Ingestion, index: int) -> BatchResponse:
    batch = ingestion.batch(index)
    return BatchResponse(
        batch_id=batch.batch_id,
        ids=batch.ids,
        status=ingestion.batch_status(index),
        error=ingestion.errors.get(index),
    )
