"""Nothing that can be asked breaks the service, and every answer is as its OpenAPI document says.

`FUZZ_CASES=200 pytest tests/test_api_fuzz.py -k documented` asks for more.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient
from schemathesis.python.asgi import shutdown_lifespans

from sluice.api.access import PUBLIC, RULES
from sluice.app import create_app
from sluice.keys import Role, make_key
from sluice.settings import Settings
from sluice.upstream import UpstreamError
from tests.api import PATIENCE, ScriptedUpstream
from tests.fuzz import CASES, SEED, Leaving, Outcome, fuzz, submit

MADE = {role: make_key(role, role) for role in Role}
API_KEYS = ", ".join(entry for _, entry in MADE.values())
KEYS: dict[str, dict[str, str]] = {role: {"X-API-Key": secret} for role, (secret, _) in MADE.items()}
STRANGERS = {"wrong key": {"X-API-Key": "sluice_wrong"}, "no key": {}}
HEADERS: dict[str, dict[str, str]] = {"open": {}} | KEYS | STRANGERS
# A lane in which whatever is submitted waits, beside one in which it is done at once.
SLOW = '[[lanes]]\nname = "slow"\ninterval = 3600\n'
FAILING = 3


def answer(item: int) -> object:
    return UpstreamError("no such item") if item % FAILING == 0 else {"id": item}


def serve(folder: Path, **settings: Any) -> Leaving:
    """Return a service whose every third ID fails, as an ASGI app."""
    lanes = folder / "lanes.toml"
    lanes.write_text(SLOW)
    upstreams = {"default": ScriptedUpstream(answer), "slow": ScriptedUpstream(answer)}
    generous = {"submit_rate": 1_000_000, "max_waiting": 1_000_000, "batch_interval": 0, "max_ids": 20}
    return Leaving(create_app(Settings(**{"lanes": lanes, "shutdown_grace": 0, **generous, **settings}), upstreams))


@pytest.fixture(autouse=True)
def _lifespans() -> Iterator[None]:
    yield
    shutdown_lifespans()


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Callable[[str, Outcome], None]:
    """Have the summary of the tests tell how much was asked."""

    def note(what: str, outcome: Outcome) -> None:
        phases = Counter(each.phase for each in outcome.answers)
        parts = ", ".join(f"{phase} {count}" for phase, count in phases.items())
        record_property("fuzzed", f"{what}: {len(outcome.answers)} requests ({parts}), seed {SEED}")

    return note


@pytest.mark.parametrize("who", HEADERS)
def test_every_answer_is_as_documented(who: str, tmp_path: Path, note: Callable[[str, Outcome], None]) -> None:
    app = serve(tmp_path, api_keys=None if who == "open" else API_KEYS)
    submit(
        app, KEYS[Role.ADMIN], *({"ids": [1, 2, 3], "priority": "LOW", "lane": lane} for lane in ("default", "slow"))
    )

    outcome = fuzz(app, HEADERS[who], KEYS[Role.ADMIN], makes_up_keys=who in STRANGERS)

    note(who, outcome)
    assert not outcome.findings, outcome.report
    assert {each.name for each in outcome.answers} >= {name for name in RULES if is_documented(name)}
    for each in outcome.answers:
        assert each.status in allowed(who, each.name, each.status), each


@pytest.mark.parametrize("who", ["open", Role.ADMIN])
def test_id_of_an_ingestion_leads_on_to_whatever_takes_it(
    who: str, tmp_path: Path, note: Callable[[str, Outcome], None]
) -> None:
    app = serve(tmp_path, api_keys=None if who == "open" else API_KEYS)

    # A sequence has few steps, and there are many ways to go.
    wanted: dict[str, Any] = {"only": "^/ingest$|ingestion_id", "phases": ("stateful",), "cases": 10 * CASES}
    outcome = fuzz(app, HEADERS[who], KEYS[Role.ADMIN], **wanted)

    note(f"{who}, by ids", outcome)
    assert not outcome.findings, outcome.report
    # 409: the id was found, there was nothing to change.
    found = (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.CONFLICT)
    followed = {each.name for each in outcome.answers if each.status in found}
    assert followed >= {name for name in RULES if "{ingestion_id}" in name}


def is_documented(name: str) -> bool:
    return not name.startswith(("GET /docs", "GET /dashboard", "GET /openapi")) and name != "GET /"


def allowed(who: str, name: str, status: int) -> set[int]:
    """Return the statuses that a request may get, given that a `status` is documented."""
    if name not in RULES:
        return {405}
    if who == "open" or RULES[name] is PUBLIC:
        return {status}
    if who in STRANGERS:
        return {401}
    # The check of what a key is needed for leaves it out at times.
    return {status} if Role(who) in RULES[name] else {401, 403}


@pytest.mark.parametrize(("settings", "status"), [({"submit_rate": 1}, 429), ({"max_waiting": 1}, 503)])
def test_refusals_for_want_of_room_are_as_documented(
    settings: dict[str, Any], status: int, tmp_path: Path, note: Callable[[str, Outcome], None]
) -> None:
    app = serve(tmp_path, batch_interval=3600, **settings)

    outcome = fuzz(app, {}, {}, only="^/ingest$", phases=("coverage", "fuzzing"), expected=(status,))

    note(f"{settings}", outcome)
    assert not outcome.findings, outcome.report
    refused = [each for each in outcome.answers if each.status == status]
    assert refused
    assert all(int(each.headers["retry-after"][0]) > 0 for each in refused)


# What Schemathesis does not make up

READ = (
    b"Accept",
    b"Authorization",
    b"Cookie",
    b"Idempotency-Key",
    b"Last-Event-ID",
    b"Origin",
    b"Host",
    b"Content-Length",
)
ODD = {
    "nul": "%00",
    "control characters": "%01%1b%7f%c2%85",
    "no UTF-8": "%ff%fe%c3%28",
    "a surrogate": "%ed%a0%80",
    "a broken escape": "%zz%",
    "the folder above": "..%2f..%2fetc%2fpasswd",
    "much": "a" * 7_000,
    "many digits": "9" * 5_000,
}


@pytest.fixture(scope="module", params=["open", "keyed"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return a client for which a server error is an exception."""
    keys = API_KEYS if request.param == "keyed" else None
    with TestClient(serve(tmp_path_factory.mktemp("odd"), api_keys=keys), headers=KEYS[Role.ADMIN]) as client:
        yield client


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "ODD"])
def test_no_path_or_query_is_too_odd(client: TestClient, method: str, odd: str) -> None:
    for template in {name.split()[1] for name in RULES}:
        path = template.replace("{ingestion_id}", ODD[odd]).replace("{name}", ODD[odd]).replace("{path:path}", ODD[odd])
        query = "&".join(f"{name}={ODD[odd]}" for name in ("lane", "limit", "cursor", "follow", "status", ODD[odd]))
        response = client.request(method, f"{path}?{query}")

        assert response.status_code < 500
        if response.status_code >= 400 and method != "HEAD":
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == response.status_code
        if response.status_code == 405:
            assert method not in response.headers["allow"].split(", ")


