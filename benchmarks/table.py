"""What all benchmarks share: the table they print, and servers as child processes."""

import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table under a title that names the machine."""
    print(f"\n## {title}\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def verdict(holds: bool) -> str:
    """Return how a target came out."""
    return "holds" if holds else "MISSED"


@contextmanager
def uvicorn(app: str, **environment: str) -> Iterator[int]:
    """Serve an app on a free port until the block is left; the port accepts when the block is entered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    command = [os.fspath(BIN / "uvicorn"), app, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(command, env={**os.environ, **environment})
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
