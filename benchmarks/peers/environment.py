"""What the peers need: their packages, in an environment of their own, and a Redis that keeps what it was given.

`PEERS_ENVIRONMENT` is the folder of the environment.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.servers import held_port

REQUIREMENTS = Path(__file__).parent.parent / "requirements-peers.txt"
FOLDER = Path(os.environ.get("PEERS_ENVIRONMENT", ".venv/peers"))
PATIENCE = 10.0  # seconds


def make_environment() -> Path:
    """Make the environment unless it is there; return its Python. pip says what cannot be had."""
    python, made = FOLDER / "bin/python", FOLDER / "made-from.txt"
    wanted = REQUIREMENTS.read_text()
    if not made.exists() or made.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
        lines = [line for line in wanted.splitlines() if not line.startswith("#")]
        # One by one: a peer that cannot be had is no reason to be without the others.
        pip = [os.fspath(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        failed = [line for line in lines if subprocess.run([*pip, line], check=False).returncode != 0]
        if not failed:
            made.write_text(wanted)
    return python.absolute()


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a server until the block is left; return its URL. What it has acknowledged is on disk, as in PostgreSQL."""
    with TemporaryDirectory() as folder, held_port() as port:
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "appendonly": "yes", "appendfsync": "always"}
        command = ["redis-server", "--save", ""]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE
            while subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True, check=False).returncode:
                if time.monotonic() > deadline:
                    raise TimeoutError("redis-server does not answer")
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
