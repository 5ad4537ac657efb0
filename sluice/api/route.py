"""What the routes share: how the lane and an ingestion are found, how a fast route is served."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Path, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from sluice.ingestion import Ingestion
from sluice.lane import Lane
from sluice.problem import ProblemError
from sluice.schemas import INGESTION_ID_EXAMPLE

UNKNOWN = "No ingestion with this id is known: unknown or expired."
IngestionId = Annotated[str, Path(examples=[INGESTION_ID_EXAMPLE])]
JSON = "application/json"


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


def lane_of(request: Request) -> Lane:
    """Return the lane that the lifespan made."""
    lane: Lane = request.scope["state"]["lane"]
    return lane


def find(lane: Lane, ingestion_id: str) -> Ingestion:
    """Return the ingestion with this id; raise a 404 if there is none or it is no id."""
    if ingestion := lane.ingestions.get(ingestion_id.lower()):
        return ingestion
    raise ProblemError(HTTPStatus.NOT_FOUND, UNKNOWN)
