"""The HTTP contract, with time standing still and the first batch in flight for ever."""

import json
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from sluice.app import create_app
from sluice.settings import Settings
from tests.api import JSON, ManualClock, assert_problem, utc
from tests.api_steps import EndlessUpstream


def submit(client: TestClient, ids: list[int], priority: str = "MEDIUM") -> str:
    response = client.post("/ingest", json={"ids": ids, "priority": priority})
    assert response.status_code == 200, response.text
    return str(response.json()["ingestion_id"])


def test_ingest_answers_exactly_the_id_and_where_its_status_is(client: TestClient) -> None:
    response = client.post("/ingest", json={"ids": [1], "priority": "HIGH"})

    assert response.status_code == 200
    assert list(response.json()) == ["ingestion_id"]
    ingestion_id = response.json()["ingestion_id"]
    assert UUID(ingestion_id).version == 4
    assert response.headers["location"] == f"/status/{ingestion_id}"
    assert client.get(response.headers["location"]).json()["ingestion_id"] == ingestion_id


@pytest.mark.parametrize("priority", ["HIGH", "MEDIUM", "LOW"])
def test_every_priority_and_both_ends_of_the_id_range_are_taken(client: TestClient, priority: str) -> None:
    ingestion_id = submit(client, [1, 1_000_000_007, 1, 1], priority)

    body = client.get(f"/status/{ingestion_id}").json()

    assert body["priority"] == priority
    assert [batch["ids"] for batch in body["batches"]] == [[1, 1_000_000_007, 1], [1]]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"ids": [1], "priority": "high"}, ["priority"]),
        ({"ids": [1], "priority": "URGENT"}, ["priority"]),
        ({"ids": [1], "priority": 0}, ["priority"]),
        ({"ids": [1], "priority": None}, ["priority"]),
        ({"ids": [1]}, ["priority"]),
        ({"priority": "HIGH"}, ["ids"]),
        ({"ids": [1], "priorty": "HIGH"}, ["priority", "priorty"]),
        ({"ids": [1], "priority": "HIGH", "extra": 1}, ["extra"]),
        ({"ids": [], "priority": "HIGH"}, ["ids"]),
        ({"ids": 1, "priority": "HIGH"}, ["ids"]),
        ({"ids": "123", "priority": "HIGH"}, ["ids"]),
        ({"ids": {"0": 1}, "priority": "HIGH"}, ["ids"]),
        ({"ids": [1, "2"], "priority": "HIGH"}, ["ids[1]"]),
        ({"ids": [1, 2.0], "priority": "HIGH"}, ["ids[1]"]),
        ({"ids": [1, True], "priority": "HIGH"}, ["ids[1]"]),
        ({"ids": [1, None], "priority": "HIGH"}, ["ids[1]"]),
        ({"ids": [1, [2]], "priority": "HIGH"}, ["ids[1]"]),
        ({"ids": [0], "priority": "HIGH"}, ["ids[0]"]),
        ({"ids": [-1], "priority": "HIGH"}, ["ids[0]"]),
        ({"ids": [1_000_000_008], "priority": "HIGH"}, ["ids[0]"]),
        ({"ids": [10**30], "priority": "HIGH"}, ["ids[0]"]),
        ({"ids": [1] * 10_001, "priority": "HIGH"}, ["ids"]),
        ([], [""]),
        ("HIGH", [""]),
        (None, [""]),
    ],
)
def test_invalid_body_is_a_422_with_the_path_of_every_field(
    client: TestClient, body: object, fields: list[str]
) -> None:
    response = client.post("/ingest", content=json.dumps(body), headers=JSON)

    problem = assert_problem(response, 422, fields[0])
    assert [error["field"] for error in problem["errors"]] == fields
    assert all(error["detail"] for error in problem["errors"])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"ids=1", b"\xff\xfe", b'{"ids": [1}', b'{"ids":[1],"priority":"HIGH"} x', b"[" * 5000]
)
def test_body_that_is_not_json_is_a_400(client: TestClient, body: bytes) -> None:
    assert_problem(client.post("/ingest", content=body, headers=JSON), 400, "not JSON")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_other_media_type_is_a_415_that_names_the_header(client: TestClient, media_type: str) -> None:
    response = client.post("/ingest", content=b'{"ids":[1],"priority":"LOW"}', headers={"Content-Type": media_type})

    assert_problem(response, 415, "Content-Type: application/json")


