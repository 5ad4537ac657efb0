"""The three end-to-end tests of the original contract, at the real default pace (about half a minute)."""

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from main import app

INTERVAL = 5.0
LATENESS = 1.0  # seconds that a busy machine may make a start late


class Start(NamedTuple):
    """A batch that started: after a look that found it waiting, before one that found it started."""

    after: float
    before: float
    ids: list[int]


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


def watch_starts(client: TestClient, ingestions: list[str], count: int) -> list[Start]:
    """Poll until `count` batches have started; return them in that order."""
    waiting: dict[str, float] = {}
    starts: dict[str, Start] = {}
    began = time.monotonic()
    while len(starts) < count and time.monotonic() < began + count * (INTERVAL + LATENESS):
        running = 0
        for ingestion_id in ingestions:
            asked = time.monotonic()
            for batch in status(client, ingestion_id)["batches"]:
                batch_id, is_waiting = batch["batch_id"], batch["status"] == "yet_to_start"
                running += batch["status"] == "triggered"
                if is_waiting:
                    waiting[batch_id] = asked
                elif batch_id not in starts:
                    starts[batch_id] = Start(waiting.get(batch_id, began), time.monotonic(), batch["ids"])
        assert running <= 1
        time.sleep(0.01)
    return sorted(starts.values())


def test_ingestion_and_status(client: TestClient) -> None:
    blocker = submit(client, [9], "HIGH")
    ingestion_id = submit(client, [1, 2, 3, 4, 5], "MEDIUM")

    before = status(client, ingestion_id)
    watch_starts(client, [blocker, ingestion_id], 2)
    during = status(client, ingestion_id)
    until = time.monotonic() + INTERVAL
    while (between := status(client, ingestion_id))["batches"] == during["batches"] and time.monotonic() < until:
        time.sleep(0.01)

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

    assert [start.ids for start in starts] == [[1, 2, 3], [6, 7, 8], [9]]
    assert [batch["status"] for batch in status(client, medium)["batches"]] == ["completed", "yet_to_start"]


def test_batch_rate_limit(client: TestClient) -> None:
    ingestion_id = submit(client, list(range(1, 10)), "LOW")

    starts = watch_starts(client, [ingestion_id], 3)

    assert len(starts) == 3
    for one, next_one in pairwise(starts):
        assert next_one.before - one.after >= INTERVAL
        assert next_one.after - one.before <= INTERVAL + LATENESS
