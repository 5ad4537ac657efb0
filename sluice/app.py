"""The service as an ASGI application: its routes, and a lifespan that starts and stops it."""

import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from sluice import api, logs, problem
from sluice.admission import SubmissionRate
from sluice.api import access
from sluice.api.documented import name_lanes
from sluice.background import in_background
from sluice.clock import Clock, SystemClock
from sluice.connection import Connection, Limits, guard, sweep
from sluice.edge import Edge
from sluice.garbage import keep_out
from sluice.history import History
from sluice.keys import Keys
from sluice.lane_factory import by_lane
from sluice.lanes import Lanes
from sluice.process import allow_open_files
from sluice.service import open_service
from sluice.settings import Settings, load_settings
from sluice.stream import Stream
from sluice.upstream import Upstream

logger = logging.getLogger(__name__)
# What is open beside the clients' connections: the database, the upstream, clients that are just being refused.
OTHER_FILES = 512

DESCRIPTION = """Takes lists of IDs at once and feeds them to an upstream in strict priority order, at an exact pace.

Submit with `POST /ingest`, follow with `GET /status/{ingestion_id}`, collect with
`GET /results/{ingestion_id}`. Every error is `application/problem+json` (RFC 9457)
and says what to change."""


class Application(FastAPI):
    """FastAPI's, with its routes guarded, and reached through an edge."""

    def __init__(self, keys: Keys, hosts: Collection[str], **options: Any) -> None:
        super().__init__(**options)
        checks = access.guard(self.routes, keys, hosts)
        self._edge = Edge(super().__call__, checks, self.exception_handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan."""
        await self._edge(scope, receive, send)


def create_app(
    settings: Settings | None = None,
    upstream: Upstream | Mapping[str, Upstream] | None = None,
    clock: Clock | None = None,
) -> Application:
    """Return the service as an ASGI application; its backlog lives as long as the app's lifespan.

    Settings come from the environment, and the log goes where they say, unless they
    are given; so do the upstreams: one for the default lane, or several by lane. An
    ill-formed setting, a database that cannot be used or a second process on a backlog
    that is not shared ends the process.
    """
    is_own = settings is None  # the process is the service's own, and not a test's
    if settings is None:
        settings = load_settings()
        logs.configure(settings.log_level)
        allow_open_files(settings.max_connections + OTHER_FILES)
        guard(
            Limits(settings.max_header_bytes, settings.max_url_bytes, settings.client_timeout, settings.max_connections)
        )
    service = open_service(settings, clock or SystemClock(), by_lane(upstream), stands_by=settings.worker == "inline")
    if is_own and not settings.keys:
        logger.warning("API_KEYS is not set: whoever reaches this server may do everything")

    keys = Keys(settings.keys, settings.session_ttl, service.clock.time)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with service.running() as lanes:
            watching = _watching(lanes, service.clock)
            for lane in lanes.values():
                lane.quiet.add(Connection.turnstile)
            async with (
                watching["stream"].running(),
                in_background(sweep(Connection.connected), "sweep"),
                in_background(keep_out(lanes, service.clock), "garbage"),
            ):
                yield {"lanes": lanes, "submission_rate": SubmissionRate(settings.submit_rate), **watching}

    app = Application(
        keys,
        settings.hosts,
        title="Sluice",
        version="0.6.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        routes=api.routes(settings, service, keys),
        # FastAPI's own pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
        # A redirect to the same path without its slash would be one more answer that is no problem+json.
        redirect_slashes=False,
        # FastAPI would look for OpenTelemetry at every request, and call out wherever it is pointed to.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )

    def amend(openapi: dict[str, Any]) -> None:
        access.document(openapi, keys, settings.hosts)
        name_lanes(openapi, settings.by_lane)

    problem.install(app, amend)
    return app


def _watching(lanes: Lanes, clock: Clock) -> dict[str, Any]:
    """Return what looks on at the lanes, for those who ask."""
    # Not with this module: an app that is only imported has nothing to tell Prometheus, whose client takes its time.
    from sluice.metrics import Metrics  # noqa: PLC0415

    stream, metrics = Stream(clock), Metrics(clock)
    histories = {name: History(lane, clock) for name, lane in lanes.items()}
    for name, lane in lanes.items():
        stream.watch(lane)
        metrics.watch(lane, histories[name])
    metrics.count_listeners(lambda: stream.listeners)
    lanes.at_close(stream.close)
    return {"histories": histories, "metrics": metrics, "stream": stream}
