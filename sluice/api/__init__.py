"""The routes."""

from fastapi import APIRouter
from starlette.routing import BaseRoute

from sluice.api import health, ingest, ingestions, queue
from sluice.service import Service
from sluice.settings import Settings


def routes(settings: Settings, service: Service) -> list[BaseRoute]:
    """Return the service's routes; each request finds the `lanes` in the lifespan's state."""
    router = APIRouter()
    for part in (ingest, ingestions, queue):
        part.add_routes(router, settings, service.clock)
    health.add_routes(router, service)
    return router.routes
