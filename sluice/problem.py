"""The one shape of every error: RFC 9457 problem details, and how it is described in OpenAPI."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from sluice.admission import FullError
from sluice.control import ConflictError
from sluice.intake import OtherSubmissionError
from sluice.journal import JournalError

logger = logging.getLogger(__name__)

OTHER_BODY = (
    "This Idempotency-Key was used with other IDs, another priority or another lane; "
    "use a new one for a new submission."
)
# What the database says of itself is for the log alone.
AWAY = "Nothing can be recorded now; the log says why."
JOURNAL_RETRY_AFTER = "5"  # seconds
MEDIA_TYPE = "application/problem+json"
# As RFC 9110 names them; Python's own phrases changed to these in 3.13.
TITLES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
MOST_ERRORS = 20
LONGEST_PATH = 100
SCHEMA_REF = "#/components/schemas/{model}"


class FieldProblem(BaseModel):
    """What is wrong with one field of the request, and where it is: `ids[3]`."""

    field: str
    detail: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457). `errors` is there when fields of the request are at fault."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


class ProblemError(Exception):
    """Refuses the request with an HTTP status, a text that says what to change, and the fields at fault."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: list[FieldProblem] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers


def body_problem(error: ValidationError) -> ProblemError:
    """Return the 400 (not JSON) or 422 for a body that a model refused."""
    if error.error_count() > MOST_ERRORS:
        # Listing them would take, and answer with, many times the body's own size.
        detail = f"The body has {error.error_count()} errors, most of them fields that do not belong there."
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return validation_problem(error.errors(include_url=False, include_context=False, include_input=False))


def validation_problem(failures: list[Any]) -> ProblemError:
    """Return the 400 (not JSON) or 422 for what pydantic lists in `ValidationError.errors()`."""
    for failure in failures:
        if failure["type"] == "json_invalid":
            return ProblemError(HTTPStatus.BAD_REQUEST, f"The body is not JSON. {failure['msg']}.")
    errors = [FieldProblem(field=_path(failure["loc"]), detail=failure["msg"]) for failure in failures]
    detail = "; ".join(f"{error.field or 'body'}: {error.detail}" for error in errors)
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors)


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    path = path.removeprefix(".")
    return path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}…"


def install(app: FastAPI, amend: Callable[[dict[str, Any]], None]) -> None:
    """Answer every error of the app in this shape, add it to the OpenAPI document, and have that amended."""

    @app.exception_handler(ProblemError)
    async def on_problem(request: Request, error: ProblemError) -> Response:
        return response(error.status, error.detail, error.errors, error.headers)

    @app.exception_handler(ValidationError)
    async def on_body(request: Request, error: ValidationError) -> Response:
        problem = body_problem(error)
        return response(problem.status, problem.detail, problem.errors)

    @app.exception_handler(RequestValidationError)
    async def on_parameters(request: Request, error: RequestValidationError) -> Response:
        # The first part of FastAPI's location is where the field was ("query"), not its path.
        problem = validation_problem([{**failure, "loc": failure["loc"][1:]} for failure in error.errors()])
        return response(problem.status, problem.detail, problem.errors)

    @app.exception_handler(ConflictError)
    async def on_conflict(request: Request, error: ConflictError) -> Response:
        return response(HTTPStatus.CONFLICT, str(error))

    @app.exception_handler(OtherSubmissionError)
    async def on_other_submission(request: Request, error: OtherSubmissionError) -> Response:
        return response(HTTPStatus.UNPROCESSABLE_ENTITY, OTHER_BODY)

    @app.exception_handler(FullError)
    async def on_full(request: Request, error: FullError) -> Response:
        headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return response(HTTPStatus.SERVICE_UNAVAILABLE, f"There is no room now: {error}.", headers=headers)

    @app.exception_handler(JournalError)
    async def on_journal(request: Request, error: JournalError) -> Response:
        logger.warning("%s %s was refused: %s", request.method, request.url.path, error)
        headers = {"Retry-After": JOURNAL_RETRY_AFTER}
        return response(HTTPStatus.SERVICE_UNAVAILABLE, AWAY, headers=headers)

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(request: Request, error: ClientDisconnect) -> Response:
        # Nobody is left to read it, and it is no fault of the server's that its log should show.
        return Response(status_code=HTTPStatus.BAD_REQUEST)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        detail = {
            HTTPStatus.NOT_FOUND: f"Nothing is at {request.url.path}; /docs lists what there is.",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible at {request.url.path}.",
        }.get(status, error.detail)
        headers = error.headers
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            # Starlette names the methods of the first route with this path; there may be others.
            routes = (
                route
                for route in app.routes
                if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
            )
            headers = {"Allow": ", ".join(sorted({method for route in routes for method in route.methods or ()}))}
        return response(status, detail, headers=headers)

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> Response:
        return response(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed; its log says why.")

    app.openapi = lambda: _openapi(app, amend)  # type: ignore[method-assign]


def response(
    status: HTTPStatus,
    detail: str,
    errors: list[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer that refuses a request, with a text that says what to change."""
    problem = Problem(title=_title(status), status=status, detail=detail, errors=errors)
    return Response(
        problem.model_dump_json(exclude_none=True), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def documented(
    status: HTTPStatus,
    detail: str,
    errors: list[FieldProblem] | None = None,
    headers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the OpenAPI response object of a problem, with an example, and with its headers as `described`."""
    example = Problem(title=_title(status), status=status, detail=detail, errors=errors)
    return {
        **({"headers": headers} if headers else {}),
        "description": _title(status),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": SCHEMA_REF.format(model="Problem")},
                "example": example.model_dump(exclude_none=True),
            }
        },
    }


def described(headers: Mapping[str, str], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI header objects of headers, given what they say; required where every answer has them."""
    return {
        name: {"description": description, "required": required, "schema": {"type": "string"}}
        for name, description in headers.items()
    }


def _title(status: HTTPStatus) -> str:
    return TITLES.get(status, status.phrase)


def _openapi(app: FastAPI, amend: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        _drop_default_problems(document)
        _, definitions = models_json_schema([(Problem, "serialization")], ref_template=SCHEMA_REF)
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        amend(document)
        app.openapi_schema = document
    return app.openapi_schema


def _drop_default_problems(document: dict[str, Any]) -> None:
    """Take out the 422 that FastAPI adds to whatever has a parameter, also where any text will do."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
