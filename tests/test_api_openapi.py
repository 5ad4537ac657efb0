"""What OpenAPI says of the HTTP contract."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

ERRORS = {
    "POST /ingest": [400, 405, 409, 413, 415, 422, 503],
    "GET /status/{ingestion_id}": [404, 405, 422],
    "GET /results/{ingestion_id}": [404, 405, 422, 503],
    "GET /ingestions": [405, 422],
    "DELETE /ingestions/{ingestion_id}": [404, 405, 503],
    "PATCH /ingestions/{ingestion_id}": [400, 404, 405, 409, 413, 415, 422, 503],
    "POST /ingestions/{ingestion_id}/retry": [404, 405, 409, 503],
    "POST /forecast": [400, 405, 413, 415, 422],
    "GET /slots": [405, 422],
    "GET /events": [405, 422],
    "GET /events/{ingestion_id}": [404, 405],
    "GET /metrics": [405],
    "GET /queue": [405, 422],
    "POST /queue/pause": [400, 405, 413, 415, 422, 503],
    "POST /queue/resume": [405, 422, 503],
    "GET /healthz": [405],
    "GET /readyz": [405, 503],
}


def operations(client: TestClient) -> dict[str, dict[str, Any]]:
    document = client.get("/openapi.json").json()
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_openapi_lists_every_route_with_every_error_it_can_answer(client: TestClient) -> None:
    listed = {
        name: sorted(int(status) for status in operation["responses"] if status >= "400")
        for name, operation in operations(client).items()
    }

    assert listed == ERRORS


@pytest.mark.parametrize("name", ERRORS)
def test_openapi_describes_every_error_as_a_problem_with_an_example(client: TestClient, name: str) -> None:
    responses = operations(client)[name]["responses"]

    for status in ERRORS[name]:
        content = responses[str(status)]["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert content["example"]["status"] == status


def test_openapi_knows_no_other_error_than_the_problem(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    assert {"Problem", "FieldProblem", "IngestResponse", "StatusResponse", "QueueResponse", "ListResponse"} <= set(
        schemas
    )
    assert {"HTTPValidationError", "ValidationError"}.isdisjoint(schemas)


def test_openapi_describes_what_the_routes_read_and_answer_themselves(client: TestClient) -> None:
    described = operations(client)

    for name in ("POST /ingest", "PATCH /ingestions/{ingestion_id}", "POST /queue/pause"):
        assert described[name]["requestBody"]["content"]["application/json"]["schema"]["example"]
    assert [each["name"] for each in described["POST /ingest"]["parameters"]] == ["Idempotency-Key"]
    assert {"Location", "Idempotency-Replayed"} <= described["POST /ingest"]["responses"]["200"]["headers"].keys()
    assert "Link" in described["GET /ingestions"]["responses"]["200"]["headers"]
    assert described["GET /results/{ingestion_id}"]["responses"]["200"]["content"]["application/x-ndjson"]["example"]


def test_docs_page_is_served(client: TestClient) -> None:
    assert "swagger" in client.get("/docs").text
