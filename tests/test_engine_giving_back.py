"""LaneQueries: when a lane is given back, whose turn with it that ends, and who may have it next."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from pgqueuer.domain.models import AnyEvent, TableChangedEvent

from sluice import engine
from sluice.journal.postgres_schema import ENGINE
from tests.engine import LEASE, grow_old, only_job, take_over, workers
from tests.shared_database import fresh_database
from tests.sqlite import Run

ONE = ["default"]


@pytest.fixture
def url() -> str:
    return fresh_database()


@pytest.mark.parametrize("seconds", [0.0, LEASE])
def test_lane_that_is_given_back_can_be_taken_at_once_or_after_the_delay(url: str, run: Run, seconds: float) -> None:
    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            await one.give_back(await one.take(), timedelta(seconds=seconds))

            assert bool(await other.ask()) == (seconds == 0)
            assert (only_job(url)["queue_manager_id"] is None) == (seconds > 0)

    run(scenario())


def test_giving_back_a_lane_that_another_holds_changes_nothing(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            lost, _ = await take_over(url, one, other)
            before = only_job(url)

            await one.give_back(lost)

            assert only_job(url) == before

    run(scenario())


@pytest.mark.parametrize("status", ["successful", "exception", "canceled"])
def test_turn_that_ended_without_giving_the_lane_back_leaves_the_job(url: str, run: Run, status: Any) -> None:
    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            job = await one.take()
            before = only_job(url)

            await one.queries.log_jobs([(job, status, None)])

            assert only_job(url) == before

    run(scenario())


def test_giving_back_is_told_to_those_who_wait_and_giving_back_what_is_anothers_is_not(url: str, run: Run) -> None:
    async def scenario() -> list[str]:
        async with workers(url, ONE, ONE) as (one, other), await psycopg.AsyncConnection.connect(url) as ear:
            lost, job = await take_over(url, one, other)
            await ear.set_autocommit(True)
            await ear.execute(f"LISTEN {ENGINE.channel}".encode())

            await one.give_back(lost)
            await one.driver.notify(ENGINE.channel, "nothing so far")
            await other.give_back(job)

            return [each.payload async for each in ear.notifies(timeout=10.0, stop_after=2)]

    nothing, told = run(scenario())

    assert nothing == "nothing so far"
    event = AnyEvent.model_validate_json(told).root
    assert isinstance(event, TableChangedEvent)
    assert (event.operation, event.table, event.channel) == ("update", ENGINE.queue_table, ENGINE.channel)


def test_giving_back_an_earlier_turn_leaves_the_one_that_followed_it(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            earlier = await one.take()
            await one.give_back(earlier)
            await one.take()
            before = only_job(url)

            await one.queries.retry_job(earlier, timedelta(0), None)

            assert only_job(url) == before

    run(scenario())


def test_lane_whose_lease_ran_out_is_given_back_before_it_is_taken_again(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY", 2.0)  # longer than it takes to ask

    async def scenario() -> None:
        async with workers(url, ONE, ONE) as (one, other):
            job = await one.take()
            one.lease(job).lose()
            one.database.note_trouble("no route to host")
            giving_back = asyncio.create_task(one.give_back(job))
            await asyncio.sleep(0)
            one.database.note_trouble(None)
            grow_old(url, "pgqueuer", LEASE + 10)

            taken = await one.ask()  # before the giving back finds that the database is there again
            await giving_back

            assert (taken, only_job(url)["status"], len(await other.ask())) == ([], "queued", 1)

    run(scenario())


def test_lane_whose_turn_ended_without_giving_it_back_can_be_taken_again(url: str, run: Run) -> None:
    async def scenario() -> None:
        async with workers(url, ONE) as (one,):
            job = await one.take()
            one.jobs.clear()
            grow_old(url, "pgqueuer", LEASE + 10)
            before = await one.ask()

            await one.queries.log_jobs([(job, "exception", None)])

            assert (before, [each.id for each in await one.ask()]) == ([], [job.id])

    run(scenario())
