"""Several lanes: an idempotency key is used once in all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.settings import Settings
from tests.api import (
    BACKENDS,
    DURABLE,
    PATIENCE,
    Answer,
    BlockedJournal,
    FailingJournal,
    Service,
    assert_problem,
    divert,
    serving,
)
from tests.lanes import Both, lanes_settings, serving_both

TTL = 100.0
OTHER_BODY = "Idempotency-Key was used with other IDs, another priority or another lane"


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return lanes_settings(request.param, tmp_path, idempotency_ttl=TTL)


@pytest.fixture
def both(settings: Settings) -> Iterator[Both]:
    with serving_both(settings) as both:
        yield both


def submit(service: Service, lane: str | None, ids: tuple[int, ...] = (2,)) -> Answer:
    """Submit with the one key that there is here."""
    body = {"ids": ids, "priority": "LOW"} | ({"lane": lane} if lane else {})
    return service.client.post("/ingest", json=body, headers={"Idempotency-Key": "k"})


def assert_accepted(response: Answer) -> str:
    assert response.status_code == 200
    assert "idempotency-replayed" not in response.headers
    return str(response.json()["ingestion_id"])


def assert_replayed(response: Answer, ingestion_id: str) -> None:
    assert response.status_code == 200
    assert response.headers["idempotency-replayed"] == "true"
    assert response.json() == {"ingestion_id": ingestion_id}
    assert response.headers["location"] == f"/status/{ingestion_id}"


@pytest.mark.parametrize("lane", ["default", "maps"])
def test_submission_to_any_lane_is_replayed(both: Both, lane: str) -> None:
    service = both.service
    first = assert_accepted(submit(service, lane))

    assert_replayed(submit(service, lane), first)

    assert [each["ingestion_id"] for each in service.get("/ingestions")["ingestions"]] == [first]


@pytest.mark.parametrize(("first", "second"), [(None, "default"), ("default", None)])
def test_to_name_the_default_lane_makes_no_other_body(both: Both, first: str | None, second: str | None) -> None:
    ingestion_id = assert_accepted(submit(both.service, first))

    assert_replayed(submit(both.service, second), ingestion_id)


@pytest.mark.parametrize(
    ("first", "second"), [(None, "maps"), ("default", "maps"), ("maps", "default"), ("maps", None)]
)
def test_same_key_with_another_lane_is_a_422(both: Both, first: str | None, second: str | None) -> None:
    service = both.service
    ingestion_id = assert_accepted(submit(service, first))

    assert_problem(submit(service, second), 422, OTHER_BODY)

    assert_replayed(submit(service, first), ingestion_id)
    assert len(service.get("/ingestions")["ingestions"]) == 1


def test_name_of_a_lane_is_not_taken_for_an_id(tmp_path: Path) -> None:
    settings = lanes_settings("memory", tmp_path)
    (tmp_path / "lanes.toml").write_text("[[lanes]]\nname = 'map1'")
    bytes_of_the_name = int.from_bytes(b"map1", "little")

    with serving(settings) as service:
        ingestion_id = assert_accepted(submit(service, None, (2, bytes_of_the_name)))

        assert_problem(submit(service, "map1"), 422, OTHER_BODY)
        assert_replayed(submit(service, None, (2, bytes_of_the_name)), ingestion_id)


def test_key_whose_submission_is_being_accepted_in_another_lane_is_a_409(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = both.service
    maps = service.lanes["maps"].journal
    journal = BlockedJournal(maps.append)
    divert(maps, journal, monkeypatch)

    first = service.aside(lambda: submit(service, "maps"))
    try:
        assert journal.is_reached.wait(PATIENCE)
        second = submit(service, "default")
    finally:
        service.call(journal.opened.set)
    ingestion_id = assert_accepted(first.result(PATIENCE))

    assert_problem(second, 409, "being accepted right now")
    assert_replayed(submit(service, "maps"), ingestion_id)


def test_key_of_a_submission_that_one_lane_refused_is_free_for_another(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = both.service
    maps = service.lanes["maps"].journal
    divert(maps, FailingJournal(maps.append), monkeypatch)

    assert_problem(submit(service, "maps"), 503, "Nothing can be recorded now")

    ingestion_id = assert_accepted(submit(service, "default"))
    assert_replayed(submit(service, "default"), ingestion_id)


@pytest.mark.parametrize(("first", "second"), [("default", "maps"), ("maps", "default")])
def test_key_is_free_for_another_lane_after_its_ttl_and_is_then_that_lanes(both: Both, first: str, second: str) -> None:
    service = both.service
    old = assert_accepted(submit(service, first))
    service.advance(TTL - 1)
    assert_problem(submit(service, second), 422, OTHER_BODY)
    service.advance(1)

    new = assert_accepted(submit(service, second))

    assert new != old
    assert_replayed(submit(service, second), new)
    assert_problem(submit(service, first), 422, OTHER_BODY)


def test_key_that_moved_to_another_lane_is_kept_for_as_long_as_any_other(both: Both) -> None:
    service = both.service
    submit(service, "default")
    service.advance(TTL)
    new = assert_accepted(submit(service, "maps"))

    service.advance(TTL - 1)  # the old use is forgotten meanwhile
    service.until(lambda: "k" not in service.lane.keys)

    assert_replayed(submit(service, "maps"), new)


@pytest.mark.parametrize("backend", DURABLE)
@pytest.mark.parametrize(("first", "second"), [("default", "maps"), ("maps", "default")])
def test_keys_of_every_lane_survive_a_restart(backend: str, tmp_path: Path, first: str, second: str) -> None:
    settings = lanes_settings(backend, tmp_path, idempotency_ttl=TTL)
    with serving_both(settings) as both:
        ingestion_id = assert_accepted(submit(both.service, first))

    with serving_both(settings, TTL - 1) as both:
        assert_replayed(submit(both.service, first), ingestion_id)
        assert_problem(submit(both.service, second), 422, OTHER_BODY)


@pytest.mark.parametrize("backend", DURABLE)
@pytest.mark.parametrize(("first", "second"), [("default", "maps"), ("maps", "default")])
def test_key_used_anew_in_another_lane_is_the_one_that_a_restart_remembers(
    backend: str, tmp_path: Path, first: str, second: str
) -> None:
    settings = lanes_settings(backend, tmp_path, idempotency_ttl=TTL)
    with serving_both(settings) as both:
        submit(both.service, first)
        both.service.advance(TTL)
        ingestion_id = assert_accepted(submit(both.service, second))

    with serving_both(settings, TTL + 1) as both:
        assert_replayed(submit(both.service, second), ingestion_id)
