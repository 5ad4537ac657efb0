"""LaneQueries: how many lanes a process runs, of those that others stand by for as well."""

import pytest

from tests.engine import LEASE, Worker, grow_old, workers
from tests.shared_database import fresh_database
from tests.sqlite import Run

ALL = ["a", "b", "c"]


@pytest.fixture
def url() -> str:
    return fresh_database()


@pytest.mark.parametrize(
    ("lanes", "shares"),
    [(1, [1]), (3, [3]), (1, [1, 0, 0]), (3, [2, 1]), (4, [2, 2]), (7, [3, 3, 1])],
)
def test_lanes_are_shared_out_over_those_who_stand_by(url: str, run: Run, lanes: int, shares: list[int]) -> None:
    async def scenario() -> None:
        names = [f"lane-{number}" for number in range(lanes)]
        async with workers(url, *[names] * len(shares)) as standing_by:
            taken = [await worker.take_all() for worker in standing_by]

            assert [len(jobs) for jobs in taken] == shares
            assert len({job.id for jobs in taken for job in jobs}) == lanes
            most = -(-lanes // len(shares))
            assert all(worker.shares[-1] == most for worker in standing_by)

    run(scenario())


@pytest.mark.parametrize(
    ("lanes", "shares"),
    [
        ([["a"], ["b"]], [1, 1]),
        ([["a", "b"], ["b", "c"]], [2, 2]),
        ([["a"], ALL], [1, 3]),
        ([ALL, ["a"], ["a"], ["b"]], [2, 1, 1, 1]),
        ([["a", "b", "c", "d"], ALL, ALL], [2, 1, 1]),
    ],
)
def test_each_lane_is_shared_by_those_who_can_run_it(
    url: str, run: Run, lanes: list[list[str]], shares: list[int]
) -> None:
    async def scenario() -> None:
        async with workers(url, *lanes) as standing_by:
            for worker in standing_by:
                await worker.stand_by()

            assert [worker.shares[-1] for worker in standing_by] == shares

    run(scenario())


def test_process_is_given_only_lanes_that_it_can_run(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ALL, ["b"]) as (one, other):
            assert [str(job.entrypoint) for job in await other.take_all()] == ["b"]
            assert sorted(str(job.entrypoint) for job in await one.take_all()) == ["a", "c"]

    run(scenario())


def test_who_has_more_than_its_share_is_told_and_gets_nothing_when_another_comes(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ALL) as (one,):
            assert len(await one.take_all()) == len(ALL)
            before = one.shares[-1]
            other = Worker(url, ALL)
            async with other.database.running(lambda: None):
                await other.stand_by()

                assert await one.ask() == []
                assert (before, one.shares[-1]) == (3, 2)

                await one.give_back(one.jobs[-1])
                assert len(await other.take_all()) == 1
                assert await one.ask() == []

    run(scenario())


@pytest.mark.parametrize("is_told", [True, False])
def test_share_of_who_left_or_was_not_seen_for_a_lease_is_the_others(url: str, run: Run, is_told: bool) -> None:
    async def scenario() -> None:
        async with workers(url, ["a", "b"], ["a", "b"]) as (one, other):
            assert len(await one.take_all()) == 1

            if is_told:
                await other.queries.leave()
            else:
                grow_old(url, "workers", LEASE + 10)

            assert len(await one.take_all()) == 1

    run(scenario())
