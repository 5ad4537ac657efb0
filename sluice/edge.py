"""What a request meets first: the two routes that most of them are for are served right here."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPMethod, HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.api.access import Check
from sluice.secure_headers import added_to

if TYPE_CHECKING:
    from sluice.metrics import Metrics

UNMATCHED = "unmatched"
METHODS = frozenset(HTTPMethod)
# The layers that FastAPI and Starlette put around a route take twice as long as what these do.
EXPRESS = {"/ingest": "POST", "/status/{ingestion_id}": "GET"}


class _Express(NamedTuple):
    """A route that is called straight away: its path as declared, who may, and what answers."""

    path: str
    check: Check | None
    endpoint: Callable[..., Awaitable[Response]]


class Edge:
    """Serves what is express itself and has the framework serve all else, which is the same but for the time it takes.

    It measures how long each answer takes to begin (a stream may go on for hours), and
    adds to it what browsers are to be told.
    """

    def __init__(
        self,
        framework: ASGIApp,
        checks: Iterable[tuple[Route, Check | None]],
        handlers: Mapping[Any, Callable[[Request, Any], Any]],
    ) -> None:
        """Take what serves everything, its routes with what each asks of a request, and what answers exceptions."""
        self._framework = framework
        self._handlers = handlers
        self._by_path: dict[tuple[str, str], _Express] = {}
        self._by_parent: dict[tuple[str, str], _Express] = {}  # those whose last part is a parameter
        for route, check in checks:
            if method := EXPRESS.get(route.path):
                parent, has_parameter, _ = route.path.partition("/{")
                table = self._by_parent if has_parameter else self._by_path
                table[method, parent] = _Express(route.path, check, route.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._framework(scope, receive, send)
            return
        begun = perf_counter()
        path, method = scope["path"], scope["method"]
        arguments: tuple[str, ...] = ()
        express = self._by_path.get((method, path))
        if express is None and not scope["query_string"]:
            parent, _, argument = path.rpartition("/")
            if argument:
                express, arguments = self._by_parent.get((method, parent)), (argument,)
        if express is None or scope.get("root_path"):
            await self._serve_by_framework(scope, receive, send, begun)
            return
        request, failure = Request(scope, receive), None
        try:
            if express.check is not None:
                express.check(scope)
            response = await express.endpoint(request, *arguments)
        except Exception as error:  # noqa: BLE001 - what nobody has thought of is raised again once it is answered
            kind = next(kind for kind in type(error).__mro__ if kind in self._handlers)
            response = await self._handlers[kind](request, error)
            failure = error if kind is Exception else None
        metrics: Metrics = scope["state"]["metrics"]
        metrics.note_request(method, express.path, response.status_code, perf_counter() - begun)
        headers = added_to(response.raw_headers, scope)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
        if failure is not None:
            raise failure

    async def _serve_by_framework(self, scope: Scope, receive: Receive, send: Send, begun: float) -> None:
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                # Who asks for what is not there could make up any number of paths.
                _note(scope, getattr(scope.get("route"), "path", None), message["status"], begun)
                message["headers"] = added_to(message["headers"], scope)
            await send(message)

        try:
            await self._framework(scope, receive, sending)
        except Exception:
            if not has_begun:
                _note(scope, getattr(scope.get("route"), "path", None), HTTPStatus.INTERNAL_SERVER_ERROR, begun)
            raise


def _note(scope: Scope, path: str | None, status: int, begun: float) -> None:
    metrics: Metrics | None = scope.get("state", {}).get("metrics")
    if metrics is not None:
        method = scope["method"] if path is not None and scope["method"] in METHODS else UNMATCHED
        metrics.note_request(method, path or UNMATCHED, status, perf_counter() - begun)
