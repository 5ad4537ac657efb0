"""The routes."""

from fastapi import APIRouter
from starlette.routing import BaseRoute

from sluice import dashboard
from sluice.api import health, ingest, ingestions, live, metrics, queue, timeline
from sluice.service import Service
from sluice.settings import Settings


def routes(settings: Settings, service: Service) -> list[BaseRoute]:
    """Return the service's routes; each request finds the `lanes` and who watches them in the lifespan's state."""
    router = APIRouter()
    for part in (ingest, ingestions, queue, timeline):
        part.add_routes(router, settings, service.clock)
    live.add_routes(router)
    metrics.add_routes(router, service)
    health.add_routes(router, service)
    dashboard.add_routes(router)
    return router.routes
