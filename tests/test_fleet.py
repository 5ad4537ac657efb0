"""Fleet: which lanes a process runs, which it lets go, and what becomes of one whose run ends otherwise."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from sluice.clock import SystemClock
from sluice.engine import LaneQueries
from sluice.fleet import POLL, Fleet
from sluice.journal.postgres_database import Database
from tests.postgres_process import until
from tests.shared_database import fresh_database
from tests.sqlite import Run

LEASE = 20.0  # seconds
LANES = ["a", "b", "c"]
LATER = "SELECT entrypoint FROM pgqueuer WHERE execute_after > now()"


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, options="-c search_path=sluice") as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


class Runner:
    """Runs lanes; each batch that runs when its lane is to be handed over takes until `ends` is set."""

    def __init__(self, url: str) -> None:
        self.releases: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.ends = asyncio.Event()
        self.broken: str | None = None
        self._url = url
        self._database = Database(url, SystemClock(), pool_size=3, timeout=5.0)
        self._fleet = Fleet(self._database, LANES, LEASE, self._run_lane)

    @property
    def released(self) -> list[str]:
        return [lane for lane, release in self.releases.items() if release.is_set()]

    @asynccontextmanager
    async def standing_by(self) -> AsyncIterator[None]:
        async with self._database.running(lambda: None), self._fleet.standing_by(grace=0.0):
            try:
                yield
            finally:
                self.ends.set()

    def lose(self, lane: str) -> None:
        """Have a lane's lease run out."""
        ((job_id,),) = query(self._url, f"SELECT id FROM pgqueuer WHERE entrypoint = '{lane}'")
        self._fleet._queries.leases[job_id].lose()

    async def _run_lane(self, lane: str, release: asyncio.Event, may_send: Callable[[], bool]) -> None:
        self.begun.append(lane)
        if lane == self.broken:
            raise ValueError("a bug")
        self.releases[lane] = release
        try:
            await release.wait()
            await self.ends.wait()
        finally:
            del self.releases[lane]


@pytest.fixture
def url() -> str:
    return fresh_database()


def test_process_alone_runs_every_lane(url: str, run: Run) -> None:
    async def scenario() -> None:
        one = Runner(url)
        async with one.standing_by():
            await until(lambda: len(one.releases) == len(LANES))

            assert one.released == []

    run(scenario())


def test_lanes_beyond_a_share_are_handed_over_and_the_others_stay(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Runner(url), Runner(url)
        one.ends.set()
        async with one.standing_by():
            await until(lambda: len(one.releases) == len(LANES))
            async with other.standing_by():
                await until(lambda: len(other.releases) == 1)
                await asyncio.sleep(3 * POLL)

                assert {*one.releases, *other.releases} == {*LANES}
                assert len(one.releases) == 2
                assert (one.released, other.released) == ([], [])

    run(scenario())


def test_no_more_lanes_are_let_go_while_the_batch_of_one_that_is_takes_its_time(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Runner(url), Runner(url)
        async with one.standing_by():
            await until(lambda: len(one.releases) == len(LANES))
            async with other.standing_by():
                await until(lambda: one.released != [])
                await asyncio.sleep(5 * POLL)

                assert len(one.released) == 1

    run(scenario())


def test_lane_whose_lease_ran_out_unnoticed_by_others_is_taken_up_again(url: str, run: Run) -> None:
    async def scenario() -> None:
        one = Runner(url)
        async with one.standing_by():
            await until(lambda: len(one.releases) == len(LANES))

            one.lose("a")
            await until(lambda: one.begun.count("a") == 2)

            assert sorted(one.releases) == LANES
            assert sorted(one.begun) == ["a", "a", "b", "c"]

    run(scenario())

    assert query(url, "SELECT DISTINCT status::text FROM pgqueuer") == [("queued",)]


def test_process_goes_on_after_a_bug_in_what_asks_for_lanes(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        one = Runner(url)
        share = LaneQueries._share
        one.ends.set()
        async with one.standing_by():
            await until(lambda: len(one.releases) == len(LANES))

            async def fail(self: LaneQueries) -> int:
                monkeypatch.setattr(LaneQueries, "_share", share)
                raise ValueError("a bug")

            monkeypatch.setattr(LaneQueries, "_share", fail)
            await until(lambda: sorted(one.begun) == sorted(2 * LANES))

            assert sorted(one.releases) == LANES

    run(scenario())


def test_lane_whose_run_fails_is_left_to_others_for_a_while_and_the_others_are_run(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Runner(url), Runner(url)
        one.broken = "b"
        async with one.standing_by():
            await until(lambda: sorted(one.begun) == LANES)
            await until(lambda: query(url, LATER) == [("b",)])
            await asyncio.sleep(3 * POLL)
            async with other.standing_by():
                await asyncio.sleep(POLL)

                assert sorted(one.releases) == ["a", "c"]
                assert (one.begun.count("b"), other.begun) == (1, [])

    run(scenario())
