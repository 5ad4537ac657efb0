"""What operators ask about and of the queue."""

from fastapi import APIRouter, Request, Response

from sluice import control
from sluice.api.body import read_json
from sluice.api.describe import Description
from sluice.api.documented import BODY_PROBLEMS, LANE_PROBLEM, NOT_RECORDED, not_allowed, request_body
from sluice.api.route import JSON, LaneName, lane_of
from sluice.clock import Clock
from sluice.lane import Lane
from sluice.models import DEFAULT_LANE
from sluice.schemas import PauseRequest, QueueResponse


def add_routes(router: APIRouter, clock: Clock) -> None:
    """Add `/queue`."""

    def describe(lane: Lane) -> Response:
        return Response(Description(lane, clock).queue().model_dump_json(), media_type=JSON)

    @router.get(
        "/queue",
        summary="Look at the queue",
        response_model=QueueResponse,
        responses={**not_allowed("POST", "/queue"), **LANE_PROBLEM},
    )
    async def queue(request: Request, lane: LaneName = DEFAULT_LANE) -> Response:
        """Tell what waits by priority, what runs, when the next batch starts, and what stands in the way."""
        return describe(lane_of(request, lane))

    @router.post(
        "/queue/pause",
        summary="Start no more batches",
        response_model=QueueResponse,
        responses={**not_allowed("GET", "/queue/pause"), **BODY_PROBLEMS, **NOT_RECORDED},
        openapi_extra=request_body(PauseRequest.model_json_schema(), required=False),
    )
    async def pause(request: Request, lane: LaneName = DEFAULT_LANE) -> Response:
        """Start no batch until `POST /queue/resume`; a running one finishes. A reason may be given."""
        has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
        wanted = await read_json(request, PauseRequest) if has_body else PauseRequest()
        chosen = lane_of(request, lane)
        await chosen.decide(lambda: control.pause(chosen, clock.time(), wanted.reason))
        return describe(chosen)

    @router.post(
        "/queue/resume",
        summary="Start batches again",
        response_model=QueueResponse,
        responses={**not_allowed("GET", "/queue/resume"), **LANE_PROBLEM, **NOT_RECORDED},
    )
    async def resume(request: Request, lane: LaneName = DEFAULT_LANE) -> Response:
        """Start batches again after `POST /queue/pause`."""
        chosen = lane_of(request, lane)
        await chosen.decide(lambda: control.resume(chosen))
        return describe(chosen)
