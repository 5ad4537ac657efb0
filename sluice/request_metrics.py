"""How long requests take, by the route that they were for."""

from http import HTTPMethod, HTTPStatus
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.metrics import Metrics

UNMATCHED = "unmatched"
METHODS = frozenset(HTTPMethod)


class RequestMetrics:
    """An ASGI middleware that measures the seconds until each answer begins: a stream may go on for hours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        metrics: Metrics | None = scope.get("state", {}).get("metrics")
        if scope["type"] != "http" or metrics is None:
            await self._app(scope, receive, send)
            return
        begun = perf_counter()
        is_noted = False

        def note(status: int) -> None:
            nonlocal is_noted
            is_noted = True
            # Who asks for what is not there could make up any number of methods.
            route = getattr(scope.get("route"), "path", None)
            method = scope["method"] if route is not None and scope["method"] in METHODS else UNMATCHED
            metrics.note_request(method, route or UNMATCHED, status, perf_counter() - begun)

        async def noting(message: Message) -> None:
            if not is_noted:
                note(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if not is_noted:
                note(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
