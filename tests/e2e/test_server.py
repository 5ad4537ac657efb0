"""The real server as a child process: order and spacing as a real upstream sees them, start, stop, workers."""

import errno
import json
import re
import signal
import socket
import subprocess
import threading
import time
from statistics import median_low

from tests.e2e.servers import (
    PATIENCE,
    PLAIN,
    ROOT,
    ROUNDING,
    answer_when,
    free_port,
    gaps_of,
    hang,
    recording_upstream,
    serving,
    spawn,
    wait_until,
)


def test_upstream_sees_the_order_and_the_spacing() -> None:
    interval, delay = 0.5, 0.4
    may_answer = threading.Event()

    settings = {"BATCH_INTERVAL": str(interval), "UPSTREAM_TIMEOUT": "300"}
    with (
        recording_upstream(delay, answer_when(may_answer)) as upstream,
        serving(**settings, UPSTREAM_URL=upstream.url) as server,
    ):
        server.submit([1, 2, 3, 4, 5, 6], "MEDIUM")
        wait_until(lambda: len(upstream.calls) == 3)
        low = server.submit([31, 32, 33, 34], "LOW")
        server.submit([21, 22, 23, 24], "HIGH")
        may_answer.set()
        server.wait_until_complete(low)

        batches = upstream.batches()
        gaps = gaps_of(server.slots(), batches)

    assert [ids for _, ids in batches] == [[1, 2, 3], [21, 22, 23], [24], [4, 5, 6], [31, 32, 33], [34]]
    assert min(gaps) >= interval - ROUNDING
    # The first batch lasts as long as it takes to submit. From the end of a batch to the next start it is less
    # than the interval, for that counts from start to start.
    assert median_low(gaps[1:]) < delay + interval


def test_upstream_that_hangs_or_fails_does_not_shift_the_slots() -> None:
    interval, timeout = 2.5, 2.0
    settings = {"BATCH_INTERVAL": str(interval), "UPSTREAM_TIMEOUT": str(timeout), "UPSTREAM_ATTEMPTS": "1"}
    with recording_upstream(answer=hang) as upstream, serving(**settings, UPSTREAM_URL=upstream.url) as server:
        ingestion_id = server.submit([1, 2, 3, 4, 5, 6, 7, 8, 9], "LOW")
        server.wait_until_complete(ingestion_id)
        body = server.client.get(f"/status/{ingestion_id}").json()
        gaps = gaps_of(server.slots(), upstream.batches())

    assert [batch["status"] for batch in body["batches"]] == ["failed"] * 3
    assert body["batches"][0]["failed"] == [
        {"id": item, "error": "no answer within 2 s", "attempts": 1} for item in (1, 2, 3)
    ]
    assert len(gaps) == 2
    assert min(gaps) >= interval - ROUNDING
    assert max(gaps) < timeout + interval - 0.1


def test_sigterm_finishes_the_batch_answers_the_request_in_flight_and_exits_with_0() -> None:
    body = json.dumps({"ids": [9], "priority": "HIGH"}).encode()
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    settings = {"BATCH_INTERVAL": "0.2", "UPSTREAM_TIMEOUT": "300", "SHUTDOWN_GRACE": "300"}
    may_answer = threading.Event()

    with (
        recording_upstream(answer=answer_when(may_answer)) as upstream,
        serving(**settings, UPSTREAM_URL=upstream.url) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection,
    ):
        connection.sendall(head.encode() + body[:5])
        server.submit([1, 2, 3, 4, 5, 6], "LOW")
        wait_until(lambda: len(upstream.calls) == 3)

        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server.port)
        may_answer.set()
        time.sleep(0.5)  # the batch has ended and the next slot is open, but nothing may be taken
        connection.sendall(body[5:])
        answered = connection.recv(4096)

        assert server.process.wait(PATIENCE) == 0
        assert answered.startswith(b"HTTP/1.1 200 OK")
        assert sorted(item for _, item in upstream.calls) == [1, 2, 3]


def wait_until_refused(port: int) -> None:
    """Return once the server takes no connection any more: by then it has begun to stop."""

    def is_refused() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    wait_until(is_refused)


def test_sigterm_cuts_off_a_batch_that_outlasts_the_grace() -> None:
    settings = {"UPSTREAM_TIMEOUT": "300", "SHUTDOWN_GRACE": "0.2"}
    with recording_upstream(answer=hang) as upstream, serving(**settings, UPSTREAM_URL=upstream.url) as server:
        server.submit([1], "LOW")
        wait_until(lambda: len(upstream.calls) == 1)

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(8) == 0  # the default grace is 10 s


def test_two_workers_refuse_to_start_and_say_why() -> None:
    process = spawn(PLAIN, PORT=str(free_port()), WEB_CONCURRENCY="2")

    output, _ = process.communicate(timeout=PATIENCE)

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
        assert server.process.wait(PATIENCE) == 0


def test_ill_formed_setting_stops_the_start_with_one_line() -> None:
    process = spawn(PLAIN, PORT=str(free_port()), BATCH_SIZE="many")

    output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode != 0
    assert output.splitlines() == [
        "sluice: BATCH_SIZE: Input should be a valid integer, unable to parse string as an integer"
    ]


def test_oversized_body_is_refused_before_it_has_been_sent() -> None:
    head = "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with (
        serving(MAX_BODY_BYTES="100") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection,
    ):
        connection.sendall(head.encode())

        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_client_that_goes_away_in_mid_body_costs_no_traceback() -> None:
    head = (
        "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with serving("uvicorn main:app --port $PORT") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(head.encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 100")  # it is waiting for the body
            connection.sendall(b"{")
        server.wait_until_complete(server.submit([1], "LOW"))
        server.process.send_signal(signal.SIGTERM)
        output, _ = server.process.communicate(timeout=PATIENCE)

    assert "POST /ingest" in output
    assert "Traceback" not in output
