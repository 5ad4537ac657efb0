"""What OpenAPI says of the HTTP contract."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sluice.app import create_app
from sluice.keys import Role, make_key
from sluice.settings import Settings
from tests.lanes import lanes_settings

ERRORS = {
    "POST /ingest": [400, 401, 403, 405, 408, 409, 413, 415, 422, 429, 503],
    "GET /status/{ingestion_id}": [401, 404, 405, 422],
    "GET /results/{ingestion_id}": [401, 404, 405, 422, 429, 503],
    "GET /ingestions": [401, 405, 422],
    "DELETE /ingestions/{ingestion_id}": [401, 403, 404, 405, 503],
    "PATCH /ingestions/{ingestion_id}": [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 503],
    "POST /ingestions/{ingestion_id}/retry": [401, 403, 404, 405, 409, 503],
    "POST /forecast": [400, 401, 403, 405, 408, 413, 415, 422, 503],
    "GET /slots": [401, 403, 405, 422],
    "GET /events": [401, 403, 405, 422, 429],
    "GET /events/{ingestion_id}": [401, 404, 405, 429],
    "GET /metrics": [401, 403, 405],
    "GET /queue": [401, 403, 405, 422],
    "POST /queue/pause": [400, 401, 403, 405, 408, 413, 415, 422, 503],
    "POST /queue/resume": [401, 403, 405, 422, 503],
    "GET /session": [401, 405],
    "POST /session": [400, 401, 403, 405, 408, 413, 415, 422],
    "DELETE /session": [403, 405],
    "GET /healthz": [405],
    "GET /readyz": [405, 503],
}


def operations(client: TestClient) -> dict[str, dict[str, Any]]:
    return described_by(client.get("/openapi.json").json())


def described_by(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
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


def test_openapi_links_a_submission_to_whatever_takes_its_id(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    links = paths["/ingest"]["post"]["responses"]["200"]["links"].values()

    linked = {link["operationRef"] for link in links}

    assert linked == {
        f"#/paths/{path.replace('/', '~1')}/{method}"
        for path, methods in paths.items()
        for method in methods
        if "{ingestion_id}" in path
    }
    assert all(link["parameters"] == {"ingestion_id": "$response.body#/ingestion_id"} for link in links)


def test_openapi_names_the_lanes_wherever_one_can_be_chosen(tmp_path: Path) -> None:
    described = described_by(create_app(lanes_settings("memory", tmp_path)).openapi())

    for name in ("GET /queue", "GET /slots", "GET /events", "GET /ingestions", "POST /queue/pause"):
        schemas = [each["schema"] for each in described[name]["parameters"] if each["name"] == "lane"]
        assert [schema["enum"] for schema in schemas] == [["default", "maps"]]
    for name in ("POST /ingest", "POST /forecast"):
        schema = described[name]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["properties"]["lane"]["enum"] == ["default", "maps"]


def test_openapi_asks_for_no_key_only_where_the_service_is_open() -> None:
    keyed = create_app(Settings(api_keys=make_key("otto", Role.ADMIN)[1]))

    assert {} in described_by(create_app(Settings()).openapi())["GET /queue"]["security"]
    assert {} not in described_by(keyed.openapi())["GET /queue"]["security"]


def test_docs_page_is_served(client: TestClient) -> None:
    assert "swagger" in client.get("/docs").text
