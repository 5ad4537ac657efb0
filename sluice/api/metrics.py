"""What monitoring asks for."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from sluice.api.documented import METRICS, not_allowed
from sluice.api.health import obstacle
from sluice.service import Service

if TYPE_CHECKING:
    from sluice.metrics import Metrics


def add_routes(router: APIRouter, service: Service) -> None:
    """Add `/metrics`."""

    @router.get(
        "/metrics",
        summary="Measure",
        response_class=PlainTextResponse,
        responses={**METRICS, **not_allowed("POST", "/metrics")},
    )
    async def metrics(request: Request) -> Response:
        """Tell Prometheus what is measured, in its text format or in OpenMetrics, as it asks for."""
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - as late as what it encodes

        measured: Metrics = request.scope["state"]["metrics"]
        try:
            encode, media_type = choose_encoder(request.headers.get("accept", ""))
        except TypeError:  # a version that is none
            encode, media_type = choose_encoder("")
        measured.note_readiness(await obstacle(request, service) is None)
        return Response(encode(measured.registry), headers={"Content-Type": media_type})
