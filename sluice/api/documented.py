"""What the routes' answers look like in the OpenAPI document, with an example each."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from sluice.api.body import NOT_JSON
from sluice.api.places import FULL
from sluice.api.route import JSON, UNKNOWN
from sluice.api.streams import TOO_MANY_STREAMS
from sluice.notice import KINDS, RESET
from sluice.problem import AWAY, FieldProblem, described, documented

Responses = dict[int | str, dict[str, Any]]

NDJSON = "application/x-ndjson"
LONGEST_KEY = 255
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body again get the same answer, and nothing is accepted twice.",
    "schema": {
        "type": "string",
        "maxLength": LONGEST_KEY + 2,
        "pattern": f'^("[!-~]{{1,{LONGEST_KEY}}}"|[!#-~][!-~]{{0,{LONGEST_KEY - 1}}})$',
    },
    "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
}
RATE_HEADERS = {
    "RateLimit-Policy": "How many submissions may come with this key: `q` in `w` seconds.",
    "RateLimit": "How many more may come at once, `r`, and in how many seconds all may again, `t`.",
}
# Where the id of an ingestion goes, as OpenAPI links: the operations that take it.
FOLLOWED_BY = {
    "status": "get /status/{ingestion_id}",
    "results": "get /results/{ingestion_id}",
    "events": "get /events/{ingestion_id}",
    "reprioritise": "patch /ingestions/{ingestion_id}",
    "cancel": "delete /ingestions/{ingestion_id}",
    "retry": "post /ingestions/{ingestion_id}/retry",
}


def _link(operation: str) -> dict[str, Any]:
    method, _, path = operation.partition(" ")
    return {
        "operationRef": f"#/paths/{path.replace('/', '~1')}/{method}",
        "parameters": {"ingestion_id": "$response.body#/ingestion_id"},
    }


ACCEPTED: Responses = {
    200: {
        "links": {name: _link(operation) for name, operation in FOLLOWED_BY.items()},
        "headers": {
            **described(RATE_HEADERS),
            **described({"Location": "`/status/{ingestion_id}`"}),
            **described(
                {"Idempotency-Replayed": "`true` when the Idempotency-Key was used before: nothing new was accepted."},
                required=False,
            ),
        },
    }
}
LINK: Responses = {200: {"headers": described({"Link": '`rel="next"`: the next page.'}, required=False)}}
RESULTS: Responses = {
    200: {
        "content": {
            NDJSON: {
                "schema": {"type": "string"},
                # As OpenAPI 3.2 has it, and FastAPI in 3.1: what each line is.
                "itemSchema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "integer"},
                        "batch_id": {"type": "string", "format": "uuid"},
                        "status": {"enum": ["completed", "failed"]},
                        "data": {"description": "What the upstream answered."},
                        "error": {"type": "string"},
                        "attempts": {"type": "integer"},
                        "finished_at": {"type": "string", "format": "date-time"},
                    },
                    "required": ["id", "batch_id", "status", "attempts", "finished_at"],
                    "oneOf": [{"required": ["data"]}, {"required": ["error"]}],
                },
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
                "itemSchema": {
                    "type": "object",
                    "properties": {
                        "event": {"type": "string", "enum": sorted({RESET, *KINDS.values()})},
                        "data": {"type": "string", "contentMediaType": JSON},
                        "id": {"type": "string"},
                    },
                    "required": ["event", "data"],
                },
                "example": 'event: reset\ndata: {"lane":null,"time":"2026-01-01T12:00:00Z"}\nid: 5f1a2b3c-7\n\n',
            }
        }
    }
}
LAST_EVENT_PARAMETER = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The `id` of the last event heard: the stream goes on after it, if it is still known.",
    "schema": {"type": "string"},
}
METRICS: Responses = {
    200: {
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": 'sluice_backlog_batches{lane="default",priority="HIGH"} 3.0\n',
            },
            "application/openmetrics-text": {"schema": {"type": "string"}},
        }
    }
}
OVER: Responses = {204: {"description": "The event named by `Last-Event-ID` was the last one."}}
NOT_FOUND: Responses = {404: documented(HTTPStatus.NOT_FOUND, UNKNOWN)}
TRY_AGAIN = described({"Retry-After": "In how many seconds to try again."})
NOT_RECORDED: Responses = {
    503: documented(
        HTTPStatus.SERVICE_UNAVAILABLE,
        AWAY,
        headers=TRY_AGAIN,
    )
}
TOO_MANY = "More than {} submissions a second came with this key; go on more slowly."
TOO_FAST: Responses = {
    429: documented(
        HTTPStatus.TOO_MANY_REQUESTS,
        TOO_MANY.format(1000),
        headers=described({"Retry-After": "In how many seconds the next one may come.", **RATE_HEADERS}),
    )
}
TOO_MANY_OPEN: Responses = {
    429: documented(
        HTTPStatus.TOO_MANY_REQUESTS,
        TOO_MANY_STREAMS.format(1000),
        headers=TRY_AGAIN,
    )
}
NO_ROOM: Responses = {
    503: documented(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "There is no room now: 100000 ingestions wait in the lane default; there will be room in 5 s.",
        headers=described(
            {"Retry-After": "In how many seconds there is room, or something can be recorded; absent if unknown."},
            required=False,
        ),
    )
}
NO_PLACE: Responses = {
    503: documented(
        HTTPStatus.SERVICE_UNAVAILABLE,
        FULL,
        headers=TRY_AGAIN,
    )
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
    408: documented(HTTPStatus.REQUEST_TIMEOUT, "The body of the request stopped coming; send it within 20 seconds."),
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
    return {
        405: documented(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"{method} is not possible at {path}.",
            headers=described({"Allow": "What is."}),
        )
    }


def conflict(detail: str) -> Responses:
    """Return the description of a 409."""
    return {409: documented(HTTPStatus.CONFLICT, detail)}


def request_body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the endpoint reads itself."""
    return {"requestBody": {"required": required, "content": {JSON: {"schema": schema}}}}


def name_lanes(openapi: dict[str, Any], names: Iterable[str]) -> None:
    """Add to an OpenAPI document which lanes there are, wherever one can be named."""
    lanes = list(names)
    for operation in (each for path in openapi["paths"].values() for each in path.values()):
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "lane":
                # Not beside an `anyOf` with null: a query has none.
                parameter["schema"] = {"type": "string", "enum": lanes} | {
                    key: value for key, value in parameter["schema"].items() if key in ("default", "title")
                }
        body = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema", {})
        if lane := body.get("properties", {}).get("lane"):
            lane["enum"] = lanes
