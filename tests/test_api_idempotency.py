"""Submitting safely twice: what an Idempotency-Key promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import (
    BACKENDS,
    DURABLE,
    PATIENCE,
    Answer,
    BlockedJournal,
    FailingJournal,
    ManualClock,
    ScriptedUpstream,
    Service,
    assert_problem,
    divert,
    serving,
    settings_for,
)
from tests.journals import rows

TTL = 100.0
BODY = b'{"ids": [1, 2, 3], "priority": "LOW"}'


@pytest.fixture(params=BACKENDS)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    settings = settings_for(request.param, tmp_path, idempotency_ttl=TTL, retention=10.0)
    with serving(settings, ScriptedUpstream(hanging=[1])) as service:
        yield service


def submit(service: Service, key: str | bytes, body: bytes = BODY) -> Answer:
    name = key if isinstance(key, bytes) else key.encode()
    headers = [(b"Content-Type", b"application/json"), (b"Idempotency-Key", name)]
    return service.client.post("/ingest", content=body, headers=headers)


def assert_accepted(response: Answer) -> str:
    assert response.status_code == 200
    assert "idempotency-replayed" not in response.headers
    ingestion_id = str(response.json()["ingestion_id"])
    assert response.headers["location"] == f"/status/{ingestion_id}"
    return ingestion_id


def assert_replayed(response: Answer, ingestion_id: str) -> None:
    assert response.status_code == 200
    assert response.headers["idempotency-replayed"] == "true"
    assert response.json() == {"ingestion_id": ingestion_id}
    assert response.headers["location"] == f"/status/{ingestion_id}"


def test_same_key_and_body_get_the_same_id_and_nothing_is_accepted_twice(service: Service) -> None:
    first = assert_accepted(submit(service, "k"))

    assert_replayed(submit(service, "k"), first)
    assert_replayed(submit(service, "k"), first)

    assert [each["ingestion_id"] for each in service.get("/ingestions")["ingestions"]] == [first]


@pytest.mark.parametrize(
    "body",
    [
        b'{"ids":[1,2,3],"priority":"LOW"}',
        b'\n{ "priority":\t"LOW",\r\n "ids": [ 1,2 ,3 ] }  ',
        b'{"ids": [1, 2, 3], "\\u0070riority": "L\\u004fW"}',
    ],
)
def test_layout_of_the_json_makes_no_other_body(service: Service, body: bytes) -> None:
    first = assert_accepted(submit(service, "k"))

    assert_replayed(submit(service, "k", body), first)


@pytest.mark.parametrize(
    "body",
    [
        b'{"ids": [1, 2, 3], "priority": "HIGH"}',
        b'{"ids": [1, 2], "priority": "LOW"}',
        b'{"ids": [1, 3, 2], "priority": "LOW"}',
        b'{"ids": [1, 2, 3, 3], "priority": "LOW"}',
        b'{"ids": [123], "priority": "LOW"}',
    ],
)
def test_same_key_with_another_body_is_a_422(service: Service, body: bytes) -> None:
    first = assert_accepted(submit(service, "k"))

    assert_problem(
        submit(service, "k", body), 422, "Idempotency-Key was used with other IDs, another priority or another lane"
    )

    assert_replayed(submit(service, "k"), first)
    assert len(service.get("/ingestions")["ingestions"]) == 1


def test_refused_body_does_not_use_the_key_up(service: Service) -> None:
    assert_problem(submit(service, "k", b'{"ids": [], "priority": "LOW"}'), 422, "ids")

    assert_accepted(submit(service, "k"))


def test_other_keys_and_no_key_are_other_submissions(service: Service) -> None:
    ids = {
        assert_accepted(submit(service, "k")),
        assert_accepted(submit(service, "K")),
        service.submit([1, 2, 3], "LOW"),
    }

    assert len(ids) == 3


def test_key_whose_submission_is_being_accepted_is_a_409(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = BlockedJournal(service.lane.journal.append)
    divert(service.lane.journal, journal, monkeypatch)

    first = service.aside(lambda: submit(service, "k"))
    try:
        assert journal.is_reached.wait(PATIENCE)
        second = submit(service, "k")
        other_body = submit(service, "k", b'{"ids": [4], "priority": "LOW"}')
    finally:
        service.call(journal.opened.set)
    ingestion_id = assert_accepted(first.result(PATIENCE))

    assert_problem(second, 409, "being accepted right now")
    assert_problem(other_body, 409, "being accepted right now")
    assert_replayed(submit(service, "k"), ingestion_id)


@pytest.mark.parametrize(
    ("key", "same"),
    [
        ("abc", '"abc"'),
        ('"abc"', "abc"),
        ("  abc ", '"abc"'),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ("x" * 255, '"' + "x" * 255 + '"'),
        ("!~#", '"!~#"'),
    ],
)
def test_quotes_around_a_key_are_no_part_of_it(service: Service, key: str, same: str) -> None:
    first = assert_accepted(submit(service, key))

    assert_replayed(submit(service, same), first)


@pytest.mark.parametrize(
    "key",
    [
        "",
        '""',
        "   ",
        "x" * 256,
        '"' + "x" * 256 + '"',
        "a b",
        '"a b"',
        "a\tb",
        "clé".encode(),
        "\x7f",
        b"\xff",
        b"key\xa0",
    ],
)
def test_ill_formed_key_is_a_400_and_nothing_is_accepted(service: Service, key: str | bytes) -> None:
    assert_problem(submit(service, key), 400, "Idempotency-Key of 1 to 255 visible ASCII characters")

    assert service.get("/ingestions")["ingestions"] == []


def test_key_is_free_again_after_its_ttl_and_not_before(service: Service) -> None:
    first = assert_accepted(submit(service, "k"))

    service.advance(TTL - 1)
    assert_replayed(submit(service, "k"), first)
    service.advance(1)
    second = assert_accepted(submit(service, "k", b'{"ids": [4], "priority": "LOW"}'))

    assert second != first
    assert_replayed(submit(service, "k", b'{"ids": [4], "priority": "LOW"}'), second)


def test_ttl_counts_from_the_submission_and_replaying_does_not_prolong_it(service: Service) -> None:
    first = assert_accepted(submit(service, "k"))

    service.advance(TTL / 2)
    assert_replayed(submit(service, "k"), first)
    service.advance(TTL / 2)

    assert assert_accepted(submit(service, "k")) != first


def test_key_outlives_its_expired_ingestion(service: Service) -> None:
    first = assert_accepted(submit(service, "k", b'{"ids": [7], "priority": "LOW"}'))
    service.until_completed(first)

    service.advance(TTL / 2)
    service.until(lambda: not service.lane.ingestions)

    assert_replayed(submit(service, "k", b'{"ids": [7], "priority": "LOW"}'), first)


def test_refused_submission_leaves_the_key_free(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FailingJournal(service.lane.journal.append)
    divert(service.lane.journal, journal, monkeypatch)

    assert_problem(submit(service, "k"), 503, "Nothing can be recorded now")
    journal.is_broken = False

    accepted = assert_accepted(submit(service, "k", b'{"ids": [4], "priority": "LOW"}'))
    assert [each["ingestion_id"] for each in service.get("/ingestions")["ingestions"]] == [accepted]


@pytest.mark.parametrize("backend", DURABLE)
def test_keys_survive_a_restart_with_their_age(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, idempotency_ttl=TTL)
    with serving(settings) as service:
        first = assert_accepted(submit(service, "k"))
        service.advance(60)

    with serving(settings, clock=ManualClock(60)) as service:
        replayed = submit(service, '"k"')
        other = submit(service, "k", b'{"ids": [4], "priority": "LOW"}')
        service.advance(TTL - 60)
        later = submit(service, "k")

    assert_replayed(replayed, first)
    assert_problem(other, 422, "other IDs")
    assert assert_accepted(later) != first


@pytest.mark.parametrize("backend", DURABLE)
def test_key_used_anew_after_its_ttl_is_the_one_that_a_restart_remembers(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, idempotency_ttl=TTL)
    with serving(settings) as service:
        submit(service, "k")
        service.advance(TTL)
        second = assert_accepted(submit(service, "k"))

    with serving(settings, clock=ManualClock(TTL + 1)) as service:
        replayed = submit(service, "k")

    assert_replayed(replayed, second)


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_are_forgotten_after_their_ttl_and_the_younger_ones_stay(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, idempotency_ttl=TTL)
    with serving(settings) as service:
        for number in range(50):
            assert_accepted(submit(service, f"old-{number}"))
        service.advance(TTL - 10)
        young = assert_accepted(submit(service, "young"))

        service.advance(62)  # a minute, for so often it is looked at, after the last look
        service.until(lambda: list(service.lane.keys) == ["young"])
        service.advance(TTL - 63)

        assert_replayed(submit(service, "young"), young)
    if settings.database_url:
        assert rows(settings, "SELECT key FROM keys") == [("young",)]