def test_charset_parameter_and_case_of_the_media_type_do_not_matter(client: TestClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}

    response = client.post("/ingest", content=b'{"ids":[1],"priority":"LOW"}', headers=headers)

    assert response.status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_body_over_the_limit_is_a_413(client: TestClient, declared: bool) -> None:
    chunks = [b" " * 10_000] * 11

    response = client.post("/ingest", content=b"".join(chunks) if declared else iter(chunks), headers=JSON)

    assert_problem(response, 413, "100000 bytes")


def test_body_of_exactly_the_limit_is_read(client: TestClient) -> None:
    body = json.dumps({"ids": [1], "priority": "LOW"}).encode()

    response = client.post("/ingest", content=body + b" " * (100_000 - len(body)), headers=JSON)

    assert response.status_code == 200


@pytest.mark.parametrize(
    "ingestion_id",
    [
        "00000000-0000-4000-8000-000000000000",
        "1",
        "x" * 3000,
        "%00",
        "00000000000040008000000000000000",
        "{00000000-0000-4000-8000-000000000000}",
        "urn:uuid:00000000-0000-4000-8000-000000000000",
    ],
)
def test_unknown_or_ill_formed_id_is_a_404(client: TestClient, ingestion_id: str) -> None:
    assert_problem(client.get(f"/status/{ingestion_id}"), 404, "No ingestion")


def test_many_errors_are_counted_and_not_listed(client: TestClient) -> None:
    body = json.dumps({"x" * 50 + str(number): 0 for number in range(1000)}).encode()

    problem = assert_problem(client.post("/ingest", content=body, headers=JSON), 422, "1002 errors")

    assert "errors" not in problem


def test_long_name_of_a_field_is_cut(client: TestClient) -> None:
    body = {"ids": [1], "priority": "LOW", "x" * 50_000: 1}

    response = client.post("/ingest", json=body)

    assert_problem(response, 422, "x" * 100 + "…: Extra inputs")
    assert len(response.content) < 1000


def test_path_with_a_slash_too_many_is_a_404_and_no_redirect(client: TestClient) -> None:
    assert_problem(client.post("/ingest/", json={}, follow_redirects=False), 404, "/docs")


def test_ids_are_found_in_capitals_too(client: TestClient) -> None:
    ingestion_id = submit(client, [1])

    assert client.get(f"/status/{ingestion_id.upper()}").json()["ingestion_id"] == ingestion_id


def test_unknown_path_is_a_404_that_points_to_the_docs(client: TestClient) -> None:
    assert_problem(client.get("/nothing"), 404, "/docs")


def test_status_tells_the_whole_contract(client: TestClient) -> None:
    running = submit(client, [1, 2, 3, 4], "LOW")
    waiting = submit(client, [5, 6, 7, 8, 9], "LOW")

    first = client.get(f"/status/{running}").json()
    second = client.get(f"/status/{waiting}").json()

    assert first["status"] == "triggered"
    assert [batch["status"] for batch in first["batches"]] == ["triggered", "yet_to_start"]
    assert first["position"] == 0
    assert second == {
        "ingestion_id": waiting,
        "lane": "default",
        "status": "yet_to_start",
        "priority": "LOW",
        "created_time": utc(0),
        "finished_time": None,
        "progress": {
            "total_ids": 5,
            "total_batches": 2,
            "yet_to_start": 2,
            "triggered": 0,
            "completed": 0,
            "failed": 0,
            "cancelled": 0,
        },
        "position": 1,
        "expected_start": utc(10),
        "expected_completion": utc(15),
        "batches": [
            {"batch_id": second["batches"][0]["batch_id"], "ids": [5, 6, 7], "status": "yet_to_start"},
            {"batch_id": second["batches"][1]["batch_id"], "ids": [8, 9], "status": "yet_to_start"},
        ],
    }
    assert all(UUID(batch["batch_id"]) for batch in second["batches"])


