"""Who takes over, and when; what one process accepted and another answers; what happens while PostgreSQL is away."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import psycopg
import pytest

from tests.e2e.fleet import (
    START_REFUSED,
    WEB,
    WORKER,
    Member,
    caller_of_the_last,
    running,
    status,
    submit,
    wait_until_completed,
)
from tests.e2e.fleet_upstream import FleetUpstream, fleet_upstream
from tests.e2e.servers import free_port, held_port, spawn, wait_until
from tests.postgres import PostgresServer, postgres_server

INTERVAL = 1.0
# What two calls may lose or gain against each other on the way through the loopback and two busy schedulers.
NETWORK = 0.25
BUSY = 6.0  # seconds that a machine with more to do than processors may add
IDS = list(range(1, 400))


class Fleet:
    """A web process that only answers, and two more processes, the second of which stands by for the first."""

    def __init__(self, others: list[Member], upstream: FleetUpstream, database_url: str) -> None:
        self.others = others
        self.upstream = upstream
        self._database_url = database_url

    def holder(self) -> Member:
        """Return who runs the lane once the other stands by: a worker tells nobody but the database."""
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            wait_until(
                lambda: connection.execute("SELECT count(*) FROM sluice.workers").fetchone() == (2,), "both stand by"
            )
        self.upstream.wait_for_calls(1)
        holder = caller_of_the_last(self.upstream, self.others)
        assert holder is not None
        return holder

    def taken_over_after(self, at: float, member: Member) -> float:
        """Wait for a member's first call; return how long after `at` it came."""
        self.upstream.wait_for_calls(1, member.caller)
        return next(call.at for call in self.upstream.noted if call.caller == member.caller and call.at > at) - at


@contextmanager
def fleet(database_url: str, command: str, lease: float) -> Iterator[Fleet]:
    settings = {"DATABASE_URL": database_url, "BATCH_INTERVAL": str(INTERVAL), "LEASE": str(lease)}
    with ExitStack() as stack:
        upstream = stack.enter_context(fleet_upstream())
        ports = [stack.enter_context(held_port()) for _ in range(3)]
        web = Member("web", WEB, upstream, {**settings, "WORKER": "off"}, port=ports[0])
        others = [
            Member(f"other{n}", command, upstream, settings, port=port if command == WEB else 0)
            for n, port in enumerate(ports[1:])
        ]
        stack.enter_context(running(web, *others))
        members = Fleet(others, upstream, database_url)
        submit(web, IDS, "LOW")
        yield members


@pytest.mark.parametrize("command", [WORKER, WEB])
def test_lane_of_a_killed_process_is_taken_over_when_the_lease_has_run_out(command: str, database_url: str) -> None:
    lease = 2.0
    with fleet(database_url, command, lease) as members:
        holder = members.holder()
        (other,) = set(members.others) - {holder}

        at = time.monotonic()
        holder.kill()

        assert members.taken_over_after(at, other) < lease + 1 + BUSY
        members.upstream.wait_for_calls(6, other.caller)
        assert members.upstream.smallest_gap() > INTERVAL - NETWORK


@pytest.mark.parametrize("command", [WORKER, WEB])
def test_sigterm_hands_the_lane_over_at_once(command: str, database_url: str) -> None:
    with fleet(database_url, command, lease=60.0) as members:
        for _ in range(2):
            holder = members.holder()
            (other,) = set(members.others) - {holder}

            at = time.monotonic()
            holder.terminate()
            holder.start()

            assert members.taken_over_after(at, other) < INTERVAL + 0.5 + BUSY
        assert members.upstream.smallest_gap() > INTERVAL - NETWORK


def test_idle_worker_starts_the_next_batch_when_another_process_accepts_it(database_url: str) -> None:
    with fleet_upstream() as upstream, held_port() as port:
        settings = {"DATABASE_URL": database_url, "BATCH_INTERVAL": "0.1"}
        web = Member("web", WEB, upstream, {**settings, "WORKER": "off"}, port=port)
        with running(web, Member("worker", WORKER, upstream, settings)):
            wait_until_completed(web, submit(web, [1], "LOW"))
            lags = []
            for item in range(2, 10):
                # Half of what it leaves between two looks by itself, counted from the last.
                time.sleep(0.5)
                called = len(upstream.noted)
                submit(web, [item], "LOW")
                at = time.monotonic()
                wait_until(lambda called=called: len(upstream.noted) > called, "it is called")  # type: ignore[misc]
                lags.append(upstream.noted[-1].at - at)

    assert sorted(lags)[1] < 0.3


def test_job_accepted_by_one_process_is_found_by_the_other_at_once(database_url: str) -> None:
    with fleet_upstream() as upstream, held_port() as first, held_port() as second:
        settings = {"DATABASE_URL": database_url, "WORKER": "off"}
        webs = [Member(f"web{port}", WEB, upstream, settings, port=port) for port in (first, second)]
        with running(*webs), httpx.Client(timeout=20) as client:
            for number in range(50):
                accepting, asked = webs if number % 2 else reversed(webs)
                headers = {"Idempotency-Key": str(number)}
                body = {"ids": [1, 2, 3, 4], "priority": "LOW"}
                ingestion_id = client.post(f"{accepting.url}/ingest", json=body, headers=headers).json()["ingestion_id"]

                found = client.get(f"{asked.url}/status/{ingestion_id}")
                results = client.get(f"{asked.url}/results/{ingestion_id}")
                again = client.post(f"{asked.url}/ingest", json=body, headers=headers)

                assert (found.status_code, found.json()["status"]) == (200, "yet_to_start")
                assert (results.status_code, results.text) == (200, "")
                assert again.json() == {"ingestion_id": ingestion_id}


