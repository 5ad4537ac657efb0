"""What breaks around it: the disk, the file, the upstream. Nothing acknowledged is lost, and it says what is wrong."""

import gzip
import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.servers import (
    BIN,
    PATIENCE,
    PLAIN,
    ROUNDING,
    RecordingHandler,
    RecordingServer,
    Server,
    answer_ok,
    free_port,
    gaps_of,
    hang,
    recording_upstream,
    serving,
    spawn,
    wait_until,
)

PAGE = 4096  # bytes, SQLite's default
IDS = list(range(1_000_000, 1_005_000))  # enough for pages of their own
UNLIMITED = resource.RLIM_INFINITY

SETPRIV = shutil.which("setpriv")
# Root may write whatever the file's mode says, unless it gave that up.
AS_ANYONE = f"{SETPRIV} --inh-caps=-all --bounding-set=-all {BIN}/{PLAIN}" if os.geteuid() == 0 else PLAIN
needs_setpriv = pytest.mark.skipif(os.geteuid() == 0 and SETPRIV is None, reason="setpriv (util-linux) is not there")


@pytest.fixture(scope="module")
def used_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with work done and work waiting, as a stopped server left it."""
    file = tmp_path_factory.mktemp("used") / "sluice.db"
    with serving(DATABASE_URL=f"sqlite:///{file}", BATCH_INTERVAL="0.05", UPSTREAM_DELAY="0") as server:
        server.wait_until_complete(server.submit(list(range(1, 100)), "HIGH"))
        server.client.post("/queue/pause")
        server.submit(IDS, "LOW")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
    assert list(file.parent.iterdir()) == [file]
    return file


@pytest.fixture
def file(used_file: Path, tmp_path: Path) -> Path:
    """Return a copy of the used file that a test may spoil."""
    return Path(shutil.copy(used_file, tmp_path))


def refusal(file: Path, command: str = PLAIN) -> str:
    """Start on a file that cannot be used; return the one line that says why."""
    process = spawn(command, PORT=str(free_port()), DATABASE_URL=f"sqlite:///{file}")
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 3, output
    (line,) = output.splitlines()
    beginning = f"sluice: DATABASE_URL: {file} "
    assert line.startswith(beginning)
    return line.removeprefix(beginning)


def refusal_of_untouched(file: Path, command: str = PLAIN) -> str:
    """Return why a start on a file is refused; the file must stay as it was."""
    before = file.read_bytes()

    reason = refusal(file, command)

    assert file.read_bytes() == before
    return reason


# The disk


def limit_file_size(server: Server, size: int) -> None:
    """Let the server write no file beyond `size` bytes, as if the disk were full there."""
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))


@pytest.mark.parametrize(("is_anything_written", "is_running"), [(True, False), (False, True)])
def test_full_disk_refuses_what_it_cannot_keep_and_recovers_by_itself(
    tmp_path: Path, is_anything_written: bool, is_running: bool
) -> None:
    file = tmp_path / "sluice.db"
    settings = {"DATABASE_URL": f"sqlite:///{file}", "BATCH_INTERVAL": "0.1"}
    body = {"ids": list(range(101, 111)), "priority": "HIGH"}
    key = {"Idempotency-Key": "once"}
    is_full = threading.Event()

    def answer(handler: RecordingHandler) -> None:
        if is_running and handler.call.item in (7, 8, 9):
            is_full.wait()
        answer_ok(handler)

    with recording_upstream(answer=answer) as upstream:
        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            kept = server.submit(list(range(1, 91)), "LOW")  # more than are called before the disk is full
            if is_running:
                wait_until(lambda: len(upstream.calls) == 9)
            else:
                wait_until(lambda: server.client.get(f"/status/{kept}").json()["progress"]["completed"] >= 2)

            limit_file_size(server, Path(f"{file}-wal").stat().st_size + 2000 if is_anything_written else 0)

            refused = [server.client.post("/ingest", json=body, headers=key) for _ in range(3)]
            assert [response.status_code for response in refused] == [503] * 3
            assert {response.headers["Content-Type"] for response in refused} == {"application/problem+json"}
            assert all(int(response.headers["Retry-After"]) > 0 for response in refused)
            assert [server.client.get(path).status_code for path in ("/readyz", "/healthz")] == [503, 200]
            is_full.set()
            recorded = sum(len(ids) for _, ids in server.slots())
            time.sleep(0.6)
            status = server.client.get(f"/status/{kept}").raise_for_status().json()
            results = server.client.get(f"/results/{kept}").raise_for_status().text.splitlines()
            server.client.get("/queue").raise_for_status()
            assert len(upstream.calls) <= recorded < 90
            assert status["status"] == "triggered"
            assert 3 <= len(results) <= recorded

            limit_file_size(server, UNLIMITED)

            assert server.client.get("/readyz").status_code == 200
            accepted = server.client.post("/ingest", json=body, headers=key)
            assert accepted.status_code == 200
            assert "Idempotency-Replayed" not in accepted.headers
            server.wait_until_complete(kept)
            server.wait_until_complete(accepted.json()["ingestion_id"])

        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            listed = server.client.get("/ingestions").json()["ingestions"]
            assert [each["ingestion_id"] for each in listed] == [accepted.json()["ingestion_id"], kept]
            assert [each["progress"]["completed"] for each in listed] == [4, 30]
        assert sorted(item for _, item in upstream.calls) == [*range(1, 91), *range(101, 111)]


def test_killed_on_a_full_disk_it_has_what_it_acknowledged(tmp_path: Path) -> None:
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path / 'sluice.db'}", "BATCH_INTERVAL": "0.1"}
    with recording_upstream() as upstream:
        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            kept = server.submit(list(range(1, 31)), "LOW")
            wait_until(lambda: len(upstream.calls) >= 6)
            limit_file_size(server, 0)
            assert server.client.post("/ingest", json={"ids": [101], "priority": "HIGH"}).status_code == 503
            server.process.kill()

        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            server.wait_until_complete(kept)
            listed = server.client.get("/ingestions").json()["ingestions"]

    assert [each["ingestion_id"] for each in listed] == [kept]
    assert {item for _, item in upstream.calls} == set(range(1, 31))


# The file


@needs_setpriv
def test_read_only_file_is_refused(file: Path) -> None:
    file.chmod(0o444)

    assert refusal_of_untouched(file, AS_ANYONE) == "cannot be written: it is read-only"


@needs_setpriv
@pytest.mark.parametrize("is_there", [True, False])
def test_file_in_a_read_only_folder_is_refused(file: Path, is_there: bool) -> None:
    if not is_there:
        file.unlink()
    file.parent.chmod(0o555)

    assert refusal(file, AS_ANYONE).startswith("cannot be ")


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = spawn(PLAIN, PORT=str(free_port()), DATABASE_URL=f"sqlite:///{tmp_path}/none/sluice.db")

    output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 3
    assert output == (
        f"sluice: DATABASE_URL: {tmp_path}/none/sluice.db"
        " cannot be opened: is its folder there, and may it be written?\n"
    )


@pytest.mark.parametrize("left", [10, 50, 100, PAGE - 1, PAGE, 2 * PAGE + 7, -2 * PAGE - 1, -PAGE])
def test_truncated_file_is_refused(file: Path, left: int) -> None:
    os.truncate(file, left % file.stat().st_size)

    assert "is damaged" in refusal_of_untouched(file)


@pytest.mark.parametrize(
    ("near", "shift", "bit"),
    [
        pytest.param(b"SQLite format 3", 3, 0, id="magic"),
        pytest.param(b"SQLite format 3", 16, 0, id="page size"),
        pytest.param(b"CREATE TABLE ingestions", 3, 0, id="SQL of the schema"),
        pytest.param(b" retry_at REAL", 0, 1, id="quotation mark in the schema"),
        pytest.param(b"paused_time REAL", 0, 0, id="other name of a column"),
        pytest.param(b"paused_time REAL", 0, 7, id="name that is no UTF-8"),
        pytest.param(array("I", IDS[2000:2002]).tobytes(), 0, 0, id="ID"),
    ],
)
def test_flipped_bit_is_refused(file: Path, near: bytes, shift: int, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(near) + shift] ^= 1 << bit
    file.write_bytes(content)

    assert "damaged" in refusal_of_untouched(file)


def test_row_that_makes_no_sense_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE ingestions SET priority = priority + 64")

    assert "damaged" in refusal_of_untouched(file)


def test_every_page_with_a_wrecked_head_is_refused(file: Path) -> None:
    sound = file.read_bytes()
    for page in range(1, len(sound) // PAGE, len(sound) // PAGE // 6):
        content = bytearray(sound)
        content[page * PAGE] ^= 0x80
        file.write_bytes(content)

        assert "is damaged" in refusal_of_untouched(file)


def test_refusal_touches_neither_the_file_nor_what_a_crash_left_beside_it(file: Path) -> None:
    with serving(DATABASE_URL=f"sqlite:///{file}") as server:
        server.submit([1], "HIGH")
        server.process.kill()
    for left in file.parent.glob("*-shm"):
        left.unlink()
    content = bytearray(file.read_bytes())
    content[content.index(array("I", IDS[2000:2002]).tobytes())] ^= 1
    file.write_bytes(content)
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}

    assert "damaged" in refusal_of_untouched(file)

    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before
    assert before.keys() == {file.name, f"{file.name}-wal"}


def test_foreign_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE users (name TEXT)")

    assert refusal_of_untouched(file) == "is the database of something else; name another file"


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("buy milk\n" * 1000)

    assert "is damaged" in refusal_of_untouched(file)


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sluice.db"
    folder.mkdir()

    assert refusal(folder).startswith("cannot be ")


def test_file_of_a_newer_sluice_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA user_version = 99")

    assert refusal_of_untouched(file).startswith("was written by a newer Sluice (schema 99, this one knows ")


def test_second_process_on_the_same_file_is_refused_and_the_first_goes_on(file: Path) -> None:
    with serving(DATABASE_URL=f"sqlite:///{file}") as server:
        assert refusal(file) == "is in use by another process"

        server.submit([1], "HIGH")


def test_backup_in_rollback_mode_is_taken_up(file: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("VACUUM INTO ?", (str(backup),))

    with serving(DATABASE_URL=f"sqlite:///{backup}") as server:
        listed = server.client.get("/ingestions").json()["ingestions"]

    assert [each["progress"]["total_ids"] for each in listed] == [len(IDS), 99]


def test_file_locked_by_another_program_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")

        assert refusal(file) == "is in use by another process"


def test_file_that_another_program_is_reading_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM ingestions").fetchone()

        assert refusal(file) == "is in use by another process"


# The upstream


def reset(handler: RecordingHandler) -> None:
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.connection.close()


def trickle_a_head(handler: RecordingHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nX-Long: ")


def trickle_a_body(handler: RecordingHandler) -> None:
    trickle(handler, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")


def trickle(handler: RecordingHandler, beginning: bytes) -> None:
    handler.wfile.write(beginning)
    while True:  # until nobody reads it any more, which ends it with a `ConnectionError`
        handler.wfile.write(b"1")
        time.sleep(0.03)


def answer_garbage(handler: RecordingHandler) -> None:
    handler.close_connection = True
    handler.wfile.write(random.Random(3).randbytes(5000))


def break_off(handler: RecordingHandler) -> None:
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")


def answer_10_mb(handler: RecordingHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
    handler.wfile.write(b"1" * 10_000_000)


def answer_10_mb_in_chunks(handler: RecordingHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        handler.wfile.write(b"2710\r\n%b\r\n" % (b"1" * 10_000))


COMPRESSED = gzip.compress(b"1" * 10_000_000)  # made once, for that takes long


def answer_10_mb_compressed(handler: RecordingHandler) -> None:
    length = len(COMPRESSED)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % length)
    handler.wfile.write(COMPRESSED)


def redirect_to_itself(handler: RecordingHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % handler.path.encode())


Fault = Callable[[RecordingHandler], None]

INTERVAL = 4.0
TIMEOUT = 3.0  # of those that never answer
NO_ANSWER = "no answer within 3 s"
TOO_LARGE = "the answer has more than 65536 bytes (MAX_RESULT_BYTES)"
# What it leads to, and after how many attempts.
FAULTS: dict[Fault, tuple[str, int]] = {
    hang: (NO_ANSWER, 2),
    reset: ("ReadError", 2),
    trickle_a_head: (NO_ANSWER, 2),
    trickle_a_body: (NO_ANSWER, 2),
    answer_garbage: ("RemoteProtocolError", 2),
    break_off: ("RemoteProtocolError", 2),
    answer_10_mb: (TOO_LARGE, 1),
    answer_10_mb_in_chunks: (TOO_LARGE, 1),
    answer_10_mb_compressed: (TOO_LARGE, 1),
    redirect_to_itself: ("answered 302", 1),
}


class Ordeal(NamedTuple):
    """What was submitted to a lane, and the upstream with a fault that it calls."""

    ingestion_id: str
    upstream: RecordingServer


@pytest.fixture(scope="module")
def ordeals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[Fault, Ordeal]]]:
    """Run a lane for each fault, all in one server: their slots, which are long, pass side by side."""
    folder = tmp_path_factory.mktemp("ordeals")
    settings = {
        "DATABASE_URL": f"sqlite:///{folder / 'sluice.db'}",
        "LANES": str(folder / "lanes.json"),
        "BATCH_INTERVAL": str(INTERVAL),
        "UPSTREAM_ATTEMPTS": "2",
        "RETRY_BASE": "0",
    }
    with ExitStack() as stack:
        upstreams = {fault: stack.enter_context(recording_upstream(answer=failing_1(fault))) for fault in FAULTS}
        lanes = [
            {
                "name": fault.__name__,
                "url": upstream.url,
                "timeout": TIMEOUT if FAULTS[fault][0] == NO_ANSWER else PATIENCE,
            }
            for fault, upstream in upstreams.items()
        ]
        (folder / "lanes.json").write_text(json.dumps({"lanes": lanes}))
        server = stack.enter_context(serving(**settings))
        yield server, {fault: Ordeal(submit(server, fault.__name__), upstreams[fault]) for fault in FAULTS}


def failing_1(fault: Fault) -> Fault:
    """Return what does its worst to ID 1 and answers all others."""
    return lambda handler: (fault if handler.call.item == 1 else answer_ok)(handler)


def submit(server: Server, lane: str) -> str:
    body = {"ids": [1, 2, 3, 4, 5, 6], "priority": "LOW", "lane": lane}
    return str(server.client.post("/ingest", json=body).raise_for_status().json()["ingestion_id"])


@pytest.mark.parametrize("fault", FAULTS)
def test_upstream_at_its_worst_costs_only_the_id_it_fails(
    ordeals: tuple[Server, dict[Fault, Ordeal]], fault: Fault
) -> None:
    server, (ingestion_id, upstream) = ordeals[0], ordeals[1][fault]
    error, attempts = FAULTS[fault]

    server.wait_until_complete(ingestion_id)

    first, second = server.client.get(f"/status/{ingestion_id}").json()["batches"]
    assert (first["status"], second["status"]) == ("failed", "completed")
    assert first["failed"] == [{"id": 1, "error": error, "attempts": attempts}]
    results = [json.loads(line) for line in server.client.get(f"/results/{ingestion_id}").text.splitlines()]
    assert [(line["id"], line.get("data"), line.get("error"), line["attempts"]) for line in results] == [
        (1, None, error, attempts),
        *((item, "ok", None, 1) for item in range(2, 7)),
    ]
    batches = upstream.batches()
    assert [ids for _, ids in batches] == [[1, 2, 3], *[[1]] * (attempts - 1), [4, 5, 6]]
    gaps = gaps_of(server.slots(fault.__name__), batches)
    assert min(gaps) >= INTERVAL - ROUNDING
    # Were it counted from the end, it would be longer by what the fault lasts, which is the timeout at most.
    assert max(gaps) < INTERVAL + TIMEOUT - 0.1