@pytest.mark.parametrize("odd", ["nul", "no UTF-8", "a surrogate", "much"])
def test_no_header_is_too_odd(client: TestClient, odd: str) -> None:
    for name in READ:
        headers = [(b"Content-Type", b"application/json"), (name, unquote_to_bytes(ODD[odd]))]
        for path in ("/ingest", "/events?lane=none", "/metrics", "/session", "/queue/resume"):
            for method in ("GET", "POST"):
                assert client.request(method, path, headers=headers).status_code < 500


# What only a look into a stream tells


def content(client: TestClient, path: str) -> Any:
    """Return what is said of the content of an answer."""
    return client.get("/openapi.json").json()["paths"][path]["get"]["responses"]["200"]["content"]


@pytest.mark.parametrize("follow", ["false", "true"])
def test_every_line_of_results_is_as_described(client: TestClient, follow: str) -> None:
    submitted = client.post("/ingest", json={"ids": [1, 2, FAILING], "priority": "LOW"}).json()["ingestion_id"]
    deadline = time.monotonic() + PATIENCE
    client.post("/queue/resume")
    while client.get(f"/status/{submitted}").json()["status"] != "completed":
        assert time.monotonic() < deadline

    lines = client.get(f"/results/{submitted}?follow={follow}").text.splitlines()

    assert len(lines) == 3
    described = content(client, "/results/{ingestion_id}")["application/x-ndjson"]["itemSchema"]
    for line in lines:
        jsonschema_rs.validate(described, json.loads(line))


def test_media_type_that_monitoring_asks_for_is_described(client: TestClient) -> None:
    for media_type in content(client, "/metrics"):
        answered = client.get("/metrics", headers={"Accept": media_type})

        assert answered.headers["content-type"].startswith(media_type)
