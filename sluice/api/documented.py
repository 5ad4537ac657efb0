"""What the routes' answers look like in the OpenAPI document, with an example each."""

from http import HTTPStatus
from typing import Any

from sluice.api.body import NOT_JSON
from sluice.api.route import JSON, UNKNOWN
from sluice.problem import FieldProblem, documented

Responses = dict[int | str, dict[str, Any]]

NDJSON = "application/x-ndjson"
LONGEST_KEY = 255
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body again get the same answer, and nothing is accepted twice.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY + 2},
    "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
}
ACCEPTED: Responses = {
    200: {
        "headers": {
            "Location": {"description": "`/status/{ingestion_id}`", "schema": {"type": "string"}},
            "Idempotency-Replayed": {
                "description": "`true` when the Idempotency-Key was used before: nothing new was accepted.",
                "schema": {"type": "string"},
            },
        }
    }
}
LINK: Responses = {
    200: {"headers": {"Link": {"description": '`rel="next"`: the next page.', "schema": {"type": "string"}}}}
}
RESULTS: Responses = {
    200: {
        "content": {
            NDJSON: {
                "schema": {"type": "string"},
                "example": '{"id":1,"batch_id":"7e3f8d7a-51a5-5d35-8b63-1a9fbc9b8c3d","status":"completed",'
                '"data":{"id":1,"data":"processed"},"attempts":1,"finished_at":"2026-01-01T12:00:03Z"}\n',
            }
        }
    }
}
EVENTS: Responses = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: reset\ndata: {"lane":null,"time":"2026-01-01T12:00:00Z"}\nid: 5f1a2b3c-7\n\n',
            }
        }
    }
}
METRICS: Responses = {
    200: {
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": 'sluice_backlog_batches{lane="default",priority="HIGH"} 3.0\n',
            }
        }
    }
}
OVER: Responses = {204: {"description": "The event named by `Last-Event-ID` was the last one."}}
NOT_FOUND: Responses = {404: documented(HTTPStatus.NOT_FOUND, UNKNOWN)}
NOT_RECORDED: Responses = {
    503: documented(HTTPStatus.SERVICE_UNAVAILABLE, "Nothing can be recorded now: the journal cannot be written.")
}
LIMIT_PROBLEM: Responses = {
    422: documented(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "limit: Input should be less than or equal to 1000",
        [FieldProblem(field="limit", detail="Input should be less than or equal to 1000")],
    )
}
LANE_PROBLEM: Responses = {
    422: documented(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "lane: There is no such lane; there are: default, maps",
        [FieldProblem(field="lane", detail="There is no such lane; there are: default, maps")],
    )
}
FOLLOW_PROBLEM: Responses = {
    422: documented(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "follow: Input should be a valid boolean, unable to interpret input",
        [FieldProblem(field="follow", detail="Input should be a valid boolean, unable to interpret input")],
    )
}
BODY_PROBLEMS: Responses = {
    400: documented(HTTPStatus.BAD_REQUEST, "The body is not JSON. Invalid JSON: EOF while parsing."),
    413: documented(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "The body has more than 33554432 bytes; split the IDs over several ingestions.",
    ),
    415: documented(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, NOT_JSON),
    422: documented(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "priority: Input should be 'HIGH', 'MEDIUM' or 'LOW'",
        [FieldProblem(field="priority", detail="Input should be 'HIGH', 'MEDIUM' or 'LOW'")],
    ),
}


def not_allowed(method: str, path: str) -> Responses:
    """Return the description of the 405 that a path answers to other methods."""
    return {405: documented(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not possible at {path}.")}


def conflict(detail: str) -> Responses:
    """Return the description of a 409."""
    return {409: documented(HTTPStatus.CONFLICT, detail)}


def request_body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the endpoint reads itself."""
    return {"requestBody": {"required": required, "content": {JSON: {"schema": schema}}}}
