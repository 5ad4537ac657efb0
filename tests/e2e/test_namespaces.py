"""Two hosts, which are network namespaces, on one database; one is cut off while it runs the lane, and rejoins."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest

from tests.e2e.fleet import (
    WEB,
    Member,
    caller_of_the_last,
    running,
    submit,
    wait_until_completed,
)
from tests.e2e.fleet_clients import listed, wrong_results
from tests.e2e.fleet_oracle import Record, problems
from tests.e2e.fleet_upstream import fleet_upstream
from tests.e2e.servers import BIN, wait_until
from tests.e2e.submissions import Acknowledged, Submission
from tests.postgres import PostgresServer, postgres_server

INTERVAL = 0.4
LEASE = 2.0
BUSY = 6.0  # seconds that a machine with more to do than processors may add
IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
PORT = 8000  # nobody else is on that host
NUMBER = os.getpid() % 256
# The range for tests of networks (RFC 2544): one network to the database, one to the upstream and the clients.
NETWORKS = {"data": f"198.18.{NUMBER}", "front": f"198.19.{NUMBER}"}


class Host(NamedTuple):
    """A namespace and the near ends of its links, by network."""

    namespace: str
    links: dict[str, str]
    address: str

    def cut(self, *networks: str) -> None:
        for network in networks:
            ip(f"link set {self.links[network]} down")

    def rejoin(self, *networks: str) -> None:
        for network in networks:
            ip(f"link set {self.links[network]} up")


def ip(command: str) -> None:
    subprocess.run([IP or "ip", *command.split()], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Two hosts beside this one, each with a link to both networks; this one is the .1 in them."""
    if IP is None:
        pytest.skip("ip (iproute2) is not there")
    with ExitStack() as stack:
        try:
            for network, prefix in NETWORKS.items():
                bridge = f"sl{network}{NUMBER}"
                ip(f"link add {bridge} type bridge")
                stack.callback(ip, f"link del {bridge}")
                ip(f"address add {prefix}.1/24 dev {bridge}")
                ip(f"link set {bridge} up")
            made = [_host(number, stack) for number in (2, 3)]
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield made


def _host(number: int, stack: ExitStack) -> Host:
    namespace = f"sluice-{NUMBER}-{number}"
    ip(f"netns add {namespace}")
    stack.callback(ip, f"netns del {namespace}")
    ip(f"-n {namespace} link set lo up")
    links = {network: f"sl{network}{NUMBER}-{number}" for network in NETWORKS}
    for network, link in links.items():
        ip(f"link add {link} type veth peer name {network} netns {namespace}")
        ip(f"link set {link} master sl{network}{NUMBER} up")
        ip(f"-n {namespace} address add {NETWORKS[network]}.{number}/24 dev {network}")
        ip(f"-n {namespace} link set {network} up")
    return Host(namespace, links, f"{NETWORKS['front']}.{number}")


@pytest.fixture
def remote_postgres(hosts: list[Host]) -> Iterator[PostgresServer]:
    """A server that the hosts can reach, once their network is there."""
    assert hosts
    with postgres_server(addresses=[f"{NETWORKS['data']}.1"]) as server:
        yield server


@pytest.mark.parametrize("networks", [("data",), ("data", "front")])
def test_host_that_was_cut_off_is_relieved_and_follows_when_it_is_back(
    networks: tuple[str, ...], hosts: list[Host], remote_postgres: PostgresServer
) -> None:
    remote_postgres.create_database("hosts")
    settings = {
        "DATABASE_URL": remote_postgres.url("hosts", f"{NETWORKS['data']}.1"),
        "BATCH_INTERVAL": str(INTERVAL),
        "LEASE": str(LEASE),
        "DATABASE_TIMEOUT": "2",
    }
    acknowledged: list[Acknowledged] = []

    def accept(web: Member, first: int, count: int, priority: str) -> str:
        submission = Submission(f"key-{first}", tuple(range(first, first + count)), priority)
        ingestion_id = submit(web, submission.ids, priority)
        acknowledged.append(Acknowledged(time.monotonic(), ingestion_id, submission))
        return ingestion_id

    with fleet_upstream(host=f"{NETWORKS['front']}.1") as upstream:
        members = [
            Member(
                f"host{n}",
                f"{IP} netns exec {host.namespace} {BIN}/{WEB} --host 0.0.0.0",
                upstream,
                settings,
                port=PORT,
                host=host.address,
            )
            for n, host in enumerate(hosts)
        ]
        with running(*members):
            long = accept(members[0], 1, 90, "LOW")
            time.sleep(LEASE)
            upstream.wait_for_calls(1)
            cut = caller_of_the_last(upstream, members)
            assert cut is not None
            (other,) = set(members) - {cut}
            host = hosts[members.index(cut)]

            host.cut(*networks)
            at = time.monotonic()
            upstream.wait_for_calls(1, other.caller)
            taken_over = next(call.at for call in upstream.noted if call.caller == other.caller)
            accept(other, 1001, 3, "HIGH")
            if "front" not in networks:
                wait_until(lambda: not cut.is_ready(), f"{cut.name} is not ready")
                refused = httpx.post(f"{cut.url}/ingest", json={"ids": [1], "priority": "LOW"}, timeout=20)
                assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
            time.sleep(LEASE)
            host.rejoin(*networks)
            wait_until(cut.is_ready, f"{cut.name} is ready again")
            accept(cut, 2001, 3, "HIGH")
            upstream.wait_for_calls(9)
            callers = {call.caller for call in upstream.noted if call.at >= taken_over}

            other.kill()
            killed_at = time.monotonic()
            upstream.wait_for_calls(3, cut.caller)
            other.start()
            wait_until(other.is_ready, f"{other.name} is ready")
            wait_until_completed(cut, long)
            wrong = [complaint for each in acknowledged for web in members if (complaint := wrong_results(web, each))]
            order = list(listed(cut))
            assert listed(other) == listed(cut) == dict.fromkeys(order, "completed")

    assert taken_over - at < LEASE + 1 + BUSY
    assert callers == {f"{other.name}.1"}
    record = Record(INTERVAL, upstream.noted, acknowledged, order, deaths={f"{other.name}.1": killed_at})
    assert not [*wrong, *problems(record)]
