"""What is ahead and what went by: the forecast of work that is not there yet, and the slots."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from sluice.api.describe import Description
from sluice.api.documented import BODY_PROBLEMS, LANE_PROBLEM, NO_PLACE, not_allowed, request_body
from sluice.api.large_body import BodyReader
from sluice.api.route import JSON, LaneName, lane_of, lanes_of
from sluice.clock import Clock
from sluice.history import LENGTH, History
from sluice.models import DEFAULT_LANE
from sluice.settings import Settings
from sluice.timeline_schemas import ForecastsResponse, SlotsResponse, forecast_request

SHOWN = 20


def add_routes(router: APIRouter, settings: Settings, clock: Clock, bodies: BodyReader) -> None:
    """Add `POST /forecast` and `GET /slots`."""
    model = forecast_request(settings.longest)

    @router.post(
        "/forecast",
        summary="Ask when IDs would be done",
        response_model=ForecastsResponse,
        responses={**not_allowed("GET", "/forecast"), **BODY_PROBLEMS, **NO_PLACE},
        openapi_extra=request_body(model.model_json_schema()),
    )
    async def forecast(request: Request) -> Response:
        """Tell when IDs would start and be done at each priority, if they were submitted now; accept nothing."""
        wanted = await bodies.read(request, model)
        description = Description(lane_of(request, wanted.lane), clock)
        return Response(description.forecasts(wanted.total_ids).model_dump_json(), media_type=JSON)

    @router.get(
        "/slots",
        summary="Look at the timeline",
        response_model=SlotsResponse,
        responses={**not_allowed("POST", "/slots"), **LANE_PROBLEM},
    )
    async def slots(
        request: Request,
        lane: LaneName = DEFAULT_LANE,
        past: Annotated[int, Query(ge=0, le=LENGTH, description="How many entries of what went by, at most.")] = SHOWN,
        coming: Annotated[
            int, Query(ge=0, le=LENGTH, description="How many entries of what is to come, at most.")
        ] = SHOWN,
    ) -> Response:
        """Tell what the last slots were used for, what the next ones will be, and how much of the rate is used."""
        chosen = lane_of(request, lane)
        histories: dict[str, History] = request.scope["state"]["histories"]
        description = Description(chosen, clock)
        answer = description.slots(histories[chosen.name], past, coming, lanes_of(request))
        return Response(answer.model_dump_json(), media_type=JSON)
