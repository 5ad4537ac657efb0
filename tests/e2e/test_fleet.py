"""Whatever is done to a fleet at random: what was acknowledged completes, what is done stays done, pace and order hold.

It prints its seed; `FLEET_SEED=… pytest tests/e2e/test_fleet.py` draws the same again. `FLEET_KILLS` is how
often to disrupt it.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from statistics import median

import httpx
import pytest

from tests.e2e.fleet import (
    START_REFUSED,
    WEB,
    WORKER,
    Member,
    caller_of_the_last,
    running,
    wait_until_ready,
)
from tests.e2e.fleet_clients import Clients, listed, wrong_results
from tests.e2e.fleet_oracle import Record, Sleep, problems
from tests.e2e.fleet_upstream import FleetUpstream, fleet_upstream
from tests.e2e.servers import held_port, wait_until
from tests.postgres import Mode, PostgresServer, postgres_server

KILLS = int(os.environ.get("FLEET_KILLS", "20"))
INTERVAL = 0.4
LEASE = 1.0
DATABASE = "fleet"
# Seconds that the upstream takes for some. Less than the lease: whoever takes over finds that it has let go.
SLOW = 0.4
SETTLING = 2.0  # seconds that a process which slept is watched alone
START_UP = 20.0  # seconds, at most, on a busy machine
# How often each disruption comes in a round, which is drawn in random order.
ROUND = {
    "kill_the_holder": 4,
    "kill_any": 5,
    "put_the_holder_to_sleep": 3,
    "put_any_to_sleep": 1,
    "terminate": 3,
    "sever": 2,
    "restart": 2,
}


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("FLEET_SEED") or random.randrange(2**32))
    print(f"FLEET_SEED={seed}")
    return random.Random(seed)


class Disruptor:
    """Does to a fleet what can be done to it, at random, and keeps a diary."""

    def __init__(
        self, webs: list[Member], workers: list[Member], upstream: FleetUpstream, postgres: PostgresServer, seed: float
    ) -> None:
        self.story: list[tuple[float, str]] = []
        self.deaths: dict[str, float] = {}
        self.sleeps: list[Sleep] = []
        self.done: Counter[str] = Counter()
        self._outages: list[float] = []
        self._webs = webs
        self._workers = workers
        self._members = [*webs, *workers]
        self._upstream = upstream
        self._postgres = postgres
        self._rng = random.Random(seed)

    def disrupt(self, times: int) -> None:
        for name in self._drawn(times):
            self._replace_the_ended()
            getattr(self, name)()
            self.done[name] += 1
            time.sleep(self._rng.choice((0.1, 0.5, 1.0, 2.5)))
        time.sleep(START_UP / 4)
        self._replace_the_ended()

    def _drawn(self, times: int) -> list[str]:
        """Return what to do: of everything its share, and something of everything if there are enough."""
        drawn: list[str] = []
        while len(drawn) < times:
            cards = [name for name, count in ROUND.items() for _ in range(count)]
            self._rng.shuffle(cards)
            drawn += cards
        return drawn[:times]

    def kill_the_holder(self) -> None:
        self._kill([self._holder()])

    def kill_any(self) -> None:
        self._kill(self._rng.sample(self._members, self._rng.choice((1, 1, 2))))

    def put_the_holder_to_sleep(self) -> None:
        self._put_to_sleep(self._holder())

    def put_any_to_sleep(self) -> None:
        self._put_to_sleep(self._rng.choice(self._members))

    def terminate(self) -> None:
        member = self._rng.choice([self._holder(), self._rng.choice(self._members)])
        self._note(f"SIGTERM for {member.caller}")
        member.terminate(is_new=time.monotonic() - member.started_at < START_UP)
        self._note(f"{member.caller} has ended")
        member.start()

    def sever(self) -> None:
        sessions = self._postgres.sessions(DATABASE)
        severed = self._rng.choice([sessions, self._rng.sample(sessions, min(1, len(sessions)))])
        self._note(f"{len(severed)} of {len(sessions)} connections are severed")
        self._outages.append(time.monotonic())
        self._postgres.terminate(severed)

    def restart(self) -> None:
        mode: Mode = self._rng.choice(("fast", "immediate"))
        self._note(f"PostgreSQL stops: {mode}")
        self._postgres.stop(mode)
        self._outages.append(time.monotonic())
        time.sleep(self._rng.choice((0.0, 0.3, LEASE * 2)))
        self._postgres.start()
        self._note("PostgreSQL is back")

    def _put_to_sleep(self, member: Member) -> None:
        self._note(f"{member.caller} sleeps")
        at = time.monotonic()
        member.sleep()
        running = self._running(until=at + LEASE * 0.8)
        time.sleep(max(0.0, at + LEASE + self._rng.uniform(0.3, 2.0) - time.monotonic()))
        until = time.monotonic()
        member.wake()
        self._note(f"{member.caller} is awake")
        time.sleep(SETTLING)
        self.sleeps.append(Sleep(member.caller, at, until, time.monotonic(), running))

    def _kill(self, members: list[Member]) -> None:
        for member in members:
            self._note(f"kill -9 {member.caller}")
            self.deaths[member.caller] = time.monotonic()
            member.kill()
        time.sleep(self._rng.choice((0.0, 0.0, LEASE, LEASE * 2)))
        for member in members:
            member.start()

    def _replace_the_ended(self) -> None:
        """Start again, as a host would, whoever could not start because its connection was severed at that instant."""
        for member in self._members:
            if (code := member.process.poll()) is not None:
                self._note(f"{member.caller} had ended with {code}")
                was_starting = any(member.started_at < at < member.started_at + START_UP for at in self._outages)
                assert (code, was_starting) == (START_REFUSED, True), member.told()
                member.start()

    def _holder(self) -> Member:
        """Return the worker that called last, or any."""
        return caller_of_the_last(self._upstream, self._workers) or self._rng.choice(self._workers)

    def _running(self, until: float) -> frozenset[str]:
        """Return the keys of the batch that is in flight while its process sleeps."""
        time.sleep(0.3)  # what it had sent to the database before is known by then
        while time.monotonic() < until:
            for web in self._webs:
                try:
                    response = httpx.get(f"{web.url}/queue", timeout=LEASE / 4)
                except httpx.TransportError:
                    continue
                if response.status_code == 200:
                    batch = response.json()["running"] or {"batch_ids": [], "ids": []}
                    return frozenset(f"{each}/{item}" for each in batch["batch_ids"] for item in batch["ids"])
        return frozenset()

    def tell(self) -> None:
        print("\n".join(f"{at:.4f}  {what}" for at, what in self.story))

    def _note(self, what: str) -> None:
        self.story.append((time.monotonic(), f"*** {what}"))


@pytest.fixture
def durable_postgres() -> Iterator[PostgresServer]:
    with postgres_server(durable=True) as server:
        yield server


def test_disrupted_at_random_it_keeps_every_promise(durable_postgres: PostgresServer, rng: random.Random) -> None:
    settings = {
        "DATABASE_URL": durable_postgres.create_database(DATABASE),
        "BATCH_INTERVAL": str(INTERVAL),
        "LEASE": str(LEASE),
        "RETRY_BASE": "0.05",
        "RETRY_MAX": "0.2",
    }
    with ExitStack() as stack:
        upstream = stack.enter_context(fleet_upstream(slow=SLOW))
        ports = [stack.enter_context(held_port()) for _ in range(3)]
        webs = [
            Member(f"web{n}", WEB, upstream, {**settings, "WORKER": "off"}, port=port) for n, port in enumerate(ports)
        ]
        workers = [Member(f"worker{n}", WORKER, upstream, settings) for n in range(3)]
        clients = Clients(webs, upstream, random.Random(rng.random()))
        disruptor = Disruptor(webs, workers, upstream, durable_postgres, rng.random())
        stack.callback(disruptor.tell)
        stack.enter_context(running(*webs, *workers))

        with clients.at_work():
            upstream.wait_for_calls(10)
            disruptor.disrupt(KILLS)
        wait_until_ready(webs)
        wrong = [complaint for each in clients.acknowledged if (complaint := wrong_results(rng.choice(webs), each))]
        order = list(listed(webs[0]))
        for web in webs:
            wait_until(partial(has_completed, web, order), f"{web.name} knows that all is done")
        for member in (*webs, *workers):
            member.terminate()

    record = Record(
        INTERVAL,
        upstream.noted,
        clients.acknowledged,
        order,
        clients.sightings,
        disruptor.sleeps,
        disruptor.deaths,
        disruptor.story,
    )
    report(record, clients, disruptor)
    found = [*wrong, *problems(record)]
    assert not found, "\n\n".join([f"{len(found)} problems, the first of them:", *found[:5]])
    assert len(record.starts) > KILLS


def has_completed(web: Member, order: list[str]) -> bool:
    return list(listed(web).items()) == [(ingestion_id, "completed") for ingestion_id in order]


def report(record: Record, clients: Clients, disruptor: Disruptor) -> None:
    began, ended = record.gaps()[0]
    gaps = sorted(after.at - before.at - INTERVAL for before, after in pairwise(record.starts))
    print(f"{disruptor.done.total()} disruptions: {dict(disruptor.done)}")
    print(
        f"{len(record.acknowledged)} ingestions, {clients.refusals} refusals, {len(clients.sightings)} looks, "
        f"{len(record.starts)} batches, {len(record.calls) - len(record.owners)} calls again, {len(record.late)} late"
    )
    print(f"no two starts were closer than the interval and {gaps[0]:.4f} s; the median is {median(gaps):.4f} s more")
    print(f"the longest without a start was {ended - began:.2f} s:\n    {record.told_around(began, ended)}")
