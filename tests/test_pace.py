import pytest

from sluice.pace import Pace


def test_first_start_is_allowed_at_once() -> None:
    assert Pace(5.0).ready_at < 0


def test_late_start_moves_the_next_one_by_as_much() -> None:
    pace = Pace(5.0)

    pace.started(100.25)

    assert pace.ready_at == 105.25


def test_expected_duration_is_the_hint_until_a_batch_was_seen() -> None:
    pace = Pace(5.0, seconds_per_id=1.0)
    assert pace.expected_duration(3) == 3.0

    pace.started(10.0)
    pace.finished(3, 12.0)

    assert pace.expected_duration(3) == 2.0
    assert pace.expected_duration(2) == 2.0  # other lengths are still only thought of


def test_expected_duration_follows_slowly_so_that_one_hang_says_little() -> None:
    pace = Pace(5.0)
    pace.started(10.0)
    pace.finished(3, 11.0)

    pace.started(20.0)
    pace.finished(3, 29.0)

    assert pace.expected_duration(3) == pytest.approx(2.0)


def test_slots_are_an_interval_apart_unless_batches_overrun() -> None:
    pace = Pace(5.0, seconds_per_id=1.0)

    assert pace.spacing(3) == 5.0
    assert pace.spacing(6) == 6.0
