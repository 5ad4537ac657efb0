"""PostgresJournal: what processes that share a lane see of each other, and what the database refuses."""

import asyncio
from array import array
from uuid import uuid4

import psycopg
import pytest

from sluice import control
from sluice.events import Idempotency, Interrupted
from sluice.ingestion import Ingestion
from sluice.journal import EarlyError, JournalError, KeyTakenError, LeaseLostError, postgres_database
from sluice.journal.postgres_follower import TAIL_SECONDS
from sluice.models import Priority
from tests.postgres_process import DAY, INTERVAL, Process, pass_time, state, until
from tests.shared_database import fresh_database, set_clock, sever
from tests.sqlite import Run
from tests.virtual import EPOCH


@pytest.fixture
def url() -> str:
    return fresh_database()


def test_what_one_process_accepts_another_knows_of_soon_and_at_once_when_it_looks(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other, blind = Process(url, 100.0), Process(url, 7000.0), Process(url, 3.0)
        async with one.running(), other.running(), blind.running(following=False):
            accepted = await one.accept([1, 2, 3, 4])
            await blind.journal.catch_up()
            await until(lambda: accepted.ingestion_id in other.lane.ingestions)

            assert blind.lane.ingestions == {} or accepted.ingestion_id in blind.lane.ingestions
            assert state(other) == state(one)

    run(scenario())


def test_created_time_and_seq_are_the_databases(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running():
            first = await one.accept([1])
            pass_time(url, 10.0, one, other)
            second = await other.accept([2])
            set_clock(url, EPOCH - 3600.0)
            third = await one.accept([3])

            assert (first.created_time, second.created_time, third.created_time) == (EPOCH, EPOCH + 10.0, EPOCH + 10.0)
            assert first.seq < second.seq < third.seq

    run(scenario())


# As version 0.4.0 calls it.
ACCEPT_WITHOUT_OWNER = """
    SELECT number, position FROM accept('default', 86400, %s::uuid[], '{1}', '{3}', %b::bytea[], '{NULL}', '{NULL}')
"""


def test_process_of_the_version_before_can_go_on_accepting(url: str, run: Run) -> None:
    ingestion_id = str(uuid4())

    async def scenario() -> None:
        one = Process(url, 100.0)
        async with one.running():
            with psycopg.connect(url, options="-c search_path=sluice") as connection:
                ids = array("I", [1, 2]).tobytes()
                row = connection.execute(ACCEPT_WITHOUT_OWNER, ([ingestion_id], [ids])).fetchone()
            await one.journal.catch_up()

            assert row == (1, 1)
            assert one.lane.ingestions[ingestion_id].owner == ""
            assert list(one.lane.ingestions[ingestion_id].ids) == [1, 2]

    run(scenario())


def test_start_sees_what_was_accepted_anywhere_before_it(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(following=False), other.running():
            await one.accept([1], Priority.LOW)
            await one.journal.take()
            urgent = await other.accept([2], Priority.HIGH)

            started = await one.start()

            assert started.ingestion_id == urgent.ingestion_id

    run(scenario())


def test_start_that_the_databases_clock_finds_early_is_refused_and_says_by_how_much(url: str, run: Run) -> None:
    async def scenario() -> None:
        one = Process(url, 100.0)
        async with one.running():
            await one.accept([1, 2, 3, 4])
            await one.journal.take()
            await one.start()
            await one.finish()
            one.machine.passed = INTERVAL  # a clock that runs fast
            set_clock(url, EPOCH + INTERVAL - 0.25)

            with pytest.raises(EarlyError) as early:
                await one.start()

            assert early.value.seconds == pytest.approx(0.25)
            assert one.lane.running is None
            set_clock(url, EPOCH + INTERVAL)
            await one.start()

    run(scenario())


def test_dispatcher_that_lost_the_lane_can_start_and_end_nothing(url: str, run: Run) -> None:
    async def scenario() -> None:
        zombie, successor = Process(url, 100.0), Process(url, 7000.0)
        async with zombie.running(), successor.running():
            accepted = await zombie.accept([1, 2, 3, 4])
            await zombie.journal.take()
            await zombie.start()
            await successor.journal.take()

            with pytest.raises(LeaseLostError):
                await zombie.finish()
            await successor.lane.decide(lambda: [Interrupted(successor.machine.now())])
            pass_time(url, INTERVAL, zombie, successor)
            with pytest.raises(LeaseLostError):
                await zombie.start()
            assert (await successor.start()).positions == (0, 1, 2)
            assert successor.lane.ingestions[accepted.ingestion_id].troubles[0].attempts == 0

    run(scenario())


def test_cancelling_and_pausing_need_no_lease(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running():
            accepted = await one.accept([1, 2, 3, 4])
            await one.journal.take()
            known = other.lane.ingestions
            await until(lambda: accepted.ingestion_id in known)

            await other.lane.decide(lambda: control.pause(other.lane, 5.0, "maintenance"))
            await other.lane.decide(lambda: control.cancel(known[accepted.ingestion_id], 6.0))
            await one.journal.catch_up()

            assert one.lane.paused
            assert one.lane.paused.reason == "maintenance"
            assert accepted.is_done

    run(scenario())


def test_idempotency_key_is_taken_once_whichever_process_is_asked(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running(following=False):
            key = Idempotency("key", b"digest")
            first = await one.accept([1], idempotency=key)

            with pytest.raises(KeyTakenError):
                await other.accept([1], idempotency=key)
            await other.accept([2], idempotency=Idempotency("another", b"digest"))
            await other.journal.catch_up()

            assert other.lane.keys["key"].ingestion_id == first.ingestion_id
            assert len(other.lane.ingestions) == 2

    run(scenario())


def test_taken_key_fails_its_own_submission_and_none_beside_it(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running(following=False):
            key = Idempotency("key", b"digest")
            await one.accept([1], idempotency=key)
            beside = [other.accept([10 + number]) for number in range(5)]

            outcomes = await asyncio.gather(
                *beside[:2], other.accept([2], idempotency=key), *beside[2:], return_exceptions=True
            )

            assert [type(each) for each in outcomes] == [*[Ingestion] * 2, KeyTakenError, *[Ingestion] * 3]
            await one.journal.catch_up()
            assert [each.ids.tolist() for each in one.lane.by_seq.values()] == [[1], *([10 + n] for n in range(5))]

    run(scenario())


def test_key_that_has_expired_is_free_again(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running():
            await one.accept([1], idempotency=Idempotency("key", b"digest"))
            pass_time(url, DAY, one, other)

            second = await other.accept([2], idempotency=Idempotency("key", b"other"))
            await one.journal.catch_up()

            assert one.lane.keys["key"].ingestion_id == second.ingestion_id

    run(scenario())


def test_process_that_lags_beyond_what_is_kept_goes_on_from_what_is_saved(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running(following=False):
            for number in range(20):
                await one.accept([number + 1])
            await one.journal.take()
            await one.start()
            pass_time(url, TAIL_SECONDS + 1.0, one, other)
            await one.journal.follower._trim()
            await one.accept([100])

            with pytest.raises(JournalError):
                await other.journal.catch_up()
            following = asyncio.create_task(other.follow())
            await until(lambda: len(other.lane.ingestions) == 21)
            following.cancel()

            assert state(other) == state(one)

    run(scenario())


def test_one_look_is_enough_to_find_that_a_database_is_back_however_many_connections_were_lost(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "RECONNECT", 5.0)  # longer than it takes to connect

    async def scenario() -> None:
        one = Process(url, 100.0)
        note, noted = one.database.note_trouble, list[str | None]()

        def note_too(trouble: str | None) -> None:
            noted.append(trouble)
            note(trouble)

        async with one.running():
            await asyncio.gather(*(one.journal.results(str(uuid4()), 0, 1) for _ in range(20)), return_exceptions=True)
            monkeypatch.setattr(one.database, "note_trouble", note_too)
            sever(url)
            await until(lambda: noted[-1:] == [None] and any(noted))

            assert len([each for each in noted if each]) == 1
            await one.accept([1])

    run(scenario())


def test_submissions_survive_severed_connections_and_are_accepted_once(url: str, run: Run) -> None:
    async def scenario() -> None:
        one, other = Process(url, 100.0), Process(url, 7000.0)
        async with one.running(), other.running():
            await one.accept([1])
            sever(url)
            outcomes = await asyncio.gather(*(one.accept([10 + n]) for n in range(10)), return_exceptions=True)
            await until(lambda: one.database.trouble is None)
            await one.journal.catch_up()
            await until(lambda: len(other.lane.ingestions) == len(one.lane.ingestions))

            accepted = [each.ingestion_id for each in outcomes if isinstance(each, Ingestion)]
            ids = [each.ids.tolist() for each in one.lane.by_seq.values()]
            assert set(accepted) <= set(one.lane.ingestions)
            assert len(ids) == len({tuple(each) for each in ids})
            assert all(isinstance(each, Ingestion | JournalError) for each in outcomes)
            assert state(other) == state(one)

    run(scenario())
