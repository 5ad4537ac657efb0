"""Edge: what is served express is served as the framework would, but for the time it takes."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from sluice.app import Application, create_app
from sluice.edge import EXPRESS
from sluice.keys import Role, make_key
from sluice.metrics import Metrics
from sluice.settings import Settings
from tests.api import ManualClock
from tests.api_steps import EndlessUpstream

SECRET, ENTRY = make_key("alice", Role.SUBMIT)
READ_SECRET, READ_ENTRY = make_key("bob", Role.READ)
BODY = b'{"ids": [1, 2, 3, 4], "priority": "LOW"}'
JSON = {"Content-Type": "application/json"}
KEY = {"X-API-Key": SECRET}
UNKNOWN = "/status/0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"
# Whatever differs from one time to the next.
VARYING = {"location", "ratelimit"}
REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "a submission": ("POST", "/ingest", JSON | KEY, BODY),
    "a submission with a query": ("POST", "/ingest?a=b", JSON | KEY, BODY),
    "an idempotency key": ("POST", "/ingest", JSON | KEY | {"Idempotency-Key": "k"}, BODY),
    "an ill-formed idempotency key": ("POST", "/ingest", JSON | KEY | {"Idempotency-Key": "\u00e9"}, BODY),
    "no key": ("POST", "/ingest", JSON, BODY),
    "a wrong key": ("POST", "/ingest", JSON | {"Authorization": "Bearer nobody"}, BODY),
    "another role's key": ("POST", "/ingest", JSON | {"X-API-Key": READ_SECRET}, BODY),
    "a page of another site": ("POST", "/ingest", JSON | KEY | {"Sec-Fetch-Site": "cross-site"}, BODY),
    "no media type": ("POST", "/ingest", KEY, BODY),
    "no JSON": ("POST", "/ingest", JSON | KEY, b"{"),
    "a wrong body": ("POST", "/ingest", JSON | KEY, b'{"ids": [0], "priority": "LOW"}'),
    "a body that is too large": ("POST", "/ingest", JSON | KEY, b" " * 100_001),
    "behind TLS": ("POST", "/ingest", JSON | KEY | {"X-Forwarded-Proto": "https"}, BODY),
    "a status": ("GET", "/status/{known}", KEY, b""),
    "a page of a status": ("GET", "/status/{known}?limit=1", KEY, b""),
    "an empty query": ("GET", "/status/{known}?", KEY, b""),
    "a limit that is none": ("GET", "/status/{known}?limit=x", KEY, b""),
    "another's status": ("GET", "/status/{known}", {"X-API-Key": READ_SECRET}, b""),
    "a status without a key": ("GET", "/status/{known}", {}, b""),
    "an unknown status": ("GET", UNKNOWN, KEY, b""),
    "no id": ("GET", "/status/", KEY, b""),
    "an encoded slash": ("GET", "/status/a%2Fb", KEY, b""),
    "a deeper path": ("GET", "/status/a/b", KEY, b""),
    "another method": ("PUT", "/ingest", KEY, b""),
    "only the head": ("HEAD", "/status/{known}", KEY, b""),
}


@pytest.fixture
def app() -> Application:
    settings = Settings(api_keys=f"{ENTRY} {READ_ENTRY}", max_body_bytes=100_000, shutdown_grace=0)
    return create_app(settings, EndlessUpstream(), ManualClock())


@pytest.fixture
def client(app: Application) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def known(client: TestClient) -> str:
    return str(client.post("/ingest", content=BODY, headers=JSON | KEY).json()["ingestion_id"])


def serve_nothing_express(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app._edge, "_by_path", {})
    monkeypatch.setattr(app._edge, "_by_parent", {})


def ask(client: TestClient, name: str, known: str) -> tuple[int, dict[str, str], Any]:
    method, path, headers, content = REQUESTS[name]
    encoded = {field.encode(): value.encode("latin-1") for field, value in headers.items()}
    answer = client.request(method, path.format(known=known), headers=encoded, content=content)
    assert VARYING.isdisjoint(answer.headers) or method == "POST"
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in VARYING}, shape(answer)


def shape(answer: Any) -> Any:
    """Return what an answer says, but for the id of a new ingestion."""
    if answer.headers.get("content-type") != "application/json":
        return answer.text
    body = answer.json()
    return body if "status" in body else list(body)


@pytest.mark.parametrize("name", REQUESTS)
def test_answer_is_the_same_as_the_frameworks(
    app: Application, client: TestClient, known: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    express = ask(client, name, known)

    serve_nothing_express(app, monkeypatch)
    by_framework = ask(client, name, known)

    if name == "an idempotency key":
        assert by_framework[1].pop("idempotency-replayed") == "true"
    assert express == by_framework


def test_express_routes_are_reached_without_the_framework(
    app: Application, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise AssertionError("the framework was asked")

    monkeypatch.setattr(app._edge, "_framework", fail)

    submitted = client.post("/ingest", content=BODY, headers=JSON | KEY)

    assert submitted.status_code == 200
    assert client.get(submitted.headers["location"], headers=KEY).json()["priority"] == "LOW"


def test_path_below_another_root_is_the_frameworks_to_find(app: Application) -> None:
    with TestClient(app, root_path="/status") as client:
        assert client.get("/status/1", headers=KEY).json()["detail"].startswith("Nothing is at")


@pytest.mark.parametrize("is_express", [True, False], ids=["express", "by the framework"])
def test_every_request_is_measured_by_its_route(
    app: Application, client: TestClient, monkeypatch: pytest.MonkeyPatch, *, is_express: bool
) -> None:
    if not is_express:
        serve_nothing_express(app, monkeypatch)
    for _ in range(3):
        client.post("/ingest", content=BODY, headers=JSON | KEY)
    client.post("/ingest", content=b"{", headers=JSON | KEY)
    client.get(UNKNOWN, headers=KEY)

    metrics: Metrics = client.app_state["metrics"]
    for method, route, status, count in (
        ("POST", "/ingest", "200", 3),
        ("POST", "/ingest", "400", 1),
        ("GET", "/status/{ingestion_id}", "404", 1),
    ):
        labels = {"method": method, "route": route, "status": status}
        assert metrics.registry.get_sample_value("sluice_http_request_seconds_count", labels) == count


def test_failure_of_an_express_route_is_a_500_like_any_other(
    client: TestClient, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sluice.api.ingestions.Description", fail)

    answer = client.get(f"/status/{known}", headers=KEY)

    assert answer.status_code == 500
    assert answer.json()["detail"] == "The server failed; its log says why."
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_failure_of_an_express_route_reaches_the_server(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sluice.api.ingest.Answer", fail)

    with TestClient(app) as client, pytest.raises(ZeroDivisionError):
        client.post("/ingest", content=BODY, headers=JSON | KEY)


def test_what_is_express_is_a_route_that_there_is(app: FastAPI) -> None:
    paths = {(next(iter(route.methods)), route.path) for route in app.routes if hasattr(route, "methods")}  # type: ignore[attr-defined]

    assert {(method, path) for path, method in EXPRESS.items()} <= paths
