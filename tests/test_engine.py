"""LaneQueries: whose a lane is, and who may renew it; PoolDriver: while the database is away."""

import asyncio

import pytest

from sluice import engine
from sluice.journal import JournalError
from tests.engine import LEASE, execute, grow_old, only_job, take_over, workers
from tests.shared_database import fresh_database
from tests.sqlite import Run

ONE = ["default"]


@pytest.fixture
def url() -> str:
    return fresh_database()


# Whose a lane is


def test_lane_is_given_to_one_who_asks_and_to_nobody_else(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            job = await one.take()

            assert await other.ask() == []
            assert (str(job.entrypoint), one.lease(job).is_held(), other.queries.leases) == ("default", True, {})
            assert str(only_job(url)["queue_manager_id"]) == one.queries.manager_id

    run(scenario())


def test_lane_has_one_job_whoever_asks_and_a_new_one_if_that_is_gone(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ENQUEUE", 0.0)

    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            await one.take()
            assert await other.ask() == []
            before = only_job(url)
            execute(url, "DELETE FROM pgqueuer")

            await other.take()

            assert before["status"] == only_job(url)["status"] == "picked"

    run(scenario())


@pytest.mark.parametrize(("age", "is_taken_over"), [(LEASE - 10, False), (LEASE + 10, True)])
def test_lane_without_a_sign_of_life_is_another_ones_when_the_lease_has_run_out(
    url: str, run: Run, age: float, is_taken_over: bool
) -> None:
    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            await one.take()
            grow_old(url, "pgqueuer", age)

            assert bool(await other.ask()) == is_taken_over
            holder = other if is_taken_over else one
            assert str(only_job(url)["queue_manager_id"]) == holder.queries.manager_id

    run(scenario())


def test_lane_that_is_taken_again_has_a_new_lease_and_the_lost_one_stays_lost(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            job = await one.take()
            lost = one.lease(job)
            lost.lose()
            await one.give_back(job)

            again = await one.take()

            assert again.id == job.id
            assert (lost.is_held(), one.lease(again).is_held()) == (False, True)

    run(scenario())


def test_lanes_are_let_go_before_the_engine_ends_by_an_error(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("a bug")

    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            monkeypatch.setattr(one.driver, "fetch", fail)

            with pytest.raises(ValueError, match="a bug"):
                await one.ask()

            assert one.shares[-1] == 0

    run(scenario())


# Heartbeats


def test_heartbeat_is_a_sign_of_life_and_renews_the_lease(url: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            job = await one.take()
            renewals: list[float] = []
            monkeypatch.setattr(one.lease(job), "renew", renewals.append)
            grow_old(url, "pgqueuer", LEASE + 10)

            await one.queries.update_heartbeat([job.id, job.id])

            assert await other.ask() == []
            assert len(renewals) == 1

    run(scenario())


def test_heartbeat_of_a_lane_that_another_holds_changes_nothing_and_ends_the_lease(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            lost, job = await take_over(url, one, other)
            before = only_job(url)

            await one.queries.update_heartbeat([lost.id])

            assert only_job(url) == before
            assert (one.lease(lost).is_held(), other.lease(job).is_held()) == (False, True)

    run(scenario())


def test_heartbeat_of_a_lane_that_was_given_back_takes_it_from_nobody(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            job = await one.take()
            await one.give_back(job)
            before = only_job(url)

            await one.queries.update_heartbeat([job.id])

            assert (only_job(url), one.queries.leases) == (before, {})

    run(scenario())


def test_heartbeat_that_comes_too_late_keeps_the_lane_from_nobody(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            job = await one.take()
            one.lease(job).lose()
            grow_old(url, "pgqueuer", LEASE + 10)

            await one.queries.update_heartbeat([job.id])

            assert (await other.take()).id == job.id

    run(scenario())


def test_heartbeat_while_the_database_is_away_fails_at_once_and_renews_nothing(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            job = await one.take()
            renewals: list[float] = []
            monkeypatch.setattr(one.lease(job), "renew", renewals.append)
            one.database.note_trouble("no route to host")

            with pytest.raises(JournalError):
                await one.queries.update_heartbeat([job.id])

            assert renewals == []
            assert one.lease(job).is_held()

    run(scenario())


# The way to the database


def test_engine_waits_for_a_database_that_is_away_however_long_it_is(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY", 0.01)

    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            one.database.note_trouble("no route to host")
            asking = asyncio.create_task(one.ask())
            await asyncio.sleep(0.1)
            before = asking.done()
            one.database.note_trouble(None)

            assert len(await asking) == 1
            assert not before

    run(scenario())


def test_process_that_stops_does_not_wait_for_a_database_that_is_away(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            one.database.note_trouble("no route to host")
            one.stopping.set()

            with pytest.raises(JournalError):
                await one.ask()

    run(scenario())
