"""What the routes share: how the lane and an ingestion are found, what answers are made of."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query, Request, Response

from sluice.api.access import caller_of
from sluice.ingestion import Ingestion
from sluice.lane import Lane
from sluice.lanes import Lanes
from sluice.problem import FieldProblem, ProblemError
from sluice.schemas import INGESTION_ID_EXAMPLE
from sluice.stream import Stream

UNKNOWN = "No ingestion with this id is known: unknown or expired."
LaneName = Annotated[str, Query(description="The lane.")]
IngestionId = Annotated[str, Path(examples=[INGESTION_ID_EXAMPLE])]
JSON = "application/json"
JSON_TYPE = (b"content-type", JSON.encode())
CANONICAL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Answer(Response):
    """A JSON answer whose bytes and headers are ready: Starlette would encode each of them, one by one."""

    def __init__(self, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.status_code = 200
        self.body = body
        self.background = None
        self.raw_headers = [JSON_TYPE, (b"content-length", b"%d" % len(body)), *headers]


def lanes_of(request: Request) -> Lanes:
    """Return the lanes that the lifespan made."""
    lanes: Lanes = request.scope["state"]["lanes"]
    return lanes


def stream_of(request: Request) -> Stream:
    """Return the stream of what happens to the lanes, that the lifespan made."""
    stream: Stream = request.scope["state"]["stream"]
    return stream


def lane_of(request: Request, name: str) -> Lane:
    """Return the lane with this name; raise a 422 if there is none."""
    lanes = lanes_of(request)
    if lane := lanes.get(name):
        return lane
    problem = FieldProblem(field="lane", detail=f"There is no such lane; there are: {', '.join(lanes)}")
    raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"lane: {problem.detail}", [problem])


async def find(request: Request, ingestion_id: str) -> tuple[Lane, Ingestion]:
    """Return the ingestion with this id and its lane; raise a 404 if there is none for the caller, or it is no id."""
    if (
        CANONICAL.fullmatch(wanted := ingestion_id.lower())
        and (found := await lanes_of(request).find(wanted))
        and may_see(request, found[1])
    ):
        return found
    raise ProblemError(HTTPStatus.NOT_FOUND, UNKNOWN)


def may_see(request: Request, ingestion: Ingestion) -> bool:
    """Return whether an ingestion is any of the caller's business."""
    caller = caller_of(request)
    return not caller.sees_only_own or ingestion.owner == caller.name


def still(lane: Lane, ingestion: Ingestion) -> Ingestion:
    """Return an ingestion as it is now; raise a 404 if it has expired since it was found."""
    if current := lane.ingestions.get(ingestion.ingestion_id):
        return current
    raise ProblemError(HTTPStatus.NOT_FOUND, UNKNOWN)
