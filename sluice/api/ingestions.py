"""What clients ask about and of their ingestions."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from sluice import control
from sluice.api.body import read_json
from sluice.api.cursor import LARGEST, Cursors
from sluice.api.describe import Description
from sluice.api.documented import (
    BODY_PROBLEMS,
    FOLLOW_PROBLEM,
    LIMIT_PROBLEM,
    LINK,
    NDJSON,
    NOT_FOUND,
    NOT_RECORDED,
    RESULTS,
    TOO_MANY_OPEN,
    conflict,
    not_allowed,
    request_body,
)
from sluice.api.results import lines
from sluice.api.route import JSON, Answer, IngestionId, LaneName, find, lane_of, lanes_of, may_see, still, stream_of
from sluice.api.streams import Streams
from sluice.clock import Clock
from sluice.ingestion import Ingestion
from sluice.lane import Lane
from sluice.models import IngestionStatus, Priority
from sluice.schemas import IngestionResponse, ListResponse, PatchRequest, PriorityName, StatusResponse

PAGE = 1000
LIST_PAGE = 100
# How many ingestions one request looks at, at most, for those that its filters let through.
LIST_LOOKS = 10_000


def add_routes(router: APIRouter, clock: Clock, streams: Streams, cursors: Cursors) -> None:
    """Add `/status`, `/results` and `/ingestions`."""

    @router.get(
        "/status/{ingestion_id}",
        summary="Follow an ingestion",
        response_model=StatusResponse,
        responses={**LINK, **NOT_FOUND, **not_allowed("DELETE", "/status/1"), **LIMIT_PROBLEM},
    )
    async def status(
        request: Request,
        ingestion_id: IngestionId,
        offset: Annotated[int, Query(ge=0, description="The first batch to show.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE, description="How many batches to show, at most.")] = PAGE,
    ) -> Response:
        """Tell how far an ingestion has come, every batch of it, and when the rest will run."""
        lane, ingestion = await find(request, ingestion_id)
        end = offset + limit
        description = Description(lane, clock).status(ingestion, range(ingestion.total)[offset:end])
        link = f'</status/{ingestion_id}?offset={end}&limit={limit}>; rel="next"'
        headers = [(b"link", link.encode())] if end < ingestion.total else []
        return Answer(description.model_dump_json().encode(), headers)

    @router.get(
        "/results/{ingestion_id}",
        summary="Collect the upstream's answers",
        response_class=StreamingResponse,
        responses={
            **RESULTS,
            **NOT_FOUND,
            **not_allowed("POST", "/results/1"),
            **FOLLOW_PROBLEM,
            **TOO_MANY_OPEN,
            **NOT_RECORDED,
        },
    )
    async def results(
        request: Request,
        ingestion_id: IngestionId,
        follow: Annotated[bool, Query(description="Keep going until the ingestion is completed.")] = False,
    ) -> StreamingResponse:
        """Stream a JSON line per finished ID, in the order of the batches: its answer, or why it failed."""
        lane, ingestion = await find(request, ingestion_id)
        # Once the answer has begun it cannot become a 503 any more.
        await lane.journal.results(ingestion.ingestion_id, 0, 0)
        if not follow:
            return StreamingResponse(lines(lane, ingestion), media_type=NDJSON)
        followed = lines(lane, ingestion, stream_of(request), lambda: streams.longest_silence(request))
        return streams.answer(request, followed, NDJSON)

    @router.get(
        "/ingestions",
        summary="List ingestions",
        response_model=ListResponse,
        responses={**LINK, **not_allowed("POST", "/ingestions"), **LIMIT_PROBLEM},
    )
    async def list_ingestions(  # noqa: PLR0913, PLR0917 - they are query parameters
        request: Request,
        status: Annotated[IngestionStatus | None, Query(description="Only those with this status.")] = None,
        priority: Annotated[PriorityName | None, Query(description="Only those with this priority.")] = None,
        lane: LaneName | None = None,
        cursor: Annotated[int | None, Query(ge=0, le=LARGEST, description="`next_cursor` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE, description="How many to show, at most.")] = LIST_PAGE,
    ) -> Response:
        """List ingestions, newest first. A page can have fewer than `limit` and still not be the last one."""
        lanes = lanes_of(request)
        shown: list[tuple[Lane, Ingestion]] = []
        looks, reached = 0, None
        names = lanes if lane is None else [lane_of(request, lane).name]
        for owner, ingestion in lanes.newest(names, None if cursor is None else cursors.reveal(cursor)):
            if len(shown) == limit or looks == LIST_LOOKS:
                break
            looks, reached = looks + 1, ingestion.seq
            if (
                status in (None, ingestion.status)
                and priority in (None, ingestion.priority.name)
                and may_see(request, ingestion)
            ):
                shown.append((owner, ingestion))
        else:
            reached = None
        next_cursor = None if reached is None else str(cursors.hide(reached))
        descriptions = {name: Description(each, clock) for name, each in lanes.items()}
        described = []
        for owner, ingestion in shown:
            described.append(descriptions[owner.name].ingestion(ingestion))
            await asyncio.sleep(0)  # with much to be tried again a forecast takes a while: others go in between
        answer = ListResponse(ingestions=described, next_cursor=next_cursor)
        url = request.url.include_query_params(cursor=next_cursor)
        link = f'<{url.path}?{url.query}>; rel="next"'
        return Response(
            answer.model_dump_json(), media_type=JSON, headers={"Link": link} if next_cursor is not None else None
        )

    @router.delete(
        "/ingestions/{ingestion_id}",
        summary="Cancel an ingestion",
        response_model=IngestionResponse,
        responses={**NOT_FOUND, **not_allowed("PUT", "/ingestions/1"), **NOT_RECORDED},
    )
    async def cancel(request: Request, ingestion_id: IngestionId) -> Response:
        """Cancel the batches that have not started, and give up further attempts; a running batch finishes."""
        lane, ingestion = await find(request, ingestion_id)
        await lane.decide(lambda: control.cancel(still(lane, ingestion), clock.time()))
        return describe(lane, ingestion)

    @router.patch(
        "/ingestions/{ingestion_id}",
        summary="Change the priority",
        response_model=IngestionResponse,
        responses={
            **NOT_FOUND,
            **not_allowed("PUT", "/ingestions/1"),
            **conflict(control.NOTHING_WAITS),
            **BODY_PROBLEMS,
            **NOT_RECORDED,
        },
        openapi_extra=request_body(PatchRequest.model_json_schema()),
    )
    async def reprioritise(request: Request, ingestion_id: IngestionId) -> Response:
        """Give an ingestion another priority. It keeps its `created_time`, and takes its rightful place."""
        wanted = await read_json(request, PatchRequest)
        lane, ingestion = await find(request, ingestion_id)
        await lane.decide(lambda: control.reprioritise(still(lane, ingestion), Priority[wanted.priority]))
        return describe(lane, ingestion)

    @router.post(
        "/ingestions/{ingestion_id}/retry",
        summary="Try failed IDs again",
        response_model=IngestionResponse,
        responses={
            **NOT_FOUND,
            **not_allowed("GET", "/ingestions/1/retry"),
            **conflict(control.NOTHING_FAILED),
            **NOT_RECORDED,
        },
    )
    async def retry(request: Request, ingestion_id: IngestionId) -> Response:
        """Give every failed ID of an ingestion a fresh set of attempts, in the ingestion's own place in the order."""
        lane, ingestion = await find(request, ingestion_id)
        await lane.decide(lambda: control.revive(still(lane, ingestion)))
        return describe(lane, ingestion)

    def describe(lane: Lane, ingestion: Ingestion) -> Response:
        description = Description(lane, clock).ingestion(still(lane, ingestion))
        return Response(description.model_dump_json(), media_type=JSON)
