"""The command line as a child process, through pipes and on a terminal."""

import os
import pty
import re
import select
import subprocess
import sys
import time

from tests.e2e.servers import ROOT, Server

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PACE = {"BATCH_INTERVAL": "0.3", "UPSTREAM_DELAY": "0.02"}
SLOW = {"BATCH_INTERVAL": "60", "UPSTREAM_DELAY": "0.02"}
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
    output, complaint = process.communicate(given, timeout=40)
    assert process.returncode == code, output + complaint
    assert "\x1b" not in output + complaint
    assert "Traceback" not in complaint
    return output if code == 0 else complaint


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
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    return process.wait(timeout=10), shown.decode()
