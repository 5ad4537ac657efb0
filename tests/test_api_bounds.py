"""What is let in: no faster than a key may submit, no more than has room; and what those are told who are not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.keys import Role, make_key
from sluice.settings import Settings
from tests.api import BACKENDS, ManualClock, Service, assert_problem, serving, settings_for

SECRET, ENTRY = make_key("alice", Role.SUBMIT)
OTHER_SECRET, OTHER_ENTRY = make_key("bob", Role.SUBMIT)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Return a clock that the counting of submissions goes by as well."""
    clock = ManualClock()
    monkeypatch.setattr("throttled.utils.now_mono_f", clock.now)
    return clock


def submit(service: Service, *ids: int, priority: str = "MEDIUM", **headers: str) -> Any:
    body = {"ids": ids or [1], "priority": priority}
    return service.client.post("/ingest", json=body, headers=headers)


# The rate


def test_key_that_submits_too_fast_is_told_when_to_go_on(frozen: ManualClock) -> None:
    with serving(Settings(submit_rate=3, shutdown_grace=0), clock=frozen) as service:
        answers = [submit(service) for _ in range(4)]

        assert [each.status_code for each in answers] == [200, 200, 200, 429]
        assert [each.headers["ratelimit"] for each in answers] == [
            '"submissions";r=2;t=1',
            '"submissions";r=1;t=1',
            '"submissions";r=0;t=1',
            '"submissions";r=0;t=1',
        ]
        assert {each.headers["ratelimit-policy"] for each in answers} == {'"submissions";q=3;w=1'}
        assert_problem(answers[-1], 429, "More than 3 submissions a second")
        assert answers[-1].headers["retry-after"] == "1"
        service.advance(0.4)
        assert [submit(service).status_code for _ in range(2)] == [200, 429]


def test_every_key_has_a_rate_of_its_own(frozen: ManualClock) -> None:
    settings = Settings(submit_rate=1, api_keys=f"{ENTRY} {OTHER_ENTRY}", shutdown_grace=0)
    with serving(settings, clock=frozen) as service:
        keys = [{"X-API-Key": SECRET}, {"X-API-Key": SECRET}, {"X-API-Key": OTHER_SECRET}]

        assert [submit(service, **key).status_code for key in keys] == [200, 429, 200]


def test_bad_submissions_count_and_strangers_do_not(frozen: ManualClock) -> None:
    with serving(Settings(submit_rate=1, api_keys=ENTRY, shutdown_grace=0), clock=frozen) as service:
        assert submit(service).status_code == 401
        assert submit(service, 0, **{"X-API-Key": SECRET}).status_code == 422
        assert submit(service, **{"X-API-Key": SECRET}).status_code == 429


# The room


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_for(request.param, tmp_path, max_waiting=3, max_backlog_ids=20)


@pytest.fixture
def full(settings: Settings) -> Iterator[Service]:
    """Yield a service with a running batch, and three ingestions of 9, 3 and 3 IDs that wait."""
    with serving(settings) as service:
        service.until_completed(service.submit([99]))
        for ids in (range(1, 10), range(3), range(3)):
            service.submit([item + 1 for item in ids])
        yield service


def test_ingestion_with_no_room_is_told_when_there_will_be_some(full: Service) -> None:
    response = submit(full)

    # The first that waits has three batches, 5, 10 and 15 s from the start.
    assert_problem(response, 503, "There is no room now: 3 ingestions wait in the lane default; there will be room in")
    seconds = int(response.headers["retry-after"])
    assert seconds == 15
    for _ in range(seconds // 5):
        full.advance(5.0)
    full.until(lambda: submit(full).status_code == 200)


def test_what_waits_is_lost_by_no_refusal(full: Service) -> None:
    listed = full.get("/ingestions")

    submit(full)

    assert full.get("/ingestions") == listed


def test_higher_priority_makes_no_room(full: Service) -> None:
    assert submit(full, priority="HIGH").status_code == 503


def test_cancelling_makes_room(full: Service) -> None:
    newest = full.get("/ingestions")["ingestions"][0]["ingestion_id"]
    full.client.delete(f"/ingestions/{newest}")

    assert submit(full).status_code == 200


def test_ids_have_room_or_are_told_when(tmp_path: Path) -> None:
    with serving(settings_for("memory", tmp_path, max_backlog_ids=10)) as service:
        service.until_completed(service.submit([99]))
        service.submit(range(1, 9))

        assert submit(service, 1, 2).status_code == 200
        response = submit(service, *range(1, 6))

        # Five IDs have to go: two batches, in the next two slots.
        assert_problem(response, 503, "10 IDs wait in the lane default; there will be room in 10 s")
        assert response.headers["retry-after"] == "10"
        service.advance(5.0)
        service.advance(5.0)
        assert submit(service, *range(1, 6)).status_code == 200


def test_more_ids_than_may_ever_wait_are_refused_for_good(tmp_path: Path) -> None:
    with serving(settings_for("memory", tmp_path, max_backlog_ids=10)) as service:
        assert_problem(submit(service, *range(1, 12)), 422, "at most 10 items")


def test_nobody_knows_when_a_paused_lane_has_room(full: Service) -> None:
    full.client.post("/queue/pause")

    response = submit(full)

    assert_problem(response, 503, "3 ingestions wait in the lane default, as many as may; it is paused")
    assert "retry-after" not in response.headers


def test_answer_to_a_repeated_submission_needs_no_room(full: Service) -> None:
    newest = full.get("/ingestions")["ingestions"][0]["ingestion_id"]
    full.client.delete(f"/ingestions/{newest}")
    first = submit(full, 5, **{"Idempotency-Key": "k"})

    again = submit(full, 5, **{"Idempotency-Key": "k"})

    assert submit(full, 5, **{"Idempotency-Key": "other"}).status_code == 503
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"


def test_room_is_counted_anew_after_a_restart(settings: Settings) -> None:
    if settings.database_url is None:
        pytest.skip("nothing outlives the process")
    with serving(settings) as service:
        service.client.post("/queue/pause")
        for _ in range(3):
            service.submit([1])

    with serving(settings) as service:
        assert submit(service).status_code == 503
        assert service.lane.waiting_ids == 3
