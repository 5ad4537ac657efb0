"""The worker process: what it needs, and that it says so in one line if that is not there."""

import signal
import time

import psycopg
import pytest

from sluice.settings import START_REFUSED
from tests.e2e.servers import free_port, spawn
from tests.shared_database import fresh_database

WORKER = "python -m sluice.worker"
PATIENCE = 20.0  # seconds
NEEDED = "sluice: DATABASE_URL: a worker needs postgresql://host/database; anything else one web process does"


def refusal(**environment: str) -> str:
    """Start a worker that cannot be one; return the line that says why."""
    process = spawn(WORKER, **environment)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == START_REFUSED, output
    (line,) = output.splitlines()
    return line


def test_worker_without_a_database_is_refused() -> None:
    assert refusal() == NEEDED


@pytest.mark.parametrize("url", ["sqlite:///sluice.db", "sqlite:////tmp/sluice.db"])
def test_worker_on_a_file_is_refused(url: str) -> None:
    assert refusal(DATABASE_URL=url) == NEEDED


def test_worker_whose_database_does_not_answer_is_refused_without_telling_its_password() -> None:
    line = refusal(DATABASE_URL=f"postgresql://user:secret@127.0.0.1:{free_port()}/sluice")

    assert line.startswith("sluice: DATABASE_URL: the database cannot be used: ")
    assert "secret" not in line


def test_worker_whose_database_is_not_there_is_refused() -> None:
    line = refusal(DATABASE_URL=f"{fresh_database()}_too")

    assert line.startswith("sluice: DATABASE_URL: the database cannot be used: ")
    assert "does not exist" in line


def test_worker_with_an_ill_formed_setting_is_refused() -> None:
    assert refusal(LEASE="soon", DATABASE_URL=fresh_database()).startswith("sluice: LEASE: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_stands_by_until_it_is_told_to_stop_and_leaves_its_lane_to_others(number: signal.Signals) -> None:
    url = fresh_database()
    process = spawn(WORKER, DATABASE_URL=url)
    try:
        with psycopg.connect(url, autocommit=True, options="-c search_path=sluice") as connection:

            def statuses() -> list[str]:
                return [status for (status,) in connection.execute("SELECT status::text FROM pgqueuer").fetchall()]

            deadline = time.monotonic() + PATIENCE
            while statuses() != ["picked"]:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(number)
            output, _ = process.communicate(timeout=PATIENCE)

            assert process.returncode == 0, output
            assert statuses() == ["queued"]
            assert connection.execute("SELECT count(*) FROM workers").fetchone() == (0,)
    finally:
        process.kill()
    assert "Traceback" not in output
