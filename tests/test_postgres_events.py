"""How events are written for processes of other machines, and read by them."""

import json
from array import array
from base64 import b64encode
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.events import (
    Accepted,
    Cancelled,
    Ended,
    Event,
    Expired,
    Finished,
    Held,
    Idempotency,
    Interrupted,
    KeysExpired,
    Outcome,
    Part,
    Paused,
    Reprioritised,
    Resumed,
    Revived,
    Started,
)
from sluice.journal import JournalError
from sluice.journal.postgres_events import ACCEPTED, TYPES, Row, decode, encode, shifted
from sluice.models import MAX_ID, Priority

JOB = "123e4567-e89b-42d3-a456-426614174000"
OFFSET = 512.0  # seconds, such that sums are exact
FAILED = Outcome(1, 2, error="answered 404")
WAITS = Outcome(2, 1, error='no "answer" ☕\n', retry_at=30.0)
EVENTS: list[Event] = [
    Started(JOB, (3, 4, 5), 10.0),
    Finished(JOB, (Outcome(0, 1), FAILED, WAITS), 11.0, 1_800_000_000.125),
    Interrupted(12.0),
    Held(40.0, "answered 429"),
    Paused(1_800_000_000.5, ""),
    Resumed(),
    Cancelled(JOB, (FAILED,), 1_800_000_001.0),
    Reprioritised(JOB, Priority.LOW),
    Revived(JOB),
    Expired(JOB),
    KeysExpired(1_800_000_002.0),
]


def read(kind: str, body: str, offset: float = 0.0) -> Event:
    return decode(Row(1, kind, body, None, None), offset)


def accepted_row(event: Accepted) -> Row:
    """Return a row as the database itself writes it."""
    key, digest = event.idempotency or (None, None)
    body = [
        event.ingestion_id,
        int(event.priority),
        event.created_time,
        event.batch_size,
        key,
        None if digest is None else b64encode(digest).decode(),
    ]
    return Row(7, ACCEPTED, json.dumps(body), event.seq, event.ids.tobytes())


