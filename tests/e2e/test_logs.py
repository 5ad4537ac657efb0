"""The log of a real process: JSON through a pipe, lines for people on a terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sluice.keys import Role, make_key
from tests.e2e.servers import BIN, ROOT, free_port, serving, spawn

ENTRY_FIELDS = {"event", "timestamp", "level", "logger"}
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
FAST = {"BATCH_INTERVAL": "0.05", "UPSTREAM_DELAY": "0", "LOG_LEVEL": "INFO"}


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def log_of(*ids: int, command: str = "uvicorn main:app --port $PORT", **environment: str) -> str:
    """Return all that a server logs that does this work and is stopped."""
    with serving(command, **{**FAST, **environment}) as server:
        if ids:
            server.wait_until_complete(server.submit(list(ids), "HIGH"))
        server.process.send_signal(signal.SIGTERM)
        output, _ = server.process.communicate(timeout=20)
    return output


def test_every_entry_is_a_line_of_json_with_its_time_level_and_logger() -> None:
    logged = entries(log_of(1, 2))

    assert {"uvicorn.error", "uvicorn.access", "sluice.batches"} <= {entry["logger"] for entry in logged}
    for entry in logged:
        assert entry.keys() >= ENTRY_FIELDS
        assert UTC.fullmatch(entry["timestamp"])
        assert "\x1b" not in json.dumps(entry)


def test_every_batch_is_logged_with_its_ids_when_it_starts_and_when_it_ends() -> None:
    logged = [entry for entry in entries(log_of(1, 2, 3, 4)) if entry["logger"] == "sluice.batches"]

    assert [(entry["event"], entry["ids"], entry["lane"]) for entry in logged] == [
        ("batch started", [1, 2, 3], "default"),
        ("batch finished", [1, 2, 3], "default"),
        ("batch started", [4], "default"),
        ("batch finished", [4], "default"),
    ]
    assert len({entry["ingestion_id"] for entry in logged}) == 1
    assert [len(entry["batch_ids"]) for entry in logged] == [1, 1, 1, 1]
    assert logged[0]["priority"] == "HIGH"
    assert logged[1]["failed"] == []


def test_level_keeps_batches_out_of_the_log() -> None:
    assert "sluice.batches" not in log_of(1, LOG_LEVEL="WARNING")


def test_access_log_that_is_switched_off_stays_off() -> None:
    assert "uvicorn.access" not in log_of(1, command="uvicorn main:app --port $PORT --no-access-log")


def test_ill_formed_level_stops_the_start_with_one_line() -> None:
    process = spawn("uvicorn main:app --port $PORT", PORT=str(free_port()), LOG_LEVEL="loud")

    output, _ = process.communicate(timeout=20)

    assert process.returncode == 3
    assert output.splitlines() == ["sluice: LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"]


def test_key_in_the_url_of_the_upstream_is_never_logged() -> None:
    text = log_of(1, UPSTREAM_URL="http://127.0.0.1:9/items/{id}?key=hush", UPSTREAM_ATTEMPTS="1", LOG_LEVEL="DEBUG")

    assert "hush" not in text
    (failure,) = [entry for entry in entries(text) if entry["logger"] == "sluice.dispatcher"]
    assert failure["level"] == "warning"
    assert failure["ids"] == [1]


def test_on_a_terminal_the_log_is_for_people() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, **FAST}
    process = subprocess.Popen(
        [BIN / "uvicorn", "main:app", "--port", str(free_port())],
        cwd=ROOT,
        env=environment,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)

    text = read_until(ours, lambda text: "running on" in text)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    os.close(ours)

    assert "\x1b[" in text
    assert not text.lstrip().startswith("{")


def read_until(terminal: int, is_enough: Callable[[str], bool]) -> str:
    text = ""
    while not is_enough(text):
        text += os.read(terminal, 4096).decode()
    return text


def test_traceback_is_part_of_its_entry() -> None:
    code = """
import logging
from sluice import logs
logs.configure("INFO")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("sluice").exception("broken")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    (entry,) = entries(run.stderr)
    assert entry["event"] == "broken"
    assert "ZeroDivisionError" in entry["exception"]


@pytest.mark.parametrize("name", ["httpx", "httpcore", "asyncio"])
def test_libraries_are_heard_from_warnings_on(name: str) -> None:
    code = f"""
import logging
from sluice import logs
logs.configure("DEBUG")
logging.getLogger({name!r}).info("chatter")
logging.getLogger({name!r}).warning("trouble")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert [entry["event"] for entry in entries(run.stderr)] == ["trouble"]


def test_log_holds_no_key_no_cookie_and_no_body() -> None:
    made = {name: make_key(name, Role.ADMIN) for name in ("ann", "bob")}
    secrets = [secret for secret, _ in made.values()]
    server_of = serving("uvicorn main:app --port $PORT", **FAST, API_KEYS=" ".join(entry for _, entry in made.values()))

    with server_of as server:
        client = server.client
        for headers in (
            {"Authorization": f"Bearer {secrets[0]}"},
            {"Authorization": f"Bearer {secrets[0]}x"},
            {"Authorization": f"Basic {secrets[0]}"},
            {"X-API-Key": secrets[1]},
            {"X-API-Key": f"{secrets[1]}x"},
        ):
            for body in (b'{"ids": [1], "priority": "HIGH"}', b'{"ids": ["marmalade"]}', b"marmalade"):
                client.post("/ingest", content=body, headers={**headers, "Content-Type": "application/json"})
            client.get("/queue", headers=headers)
        signed_in = client.post("/session", json={"key": secrets[0]})
        client.post("/session", json={"key": "marmalade"})
        client.get("/queue")
        client.post("/queue/pause", json={"reason": "marmalade"})
        server.process.send_signal(signal.SIGTERM)
        output, _ = server.process.communicate(timeout=20)

    assert signed_in.status_code == 200
    assert "/session" in output
    for text in (*secrets, *client.cookies.values(), "marmalade"):
        assert text not in output
    for _, entry in made.values():
        assert entry.rpartition(":")[2] not in output