def test_failed_batch_says_why_and_a_done_ingestion_has_no_forecast(client: TestClient) -> None:
    ingestion_id = submit(client, [666])

    body = client.get(f"/status/{ingestion_id}").json()

    assert body["status"] == "completed"
    assert body["batches"][0]["status"] == "failed"
    assert body["batches"][0]["failed"] == [{"id": 666, "error": "ID 666: answered 500", "attempts": 1}]
    assert body["progress"]["failed"] == 1
    assert body["finished_time"] == utc(0)
    assert (body["position"], body["expected_start"], body["expected_completion"]) == (None, None, None)


def test_more_than_a_thousand_batches_are_paged_by_link(client: TestClient) -> None:
    ingestion_id = submit(client, list(range(1, 7001)))
    pages = []
    url: str | None = f"/status/{ingestion_id}"
    while url:
        response = client.get(url)
        pages.append(response.json())
        url = response.links["next"]["url"] if "next" in response.links else None

    assert [len(page["batches"]) for page in pages] == [1000, 1000, 334]
    assert [item for page in pages for batch in page["batches"] for item in batch["ids"]] == list(range(1, 7001))
    assert all(page["progress"] == pages[0]["progress"] for page in pages)
    assert pages[0]["progress"]["total_batches"] == 2334


def test_thousand_batches_fit_one_page_without_a_link(client: TestClient) -> None:
    response = client.get(f"/status/{submit(client, [1] * 3000)}")

    assert len(response.json()["batches"]) == 1000
    assert "link" not in response.headers


def test_page_is_what_offset_and_limit_say(client: TestClient) -> None:
    ingestion_id = submit(client, list(range(1, 31)))

    page = client.get(f"/status/{ingestion_id}?offset=2&limit=2")
    beyond = client.get(f"/status/{ingestion_id}?offset=99999999999999999999999")

    assert [batch["ids"] for batch in page.json()["batches"]] == [[7, 8, 9], [10, 11, 12]]
    assert page.headers["link"] == f'</status/{ingestion_id}?offset=4&limit=2>; rel="next"'
    assert beyond.json()["batches"] == []
    assert "link" not in beyond.headers


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "offset=-1", "offset=x", "limit=1.5"])
def test_offset_or_limit_out_of_range_is_a_422_that_names_it(client: TestClient, query: str) -> None:
    response = client.get(f"/status/{submit(client, [1])}?{query}")

    problem = assert_problem(response, 422, query.partition("=")[0])
    assert [error["field"] for error in problem["errors"]] == [query.partition("=")[0]]


def test_forecast_past_the_last_rfc3339_time_is_that_time() -> None:
    settings = Settings(batch_interval=1e9, shutdown_grace=0)
    with TestClient(create_app(settings, EndlessUpstream(), ManualClock())) as client:
        body = client.get(f"/status/{submit(client, [1] * 3000)}").json()

    assert body["expected_completion"] == "9999-12-31T23:59:59Z"


def test_bug_is_a_500_in_the_same_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(shutdown_grace=0), EndlessUpstream(), ManualClock())
    monkeypatch.setattr("sluice.api.describe.Description.status", lambda *_: 1 / 0)

    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get(f"/status/{submit(client, [1])}")

        assert_problem(response, 500, "log")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/ingest", {"POST"}),
        ("/status/1", {"GET"}),
        ("/results/1", {"GET"}),
        ("/ingestions", {"GET"}),
        ("/ingestions/1", {"DELETE", "PATCH"}),
        ("/ingestions/1/retry", {"POST"}),
        ("/queue", {"GET"}),
        ("/queue/pause", {"POST"}),
        ("/queue/resume", {"POST"}),
    ],
)
def test_wrong_method_is_a_405_that_lists_every_right_one(client: TestClient, path: str, allowed: set[str]) -> None:
    response = client.put(path)

    assert_problem(response, 405, "PUT")
    assert set(response.headers["allow"].split(", ")) == allowed
