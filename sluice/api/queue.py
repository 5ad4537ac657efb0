"""What operators ask about and of the queue."""

from fastapi import APIRouter, Request, Response

from sluice import control
from sluice.api.body import read_json
from sluice.api.describe import Description
from sluice.api.documented import BODY_PROBLEMS, NOT_RECORDED, not_allowed, request_body
from sluice.api.route import JSON, lane_of
from sluice.clock import Clock
from sluice.schemas import PauseRequest, QueueResponse
from sluice.settings import Settings


def add_routes(router: APIRouter, settings: Settings, clock: Clock) -> None:
    """Add `/queue`."""

    def describe(request: Request) -> Response:
        return Response(Description(lane_of(request), clock).queue().model_dump_json(), media_type=JSON)

    @router.get(
        "/queue",
        summary="Look at the queue",
        response_model=QueueResponse,
        responses=not_allowed("POST", "/queue"),
    )
    async def queue(request: Request) -> Response:
        """Tell what waits by priority, what runs, when the next batch starts, and what stands in the way."""
        return describe(request)

    @router.post(
        "/queue/pause",
        summary="Start no more batches",
        response_model=QueueResponse,
        responses={**not_allowed("GET", "/queue/pause"), **BODY_PROBLEMS, **NOT_RECORDED},
        openapi_extra=request_body(PauseRequest.model_json_schema(), required=False),
    )
    async def pause(request: Request) -> Response:
        """Start no batch until `POST /queue/resume`; a running one finishes. A reason may be given."""
        has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
        wanted = await read_json(request, PauseRequest, settings.max_body_bytes) if has_body else PauseRequest()
        lane = lane_of(request)
        await lane.decide(lambda: control.pause(lane, clock.time(), wanted.reason))
        return describe(request)

    @router.post(
        "/queue/resume",
        summary="Start batches again",
        response_model=QueueResponse,
        responses={**not_allowed("GET", "/queue/resume"), **NOT_RECORDED},
    )
    async def resume(request: Request) -> Response:
        """Start batches again after `POST /queue/pause`."""
        lane = lane_of(request)
        await lane.decide(lambda: control.resume(lane))
        return describe(request)