def test_every_event_there_is_can_be_written_and_is_tried_here() -> None:
    assert {Accepted, *TYPES} == set(get_args(Event))
    assert tuple(map(type, EVENTS)) == TYPES


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_event_is_read_as_it_was_written(event: Event) -> None:
    assert read(*encode(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_body_is_one_line_of_json_and_the_kind_a_word(event: Event) -> None:
    kind, body = encode(event)

    assert kind == type(event).__name__.lower()
    assert isinstance(json.loads(body), list)
    assert "\n" not in body


def test_answers_are_not_written_but_all_else_of_an_end_is() -> None:
    finished = Finished(JOB, (Outcome(0, 1, data=b'"' + b"x" * 10_000 + b'"'), WAITS), 11.0, 12.0)

    kind, body = encode(finished)

    assert len(body) < 500
    assert read(kind, body) == Finished(JOB, (Outcome(0, 1), WAITS), 11.0, 12.0)


def test_when_a_call_was_sent_is_not_written_for_versions_before_do_not_know_it() -> None:
    finished = Finished(JOB, (Outcome(0, 1),), 11.0, 12.0)

    assert encode(finished._replace(sent=10.5)) == encode(finished)


@pytest.mark.parametrize(
    ("event", "moved"),
    [
        (EVENTS[0], Started(JOB, (3, 4, 5), 10.0 + OFFSET)),
        (
            EVENTS[1],
            Finished(
                JOB,
                (Outcome(0, 1), FAILED, WAITS._replace(retry_at=30.0 + OFFSET)),
                11.0 + OFFSET,
                1_800_000_000.125,
            ),
        ),
        (
            Finished(JOB, (), 11.0, 1_800_000_000.125, sent=10.5),
            Finished(JOB, (), 11.0 + OFFSET, 1_800_000_000.125, sent=10.5 + OFFSET),
        ),
        (EVENTS[2], Interrupted(12.0 + OFFSET)),
        (EVENTS[3], Held(40.0 + OFFSET, "answered 429")),
        *((event, event) for event in EVENTS[4:]),
    ],
    ids=lambda event: type(event).__name__,
)
def test_monotonic_times_are_moved_and_no_others(event: Event, moved: Event) -> None:
    assert shifted(event, OFFSET) == moved
    assert shifted(moved, -OFFSET) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_times_are_read_in_terms_of_the_readers_clock(event: Event) -> None:
    kind, body = encode(shifted(event, OFFSET))

    assert read(kind, body, OFFSET) == event
    assert read(kind, body, OFFSET / 2) == shifted(event, OFFSET / 2)


@pytest.mark.parametrize("idempotency", [None, Idempotency("key", b"\x00digest\xff")])
def test_accepted_ingestion_is_read_as_the_database_wrote_it_whatever_the_readers_clock(
    idempotency: Idempotency | None,
) -> None:
    event = Accepted(JOB, Priority.HIGH, 1_800_000_000.25, 42, 3, array("I", [1, MAX_ID]), idempotency)

    assert decode(accepted_row(event), OFFSET) == event


TEXT = st.text(max_size=20)
TIMES = st.floats(-1e10, 1e10)
JOBS = st.uuids(allow_nil=True).map(str)
COUNTS = st.integers(0, 2**31 - 1)
OUTCOMES = st.lists(st.builds(Outcome, COUNTS, COUNTS, st.none(), st.none() | TEXT, st.none() | TIMES), max_size=5).map(
    tuple
)
POSITIONS = st.lists(COUNTS, min_size=1, max_size=5).map(tuple)
ANY: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, JOBS, POSITIONS, TIMES, also=st.lists(st.builds(Part, JOBS, POSITIONS), max_size=2).map(tuple)),
    st.builds(
        Finished,
        *(JOBS, OUTCOMES, TIMES, TIMES),
        also=st.lists(st.builds(Ended, JOBS, OUTCOMES), max_size=2).map(tuple),
        sent=st.none(),
    ),
    st.builds(Interrupted, TIMES),
    st.builds(Held, TIMES, TEXT),
    st.builds(Paused, TIMES, TEXT),
    st.just(Resumed()),
    st.builds(Cancelled, JOBS, OUTCOMES, TIMES),
    st.builds(Reprioritised, JOBS, st.sampled_from(Priority)),
    st.builds(Revived, JOBS),
    st.builds(Expired, JOBS),
    st.builds(KeysExpired, TIMES),
)
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
ACCEPTANCES = st.builds(
    Accepted,
    JOBS,
    st.sampled_from(Priority),
    TIMES,
    COUNTS,
    st.integers(1, 1000),
    st.lists(st.integers(1, MAX_ID), min_size=1, max_size=20).map(lambda ids: array("I", ids)),
    st.none() | st.builds(Idempotency, KEYS, st.binary()),
)


@given(event=ANY, offset=TIMES)
def test_any_event_is_read_as_it_was_written_but_for_the_readers_clock(event: Event, offset: float) -> None:
    assert read(*encode(event)) == event
    assert read(*encode(event), offset) == shifted(event, -offset)


@given(event=ACCEPTANCES)
def test_any_accepted_ingestion_is_read_as_the_database_wrote_it(event: Accepted) -> None:
    assert decode(accepted_row(event), 0.0) == event


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("split", "[]"),
        ("Started", f'["{JOB}", [0], 1.0]'),
        ("", "[]"),
        ("started", "[]"),
        ("started", f'["{JOB}", [0], 1.0, "more"]'),
        ("started", f'["{JOB}", "0", 1.0]'),
        ("held", '{"until": "later"}'),
        ("reprioritised", f'["{JOB}", 9]'),
        ("paused", "no JSON"),
        ("accepted", "no JSON"),
        ("accepted", "[]"),
        ("accepted", f'["{JOB}", 0, 1.0, 3, null, null, "more"]'),
        ("accepted", f'["{JOB}", 9, 1.0, 3, null, null]'),
    ],
)
def test_what_only_a_newer_version_can_have_written_is_an_error_that_says_so(kind: str, body: str) -> None:
    with pytest.raises(JournalError, match=f"event '{kind}' that only a newer Sluice knows"):
        decode(Row(1, kind, body, 1, b"\x01\x00\x00\x00"), 0.0)
