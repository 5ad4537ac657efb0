"""SharedClock: what it believes of a database's clock, exchange by exchange."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.clock import SharedClock
from tests.sqlite import SteppedClock
from tests.virtual import EPOCH, VirtualClock, VirtualLoop

BOOT = 1000.0  # what the machine's monotonic clock says at first
AHEAD = 90.0  # seconds that the database's clock is ahead of the machine's wall clock
DRIFT = SharedClock.DRIFT
FLOAT = 1e-6  # seconds, which is more than what Unix seconds are rounded to


@pytest.fixture
def machine() -> SteppedClock:
    return SteppedClock(BOOT)


@pytest.fixture
def shared(machine: SteppedClock) -> SharedClock:
    return SharedClock(machine)


def exchange(shared: SharedClock, sent: float, error: float, says: float) -> None:
    """Have an exchange of twice `error` seconds in the middle of which the database says a time."""
    shared.note(sent, says, sent + 2 * error)


def believed(shared: SharedClock, at: float) -> float:
    """Return what the clock believes the database's clock to say at a monotonic time, beyond the Epoch of tests."""
    return at + shared.offset - EPOCH


def test_before_any_exchange_the_time_is_the_machines_own(shared: SharedClock, machine: SteppedClock) -> None:
    assert shared.time() == machine.time()


def test_first_exchange_counts_however_long_it_took(shared: SharedClock) -> None:
    exchange(shared, BOOT, 30.0, EPOCH + AHEAD)

    assert believed(shared, BOOT + 30.0) == pytest.approx(AHEAD)


def test_time_is_taken_to_have_been_told_in_the_middle_of_the_exchange(shared: SharedClock) -> None:
    shared.note(BOOT, EPOCH + AHEAD, BOOT + 4.0)

    assert believed(shared, BOOT + 2.0) == pytest.approx(AHEAD)


def test_shorter_exchange_counts_and_a_longer_one_does_not(shared: SharedClock) -> None:
    exchange(shared, BOOT, 1.0, EPOCH)
    exchange(shared, BOOT + 10.0, 0.5, EPOCH + AHEAD)
    shorter = believed(shared, BOOT + 10.5)
    exchange(shared, BOOT + 20.0, 0.6, EPOCH)

    assert shorter == pytest.approx(AHEAD)
    assert believed(shared, BOOT + 10.5) == pytest.approx(AHEAD)


def test_of_two_that_took_as_long_the_later_counts(shared: SharedClock) -> None:
    exchange(shared, BOOT, 0.5, EPOCH)
    exchange(shared, BOOT + 10.0, 0.5, EPOCH + AHEAD)

    assert believed(shared, BOOT + 10.5) == pytest.approx(AHEAD)


@pytest.mark.parametrize(("error", "is_believed"), [(0.0109, True), (0.0111, False)])
def test_longer_exchange_counts_once_the_shorter_may_have_been_spoilt_as_much_by_drift(
    shared: SharedClock, error: float, is_believed: bool
) -> None:
    exchange(shared, BOOT, 0.001, EPOCH)
    noted = BOOT + 2 * 0.001

    sent = noted + 0.01 / DRIFT - 2 * error  # such that it is received as old as that
    exchange(shared, sent, error, EPOCH + AHEAD)

    assert (believed(shared, sent + error) == pytest.approx(AHEAD)) == is_believed


def test_what_ages_is_the_exchange_that_counts_and_not_the_last_one(shared: SharedClock) -> None:
    exchange(shared, BOOT, 0.001, EPOCH)
    for second in range(1, 100):
        exchange(shared, BOOT + second, 0.011, EPOCH + AHEAD)
    before = believed(shared, BOOT + 0.001)

    exchange(shared, BOOT + 101.0, 0.011, EPOCH + AHEAD)

    assert before == pytest.approx(0.0)
    assert believed(shared, BOOT + 101.011) == pytest.approx(AHEAD)


def test_time_passes_as_on_the_machine_and_follows_the_offset_at_once(
    shared: SharedClock, machine: SteppedClock
) -> None:
    exchange(shared, BOOT, 0.0, EPOCH)
    machine.at += 7.0
    passed = shared.time()

    exchange(shared, machine.at, 0.0, EPOCH + AHEAD)

    assert passed == EPOCH + 7.0
    assert shared.time() == EPOCH + AHEAD


def test_wall_clock_of_the_machine_is_not_looked_at_again(shared: SharedClock, machine: SteppedClock) -> None:
    exchange(shared, BOOT, 0.0, EPOCH)

    machine.wall -= 86_400.0

    assert shared.time() == EPOCH


def test_monotonic_clock_and_its_origin_are_the_machines(shared: SharedClock, machine: SteppedClock) -> None:
    exchange(shared, BOOT, 0.0, EPOCH + AHEAD)

    assert (shared.now(), shared.origin) == (machine.now(), machine.origin)


def test_sleeping_is_by_the_monotonic_clock_whatever_the_database_says(loop: VirtualLoop) -> None:
    shared = SharedClock(VirtualClock(loop))
    exchange(shared, 0.0, 0.0, EPOCH - 86_400.0)

    loop.run_until_complete(shared.sleep_until(3.0))

    assert loop.time() == pytest.approx(3.0)


@given(
    exchanges=st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=20),
    drift=st.floats(-DRIFT, DRIFT),
    rest=st.floats(0, 5000),
)
def test_it_is_never_further_off_than_any_exchange_and_its_age_allow(
    exchanges: list[tuple[float, float, float]], drift: float, rest: float
) -> None:
    """Each exchange comes some time after the one before, and takes some time to the database and some back."""
    shared = SharedClock(SteppedClock(0.0))
    now = 0.0
    bounds: list[tuple[float, float]] = []

    def database(at: float) -> float:
        return EPOCH + AHEAD + at * (1 + drift)

    for pause, there, back in exchanges:
        sent = now + pause
        now = sent + there + back
        shared.note(sent, database(sent + there), now)
        bounds.append((now, (there + back) / 2))
    now += rest

    off = abs(now + shared.offset - database(now))
    assert off <= min(error + (now - noted) * DRIFT for noted, error in bounds) * (1 + 2 * DRIFT) + FLOAT
