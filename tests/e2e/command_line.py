"""The command line as a child process, through pipes and on a terminal."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import Any

from tests.e2e.servers import PATIENCE, ROOT, Server

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PACE = {"BATCH_INTERVAL": "0.3", "UPSTREAM_DELAY": "0.02"}
# One batch, and the next one long after any test.
SLOW = {"BATCH_INTERVAL": "3600", "UPSTREAM_DELAY": "0.02"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def url_of(server: Server | int) -> str:
    return f"http://127.0.0.1:{server if isinstance(server, int) else server.port}"


def environment(server: Server | int, key: str = "") -> dict[str, str]:
    return {**os.environ, "SLUICE_URL": url_of(server), "SLUICE_KEY": key}


def start(server: Server | int, *arguments: str, key: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sluice", *arguments],
        cwd=ROOT,
        env=environment(server, key),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sluice(server: Server | int, *arguments: str, code: int = 0, given: str = "", key: str = "") -> str:
    """Run a command to its end, with this exit code; return what it printed, or on failure what it complained of."""
    process = start(server, *arguments, key=key)
    output, complaint = process.communicate(given, timeout=PATIENCE)
    assert process.returncode == code, output + complaint
    assert "\x1b" not in output + complaint
    assert "Traceback" not in complaint
    return output if code == 0 else complaint


def submit_and_watch(server: Server, *ids: int, key: str = "") -> tuple[str, list[dict[str, Any]]]:
    """Submit IDs and watch from before the first batch starts to the end; return the ingestion's id and the lines.

    The server's client must be allowed to pause it.
    """
    server.wait_for_listeners(0)
    server.client.post("/queue/pause").raise_for_status()
    try:
        ingestion_id = sluice(server, "submit", *map(str, ids), key=key).strip()
        watching = start(server, "watch", ingestion_id, "--json", key=key)
        server.wait_for_listeners(1)
    finally:
        server.client.post("/queue/resume").raise_for_status()
    output, complaint = watching.communicate(timeout=PATIENCE)
    assert watching.returncode == 0, output + complaint
    return ingestion_id, [json.loads(line) for line in output.splitlines()]


def on_terminal(server: Server | int, *arguments: str, typed: str = "", key: str = "") -> tuple[int, str]:
    """Run a command on a terminal; return its exit code and all that it showed there, what was typed included."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sluice", *arguments],
        cwd=ROOT,
        env={**environment(server, key), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    return process.wait(PATIENCE), shown.decode()
