"""The three end-to-end tests of the original contract, at the real default pace (about half a minute)."""

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient

from main import app

INTERVAL = 5.0
TOLERANCE = 0.1  # how late the polling below may notice a start


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of a freshly started service; without the `with` no dispatcher would run."""
    with TestClient(app) as client:
        yield client


def submit(client: TestClient, ids: list[int], priority: str) -> str:
    response = client.post("/ingest", json={"ids": ids, "priority": priority})
    assert response.status_code == 200
    return str(response.json()["ingestion_id"])


def status(client: TestClient, ingestion_id: str) -> dict[str, Any]:
    response = client.get(f"/status/{ingestion_id}")
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def watch_starts(client: TestClient, ingestions: list[str], count: int) -> list[tuple[float, list[int]]]:
    """Poll until `count` batches have started; return when each was first seen started, and its IDs."""
    starts: dict[str, tuple[float, list[int]]] = {}
    deadline = time.monotonic() + count * (INTERVAL + 1)
    while len(starts) < count and time.monotonic() < deadline:
        running = 0
        for ingestion_id in ingestions:
            for batch in status(client, ingestion_id)["batches"]:
                running += batch["status"] == "triggered"
                if batch["status"] != "yet_to_start":
                    starts.setdefault(batch["batch_id"], (time.monotonic(), batch["ids"]))
        assert running <= 1
        time.sleep(0.01)
    return sorted(starts.values())


def test_ingestion_and_status(client: TestClient) -> None:
    blocker = submit(client, [9], "HIGH")
    ingestion_id = submit(client, [1, 2, 3, 4, 5], "MEDIUM")

    before = status(client, ingestion_id)
    watch_starts(client, [blocker, ingestion_id], 2)
    during = status(client, ingestion_id)
    time.sleep(3.2)
    between = status(client, ingestion_id)

    assert before["ingestion_id"] == ingestion_id
    assert before["status"] == "yet_to_start"
    assert [batch["ids"] for batch in before["batches"]] == [[1, 2, 3], [4, 5]]
    assert [batch["status"] for batch in before["batches"]] == ["yet_to_start", "yet_to_start"]
    assert len({batch["batch_id"] for batch in before["batches"]}) == 2
    assert during["status"] == "triggered"
    assert [batch["status"] for batch in during["batches"]] == ["triggered", "yet_to_start"]
    assert between["status"] == "triggered"
    assert [batch["status"] for batch in between["batches"]] == ["completed", "yet_to_start"]
    assert status(client, blocker)["status"] == "completed"
    assert client.get("/status/00000000-0000-4000-8000-000000000000").status_code == 404
    assert client.post("/ingest", json={"ids": ["1"], "priority": "MEDIUM"}).status_code == 422


def test_batch_priority_order(client: TestClient) -> None:
    medium = submit(client, [1, 2, 3, 4, 5], "MEDIUM")
    watch_starts(client, [medium], 1)
    high = submit(client, [6, 7, 8, 9], "HIGH")

    starts = watch_starts(client, [medium, high], 3)

    assert [ids for _, ids in starts] == [[1, 2, 3], [6, 7, 8], [9]]
    assert [batch["status"] for batch in status(client, medium)["batches"]] == ["completed", "yet_to_start"]


def test_batch_rate_limit(client: TestClient) -> None:
    ingestion_id = submit(client, list(range(1, 10)), "LOW")

    starts = [at for at, _ in watch_starts(client, [ingestion_id], 3)]

    gaps = [after - before for before, after in pairwise(starts)]
    assert len(gaps) == 2
    assert all(INTERVAL - TOLERANCE <= gap <= INTERVAL + 5 * TOLERANCE for gap in gaps)
