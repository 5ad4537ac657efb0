"""What Sluice asks of the process it runs in: to be the only one, and to end cleanly on SIGTERM."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from sluice.settings import refuse_to_start


def claim_backlog() -> FileLock | None:
    """Refuse to start as one of several workers of one server; return the claim, to be kept while serving.

    Each worker would hold a backlog of its own: half of the statuses would be
    unknown to each, and the upstream would be called at twice its rate.
    """
    is_worker = multiprocessing.parent_process() or os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    if not is_worker:
        return None
    claim = FileLock(Path(tempfile.gettempdir()) / f"sluice-{os.getppid()}.lock", mode=0o600)
    try:
        claim.acquire(blocking=False)
    except Timeout:
        refuse_to_start(
            "the backlog is in memory, so there can be only one worker process: "
            "start with --workers 1 (or WEB_CONCURRENCY=1)"
        )
    return claim


@contextmanager
def sigterm(begin: Callable[[], object]) -> Iterator[None]:
    """Call `begin` when SIGTERM arrives, before the server's own handler, and let the process exit with 0.

    Does nothing where no server handles SIGTERM, or outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    server_handler = signal.getsignal(signal.SIGTERM)
    if not callable(server_handler):
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        begin()
        server_handler(number, frame)
        # uvicorn raises the signal again once all is done, which would turn the exit code into
        # 143. Blocked, it stays pending and the process ends as what it is: cleanly stopped.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, server_handler)
