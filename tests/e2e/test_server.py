"""The real server as a child process: order and spacing as a real upstream sees them, start, stop, workers."""

import json
import re
import signal
import socket
import subprocess
import time
from itertools import pairwise
from statistics import median

import pytest

from tests.e2e.servers import PLAIN, ROOT, free_port, recording_upstream, serving, spawn

INTERVAL = 0.25
# What two calls may lose or gain against each other on the way through the loopback and two busy schedulers.
NETWORK = 0.06


def test_upstream_sees_the_order_and_the_spacing() -> None:
    with recording_upstream() as upstream, serving(BATCH_INTERVAL=str(INTERVAL), UPSTREAM_URL=upstream.url) as server:
        server.submit([1, 2, 3, 4, 5, 6], "MEDIUM")
        time.sleep(INTERVAL / 2)
        low = server.submit([31, 32, 33, 34], "LOW")
        server.submit([21, 22, 23, 24], "HIGH")
        server.wait_until_complete(low)

        starts = upstream.starts(gap=INTERVAL / 2)

    assert [ids for _, ids in starts] == [[1, 2, 3], [21, 22, 23], [24], [4, 5, 6], [31, 32, 33], [34]]
    gaps = [after - before for (before, _), (after, _) in pairwise(starts)]
    assert min(gaps) >= INTERVAL - NETWORK
    assert median(gaps) == pytest.approx(INTERVAL, abs=NETWORK)


def test_upstream_that_hangs_or_fails_does_not_shift_the_slots() -> None:
    with recording_upstream(delay=1.0) as upstream:
        settings = {"BATCH_INTERVAL": str(INTERVAL), "UPSTREAM_TIMEOUT": "0.1", "UPSTREAM_ATTEMPTS": "1"}
        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            ingestion_id = server.submit([1, 2, 3, 4, 5, 6, 7, 8, 9], "LOW")
            server.wait_until_complete(ingestion_id)
            body = server.client.get(f"/status/{ingestion_id}").json()
        starts = upstream.starts(gap=INTERVAL / 2)

    assert [batch["status"] for batch in body["batches"]] == ["failed"] * 3
    assert body["batches"][0]["failed"] == [
        {"id": item, "error": "no answer within 0.1 s", "attempts": 1} for item in (1, 2, 3)
    ]
    assert [after - before for (before, _), (after, _) in pairwise(starts)] == pytest.approx(
        [INTERVAL] * 2, abs=NETWORK
    )


def test_sigterm_finishes_the_batch_answers_the_request_in_flight_and_exits_with_0() -> None:
    body = json.dumps({"ids": [9], "priority": "HIGH"}).encode()
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        recording_upstream(delay=1.0) as upstream,
        serving(BATCH_INTERVAL="0.2", UPSTREAM_URL=upstream.url) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        connection.sendall(head.encode() + body[:5])
        server.submit([1, 2, 3, 4, 5, 6], "LOW")
        time.sleep(0.3)

        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.2)  # the batch has ended and the next slot is open, but nothing may be taken
        connection.sendall(body[5:])
        answer = connection.recv(4096)

        assert server.process.wait(timeout=5) == 0
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert sorted(item for _, item in upstream.calls) == [1, 2, 3]


def test_sigterm_cuts_off_a_batch_that_outlasts_the_grace() -> None:
    with (
        recording_upstream(delay=5.0) as upstream,
        serving(SHUTDOWN_GRACE="0.2", UPSTREAM_URL=upstream.url) as server,
    ):
        server.submit([1], "LOW")
        time.sleep(0.3)
        began = time.monotonic()

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(timeout=4) == 0
        assert time.monotonic() - began < 3


def test_two_workers_refuse_to_start_and_say_why() -> None:
    process = spawn(PLAIN, PORT=str(free_port()), WEB_CONCURRENCY="2")

    output, _ = process.communicate(timeout=20)

    assert output.count("only one worker process") == 1
    assert "--workers 1" in output
    assert "Traceback" not in output


def procfile(name: str, **environment: str) -> str:
    """Return a command of the Procfile as the host's shell would start it, but for the port."""
    (command,) = re.findall(rf"^{name}: (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    environment["PORT"] = "$PORT"
    return subprocess.run(
        ["sh", "-c", f"echo {command}"], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_web_concurrency_counts_where_processes_share_a_database() -> None:
    shared = procfile("web", WEB_CONCURRENCY="4", DATABASE_URL="postgres://host/database")

    assert " --workers 4 " in shared
    assert " --workers 1 " in procfile("web", DATABASE_URL="postgresql://host/database")
    assert " --workers 1 " in procfile("web", DATABASE_URL="sqlite:///sluice.db", WEB_CONCURRENCY="4")
    assert procfile("worker") == "python -m sluice.worker"


def test_hosts_web_concurrency_does_not_reach_the_procfile_command() -> None:
    with serving(procfile("web", WEB_CONCURRENCY="4"), WEB_CONCURRENCY="4") as server:
        ingestion_id = server.submit([1, 2, 3, 4], "LOW")

        assert all(server.client.get(f"/status/{ingestion_id}").status_code == 200 for _ in range(50))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0


def test_ill_formed_setting_stops_the_start_with_one_line() -> None:
    process = spawn(PLAIN, PORT=str(free_port()), BATCH_SIZE="many")

    output, _ = process.communicate(timeout=20)

    assert process.returncode != 0
    assert output.splitlines() == [
        "sluice: BATCH_SIZE: Input should be a valid integer, unable to parse string as an integer"
    ]


def test_oversized_body_is_refused_before_it_has_been_sent() -> None:
    head = "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with (
        serving(MAX_BODY_BYTES="100") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection,
    ):
        connection.sendall(head.encode())

        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_client_that_goes_away_in_mid_body_costs_no_traceback() -> None:
    head = "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with serving("uvicorn main:app --port $PORT") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(head.encode())
            time.sleep(0.2)
        server.wait_until_complete(server.submit([1], "LOW"))
        server.process.send_signal(signal.SIGTERM)
        output, _ = server.process.communicate(timeout=10)

    assert "POST /ingest" in output
    assert "Traceback" not in output
