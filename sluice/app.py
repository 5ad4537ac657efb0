"""Puts the pieces together; the lifespan starts and stops them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from sluice import api, problem
from sluice.clock import Clock, SystemClock
from sluice.dispatcher import Dispatcher, Limits
from sluice.http_upstream import HttpUpstream
from sluice.journal import Journal, JournalRefusedError
from sluice.journal.memory import MemoryJournal
from sluice.journal.sqlite import SqliteJournal
from sluice.lane import Lane
from sluice.pace import Pace
from sluice.process import claim_backlog, no_collections, on_stop, stop_server
from sluice.retention import Retention
from sluice.retry import RetryPolicy
from sluice.settings import Settings, load_settings, refuse_to_start
from sluice.upstream import SimulatedUpstream, Upstream

DESCRIPTION = """Takes lists of IDs at once and feeds them to an upstream in strict priority order, at an exact pace.

Submit with `POST /ingest`, follow with `GET /status/{ingestion_id}`, collect with
`GET /results/{ingestion_id}`. Every error is `application/problem+json` (RFC 9457)
and says what to change."""

BACKSTOP = 0.5  # seconds


def create_app(
    settings: Settings | None = None, upstream: Upstream | None = None, clock: Clock | None = None
) -> FastAPI:
    """Return the service as an ASGI application; its backlog lives as long as the app's lifespan.

    Settings come from the environment and the upstream from the settings, unless
    given. An ill-formed setting, a file that cannot be used or a second worker
    process ends the process.
    """
    settings = settings or load_settings()
    clock = clock or SystemClock()
    claim = claim_backlog()
    # Opened here and not in the lifespan, so that a refusal is one line and no traceback of the server's.
    opened = [_open_journal(settings, clock)]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            journal = opened.pop() if opened else _open_journal(settings, clock)
            if isinstance(journal, SqliteJournal):
                stack.push_async_callback(journal.close)
            simulated = upstream is None and settings.upstream_url is None
            pace = Pace(settings.batch_interval, seconds_per_id=settings.upstream_delay if simulated else 0.0)
            with no_collections():
                lane = Lane(journal, pace, settings.batch_size)
            timeout: float | None = settings.upstream_timeout
            if upstream is not None:
                chosen = upstream
            elif settings.upstream_url is not None:
                chosen = await stack.enter_async_context(
                    HttpUpstream(
                        settings.upstream_url, settings.upstream_timeout, settings.max_result_bytes, clock.time
                    )
                )
                # It ends its calls itself, and knows which of them was late; this is only a backstop.
                timeout = settings.upstream_timeout + BACKSTOP
            else:
                chosen = SimulatedUpstream(settings.upstream_delay)
                timeout = None  # however long its delay, it never fails
            retry = RetryPolicy(settings.upstream_attempts, settings.retry_base, settings.retry_max, settings.hold_max)
            dispatcher = Dispatcher(lane, chosen, clock, retry, Limits(timeout, settings.max_result_bytes))
            loop = asyncio.get_running_loop()

            def begin_to_stop() -> None:
                dispatcher.drain()
                lane.close()

            stack.enter_context(on_stop(lambda: loop.call_soon_threadsafe(begin_to_stop)))
            retention = Retention(lane, clock, settings.retention_seconds, settings.idempotency_ttl)
            await stack.enter_async_context(retention.running())
            await stack.enter_async_context(dispatcher.running(settings.shutdown_grace, stop_server))
            # All that is loaded by now stays; looking through it again at every full collection
            # would hold up requests and batch starts by tens of milliseconds.
            gc.freeze()
            yield {"lane": lane}

    app = FastAPI(
        title="Sluice",
        version="0.2.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        routes=api.routes(settings, clock),
        # A redirect to the same path without its slash would be one more answer that is no problem+json.
        redirect_slashes=False,
        # FastAPI would look for OpenTelemetry at every request, and call out wherever it is pointed to.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.claim = claim
    problem.install(app)
    return app


def _open_journal(settings: Settings, clock: Clock) -> Journal:
    if settings.database_path is None:
        return MemoryJournal()
    try:
        with no_collections():
            return SqliteJournal(settings.database_path, clock)
    except JournalRefusedError as error:
        refuse_to_start(f"DATABASE_URL: {error}")
