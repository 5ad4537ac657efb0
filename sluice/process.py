"""What Sluice asks of the process it runs in: to be the only one, to have files enough, to end cleanly on SIGTERM."""

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sluice.settings import refuse_to_start


def claim_backlog() -> object:
    """Refuse to start as one of several workers of one server; return the claim, to be kept while serving.

    Each worker would hold a backlog of its own: half of the statuses would be
    unknown to each, and the upstream would be called at twice its rate.
    """
    is_worker = multiprocessing.parent_process() or os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    if not is_worker:
        return None
    from filelock import FileLock, Timeout  # noqa: PLC0415, hardly ever needed

    claim = FileLock(Path(tempfile.gettempdir()) / f"sluice-{os.getppid()}.lock", mode=0o600)
    try:
        claim.acquire(blocking=False)
    except Timeout:
        refuse_to_start(
            "the backlog is in memory, so there can be only one worker process: "
            "start with --workers 1 (or WEB_CONCURRENCY=1)"
        )
    return claim


def allow_open_files(count: int) -> None:
    """Let this process have `count` files and sockets open at once, as far as its host allows."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415, Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_server() -> None:
    """Have the server stop as its host would: accepting work that nothing will run is worse than a restart."""
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def no_collections() -> Iterator[None]:
    """Keep the garbage collector out: it would look again and again through what is just being loaded, to stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def on_stop(begin: Callable[[], object]) -> Iterator[None]:
    """Call `begin` when SIGTERM or SIGINT arrives, before the server's own handler; let SIGTERM end with exit code 0.

    Does nothing where no server handles them, or outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    server_handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        begin()
        server_handler = server_handlers[signal.Signals(number)]
        assert callable(server_handler)
        server_handler(number, frame)
        if number == signal.SIGTERM:
            # uvicorn raises the signal again once all is done, which would turn the exit code into
            # 143. Blocked, it stays pending and the process ends as what it is: cleanly stopped.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    handled = [number for number, handler in server_handlers.items() if callable(handler)]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, server_handlers[number])