def test_several_processes_of_one_server_share_the_database(database_url: str) -> None:
    with fleet_upstream() as upstream, held_port() as port:
        settings = {"DATABASE_URL": database_url, "BATCH_INTERVAL": "0.4"}
        web = Member("web", f"{WEB} --workers 2", upstream, settings, port=port)
        with running(web):
            ids = [submit(web, [3 * n + 1, 3 * n + 2, 3 * n + 3, 3 * n + 4], "HIGH") for n in range(0, 10, 2)]
            # Each is a connection of its own, which either process may get.
            assert {status(web, ingestion_id) for ingestion_id in ids * 10} <= {
                "yet_to_start",
                "triggered",
                "completed",
            }
            for ingestion_id in ids:
                wait_until_completed(web, ingestion_id)
            web.process.send_signal(signal.SIGTERM)
            web.process.wait(timeout=20)

    assert upstream.smallest_gap() > 0.4 - NETWORK


def test_while_the_database_is_away_nothing_is_accepted_and_then_all_goes_on() -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        upstream = stack.enter_context(fleet_upstream())
        settings = {"DATABASE_URL": postgres.create_database("away"), "BATCH_INTERVAL": "0.5", "LEASE": "1"}
        web = Member("web", WEB, upstream, {**settings, "WORKER": "off"}, port=stack.enter_context(held_port()))
        inline = Member("inline", WEB, upstream, settings, port=stack.enter_context(held_port()))
        stack.enter_context(running(web, inline, Member("worker", WORKER, upstream, settings)))
        ingestion_id = submit(web, IDS[:39], "LOW")
        upstream.wait_for_calls(6)

        postgres.stop()
        for member in (web, inline):
            wait_until(lambda member=member: not member.is_ready(), f"{member.name} is not ready")  # type: ignore[misc]
            refused = httpx.post(f"{member.url}/ingest", json={"ids": [1], "priority": "LOW"}, timeout=20)
            ready = httpx.get(f"{member.url}/readyz", timeout=20)
            assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
            assert int(refused.headers["Retry-After"]) > 0
            assert (ready.status_code, httpx.get(f"{member.url}/healthz", timeout=20).status_code) == (503, 200)
            assert status(member, ingestion_id) == "triggered"
            assert httpx.get(f"{member.url}/results/{ingestion_id}", timeout=20).status_code == 503
        called = len(upstream.noted)
        time.sleep(2.0)
        assert len(upstream.noted) == called

        postgres.start()
        for member in (web, inline):
            wait_until(member.is_ready, f"{member.name} is ready", 2.0 + BUSY)
            wait_until_completed(member, submit(member, [1001], "HIGH"))
            wait_until_completed(member, ingestion_id)

    assert upstream.smallest_gap() > 0.5 - NETWORK


@pytest.mark.parametrize("outage", [0.7, 1.5])  # seconds
def test_everything_goes_on_soon_after_a_short_outage(outage: float) -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        upstream = stack.enter_context(fleet_upstream())
        settings = {"DATABASE_URL": postgres.create_database("away"), "BATCH_INTERVAL": "0.2", "LEASE": "1"}
        web = Member("web", WEB, upstream, {**settings, "WORKER": "off"}, port=stack.enter_context(held_port()))
        stack.enter_context(running(web, Member("worker", WORKER, upstream, settings)))
        submit(web, IDS, "LOW")
        upstream.wait_for_calls(6)

        postgres.stop()
        time.sleep(outage)
        called = len(upstream.noted)
        postgres.start()
        took = wait_until(web.is_ready, f"{web.name} is ready")
        took += wait_until(lambda: len(upstream.noted) > called, "batches start again")

    assert took < 2.0 + BUSY


@pytest.mark.parametrize("command", [WEB, WORKER])
def test_sigterm_ends_a_process_while_the_database_is_away(command: str) -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        upstream = stack.enter_context(fleet_upstream())
        settings = {"DATABASE_URL": postgres.create_database("away"), "BATCH_INTERVAL": "0.2", "LEASE": "1"}
        web = Member("web", WEB, upstream, {**settings, "WORKER": "off"}, port=stack.enter_context(held_port()))
        port = stack.enter_context(held_port()) if command == WEB else 0
        other = Member("other", command, upstream, settings, port=port)
        stack.enter_context(running(web, other))
        submit(web, IDS, "LOW")
        upstream.wait_for_calls(6)

        postgres.stop()
        wait_until(lambda: not web.is_ready(), f"{web.name} is not ready")
        other.terminate()


@pytest.mark.parametrize("command", [WEB, WORKER])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:secret@127.0.0.1:$UNUSED/sluice",
        "postgresql://postgres:secret@127.0.0.1:$USED/missing",
        "postgresql://postgres:secret@127.0.0.1:port/sluice",
        "postgresql://postgres:secret/@127.0.0.1/sluice",
        "mysql://postgres:secret@127.0.0.1/sluice",
    ],
)
def test_database_that_cannot_be_used_stops_the_start_with_one_line(
    url: str, command: str, postgres: PostgresServer
) -> None:
    url = url.replace("$UNUSED", str(free_port())).replace("$USED", str(postgres.port))
    process = spawn(command, PORT=str(free_port()), DATABASE_URL=url)

    output, _ = process.communicate(timeout=60)

    assert (process.returncode, output.count("\n")) == (START_REFUSED, 1), output
    assert output.startswith("sluice: DATABASE_URL: ")
    assert "secret" not in output
