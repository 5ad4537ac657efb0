"""The routes."""

from fastapi import APIRouter
from starlette.routing import BaseRoute

from sluice.api import ingest, ingestions, queue
from sluice.clock import Clock
from sluice.settings import Settings


def routes(settings: Settings, clock: Clock) -> list[BaseRoute]:
    """Return the service's routes; each request finds its `lane` in the lifespan's state."""
    router = APIRouter()
    for part in (ingest, ingestions, queue):
        part.add_routes(router, settings, clock)
    return router.routes
