"""What the fleet's oracle lets pass, and what it does not."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from tests.e2e.fleet_oracle import FleetCall, Record, Sighting, Sleep, problems
from tests.e2e.submissions import Acknowledged, Submission

LOW, HIGH = str(UUID(int=1)), str(UUID(int=2))
INTERVAL = 1.0

acknowledged_low = Acknowledged(0.0, LOW, Submission("low", (1, 2, 3, 4, 5), "LOW"))
acknowledged_high = Acknowledged(1.1, HIGH, Submission("high", (11, 12), "HIGH"))
FIRST, SECOND = acknowledged_low.call_keys[:3], acknowledged_low.call_keys[3:]
URGENT = acknowledged_high.call_keys


def calls(at: float, keys: Sequence[str], caller: str = "a", took: float = 0.1) -> list[FleetCall]:
    return [FleetCall(at + 0.001 * n, at + took, int(key.split("/")[1]), key, caller) for n, key in enumerate(keys)]


SOUND = Record(
    INTERVAL,
    [*calls(1.0, FIRST), *calls(2.0, URGENT), *calls(3.0, SECOND)],
    [acknowledged_low, acknowledged_high],
    [LOW, HIGH],
)


def with_calls(*groups: list[FleetCall]) -> Record:
    return replace(SOUND, calls=[call for group in groups for call in group])


def complaints(record: Record) -> list[str]:
    return [problem.splitlines()[0] for problem in problems(record)]


def test_order_and_pace_that_were_kept_pass() -> None:
    assert complaints(SOUND) == []
    assert [(start.at, start.keys) for start in SOUND.starts] == [(1.0, FIRST), (2.0, URGENT), (3.0, SECOND)]


def test_batch_in_flight_at_a_death_may_run_again() -> None:
    record = with_calls(
        calls(1.0, FIRST, took=2.0), calls(2.0, URGENT, "b"), calls(3.0, FIRST, "b"), calls(4.0, SECOND, "b")
    )

    assert complaints(replace(record, deaths={"a": 1.2})) == []


def test_ids_tried_again_may_come_from_several_batches() -> None:
    again = [FIRST[0], SECOND[0]]

    record = with_calls(calls(1.0, FIRST), calls(2.0, URGENT), calls(3.0, SECOND), calls(4.0, again))

    assert complaints(record) == []
    assert record.starts[-1].keys == again


def test_calls_of_a_batch_may_come_far_apart() -> None:
    record = with_calls(
        calls(1.0, FIRST[:2]), calls(1.3, FIRST[2:]), calls(2.5, URGENT), calls(3.5, SECOND), calls(4.5, FIRST[:1])
    )

    assert complaints(record) == []
    assert [start.keys for start in record.starts] == [FIRST, URGENT, SECOND, FIRST[:1]]


def test_start_that_is_early_is_found() -> None:
    record = with_calls(calls(1.0, FIRST), calls(1.7, URGENT), calls(3.0, SECOND))

    (complaint,) = complaints(record)

    assert complaint.startswith("0.7000 s after the last: a called")


def test_same_batch_from_two_processes_at_once_is_found() -> None:
    record = with_calls(calls(1.0, FIRST), calls(1.0005, FIRST, "b"), calls(2.0, URGENT), calls(3.0, SECOND))

    assert any("after the last: b called" in complaint for complaint in complaints(record))


def test_start_before_the_last_batch_has_ended_is_found() -> None:
    (complaint,) = complaints(with_calls(calls(1.0, FIRST, took=1.5), calls(2.0, URGENT), calls(3.0, SECOND)))

    assert complaint.startswith("0.5000 s before the last one's end: a called")


def test_start_that_overtakes_is_found() -> None:
    (complaint,) = complaints(with_calls(calls(1.0, FIRST), calls(2.0, SECOND), calls(3.0, URGENT)))

    assert complaint.startswith(f"ahead of ['{HIGH}']: a called")


def test_start_decided_before_the_acknowledgement_is_no_overtaking() -> None:
    record = with_calls(calls(1.0, FIRST), calls(2.0, SECOND), calls(3.0, URGENT))
    late = replace(record, acknowledged=[acknowledged_low, acknowledged_high._replace(at=1.9)])

    assert complaints(late) == []


@pytest.mark.parametrize(("seen_at", "is_wrong"), [(1.5, True), (3.5, False)])
def test_call_for_what_was_seen_done_is_found(seen_at: float, is_wrong: bool) -> None:
    record = with_calls(calls(1.0, FIRST), calls(2.0, URGENT), calls(3.0, FIRST), calls(4.0, SECOND))
    seen = replace(record, sightings=[Sighting(seen_at, frozenset(FIRST))])

    assert [complaint.startswith("done for 1.5") for complaint in complaints(seen)] == [True] * (3 * is_wrong)


def test_zombie_that_dispatches_is_found() -> None:
    record = with_calls(calls(1.0, FIRST), calls(2.0, URGENT, "b"), calls(3.0, SECOND, "a"))
    awake = replace(record, sleeps=[Sleep("a", 1.5, 2.5, 3.5, frozenset(FIRST))])

    assert [complaint.partition(":")[0] for complaint in complaints(awake)] == [
        "asleep for 1.0 s and relieved by b"
    ] * 2


def test_calls_of_a_batch_begun_before_the_sleep_are_no_starts() -> None:
    record = with_calls(
        calls(1.0, URGENT, "b"), calls(2.0, FIRST, "b"), calls(2.1, FIRST, "a"), calls(3.0, SECOND, "b")
    )
    sleep = Sleep("a", 0.5, 2.09, 3.5, frozenset(FIRST))

    assert complaints(replace(record, sleeps=[sleep])) == []
    assert complaints(record) != []


def test_batch_never_called_is_found() -> None:
    (complaint,) = complaints(with_calls(calls(1.0, FIRST), calls(2.0, URGENT)))

    assert complaint.startswith("never called")


def test_ingestion_accepted_twice_is_found() -> None:
    (complaint,) = complaints(replace(SOUND, order=[LOW, HIGH, str(UUID(int=3))]))

    assert complaint.startswith("accepted and acknowledged differ")


def test_problem_is_told_with_what_happened_around_it() -> None:
    record = with_calls(calls(1.0, FIRST), calls(1.5, URGENT), calls(3.0, SECOND))

    (problem,) = problems(replace(record, story=[(1.4, "*** kill -9 a")]))

    assert "-0.1000 s  *** kill -9 a\n" in problem
