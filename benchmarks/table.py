"""What all benchmarks share: the table they print, and servers as child processes."""

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

BIN = Path(sys.executable).parent

# More than any benchmark submits, so that it is the work that is measured.
NO_BOUNDS = {"SUBMIT_RATE": "1000000", "MAX_WAITING": "10000000", "MAX_BACKLOG_IDS": "10000000000"}


HOLDS, MISSED = "holds", "MISSED"
VERDICTS = frozenset({HOLDS, MISSED})
PAGE = "BENCHMARK_PAGE"  # the file that every row with a verdict is added to, if there is to be one


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table under a title that names the machine."""
    print(f"\n## {title}\n{machine()}\n\n{table(header, rows)}")
    if path := os.environ.get(PAGE):
        with Path(path).open("a", encoding="utf-8") as page:
            for row in rows:
                if VERDICTS.intersection(row):
                    print(json.dumps([title, header, row]), file=page)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def machine() -> str:
    """Return what it was measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def verdict(holds: bool) -> str:
    """Return how a target came out."""
    return HOLDS if holds else MISSED


def uvicorn(app: str, **environment: str) -> AbstractContextManager[int]:
    """Serve an app on a free port until the block is left; the port accepts when the block is entered."""
    return serving(app, environment)


@contextmanager
def serving(app: str, environment: Mapping[str, str], log: IO[bytes] | None = None) -> Iterator[int]:
    """Serve an app as `uvicorn` does; what it logs goes to `log`, by default where all else goes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    command = [os.fspath(BIN / "uvicorn"), app, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(command, env={**os.environ, **NO_BOUNDS, **environment}, stderr=log)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None:
                    raise RuntimeError(f"{app} ended with {process.returncode}") from None
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()
