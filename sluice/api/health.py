"""Whether the process lives, and whether it can do its work."""

from http import HTTPStatus

from fastapi import APIRouter, Request

from sluice.api.documented import not_allowed
from sluice.api.route import lanes_of
from sluice.problem import AWAY, ProblemError, documented
from sluice.schemas import HealthResponse
from sluice.service import Service

STOPPING = "The server is stopping."


async def obstacle(request: Request, service: Service) -> str | None:
    """Return why no work can be accepted, or None; look again whether what was in trouble still is."""
    if service.trouble is not None:
        await service.probe()
    if service.trouble is not None:
        return AWAY
    return STOPPING if any(lane.is_closing for lane in lanes_of(request).values()) else None


def add_routes(router: APIRouter, service: Service) -> None:
    """Add `/healthz` and `/readyz`."""

    @router.get(
        "/healthz",
        summary="Is the process alive?",
        response_model=HealthResponse,
        responses=not_allowed("POST", "/healthz"),
    )
    async def alive() -> HealthResponse:
        """Answer, which is all there is to it: a host restarts a process that does not."""
        return HealthResponse(status="ok")

    @router.get(
        "/readyz",
        summary="Can it accept work?",
        response_model=HealthResponse,
        responses={
            **not_allowed("POST", "/readyz"),
            503: documented(HTTPStatus.SERVICE_UNAVAILABLE, STOPPING),
        },
    )
    async def ready(request: Request) -> HealthResponse:
        """Answer 503 while nothing can be recorded or the server stops: a host sends requests elsewhere meanwhile."""
        if reason := await obstacle(request, service):
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return HealthResponse(status="ok")
