"""Whatever is done to a lane, by whichever process: who follows it and who starts from what is saved agree."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.postgres_process import state
from tests.postgres_steps import STEPS, Fleet


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=20, max_size=60),
    seed=st.integers(0, 2**32),
    aging=st.none() | st.sampled_from([1.0, 20.0]),
    fills_slots=st.booleans(),
)
def test_every_process_has_the_same_state_as_one_that_starts_from_what_is_saved(
    steps: list[str], seed: int, aging: float | None, fills_slots: bool
) -> None:
    async def scenario() -> None:
        fleet = Fleet(seed, aging, fills_slots)
        one, other = fleet.processes
        async with one.running(), other.running():
            await one.journal.take()
            for step in steps:
                await fleet.step(step)
            await one.journal.catch_up()
            await other.journal.catch_up()

            late = fleet.process(3.0, one.machine.passed)
            assert state(one) == state(other)
            assert state(late) == state(one)

    asyncio.run(scenario())
