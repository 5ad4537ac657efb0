"""The routes."""

from fastapi import APIRouter
from starlette.routing import BaseRoute

from sluice import dashboard
from sluice.api import docs, health, ingest, ingestions, live, metrics, queue, session, timeline
from sluice.api.cursor import Cursors
from sluice.api.large_body import BodyReader
from sluice.api.streams import Streams
from sluice.keys import Keys
from sluice.service import Service
from sluice.settings import Settings


def routes(settings: Settings, service: Service, keys: Keys) -> list[BaseRoute]:
    """Return the service's routes; each request finds the `lanes` and who watches them in the lifespan's state."""
    router = APIRouter()
    bodies = BodyReader(settings.max_body_bytes, settings.longest)
    streams = Streams(settings.max_streams, service.clock)
    ingest.add_routes(router, settings, service.clock, bodies)
    ingestions.add_routes(router, service.clock, streams, Cursors(keys.secret))
    queue.add_routes(router, service.clock)
    timeline.add_routes(router, settings, service.clock, bodies)
    live.add_routes(router, streams)
    session.add_routes(router, settings, keys)
    metrics.add_routes(router, service)
    health.add_routes(router, service)
    dashboard.add_routes(router)
    docs.add_routes(router)
    return router.routes
