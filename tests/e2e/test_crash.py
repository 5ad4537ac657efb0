"""`kill -9` at random instants: what was acknowledged completes, what is done stays done, pace and order hold.

The random tests print their seed; `CRASH_SEED=… pytest tests/e2e/test_crash.py` draws the same again.
`CRASH_KILLS` is how often to kill.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

import httpx
import pytest

from tests.e2e.servers import (
    PLAIN,
    Call,
    RecordingHandler,
    RecordingServer,
    answer_ok,
    held_port,
    recording_upstream,
    serving,
    spawn,
    wait_until_it_answers,
)

KILLS = int(os.environ.get("CRASH_KILLS", "30"))
CLIENTS = 4
MOST_WAITING = 60  # IDs
BATCH_SIZE = 3
# The longer one outlasts a start-up, so that a pace that was forgotten would show.
INTERVALS = (0.2, 0.2, 0.9)
START_UP = 0.6  # seconds, about
# What two calls may lose against each other on the way through the loopback and two busy schedulers;
# the first of a process most, for it is the one that opens the connections.
NETWORK = 0.1
TOGETHER = 0.1  # the calls of one batch come within this many seconds
# Between a decision and its calls lies a commit: who is acknowledged meanwhile does not overtake.
COMMIT = 0.1
PATIENCE = 30.0
# Nobody reads the pipe while the process lives.
QUIET = f"{PLAIN} --log-level warning"


class Submission(NamedTuple):
    """What a client wants. Every ID is submitted once in a test."""

    key: str
    ids: tuple[int, ...]
    priority: str


class Acknowledged(NamedTuple):
    """A submission that was answered with an id, and when, in monotonic seconds."""

    at: float
    ingestion_id: str
    submission: Submission

    @property
    def call_keys(self) -> list[str]:
        return call_keys(self.ingestion_id, self.submission.ids)


class Life(NamedTuple):
    """One process: when it began, in monotonic seconds, and its `BATCH_INTERVAL`."""

    began: float
    interval: float


class Remains(NamedTuple):
    """What the file held at `at`, monotonic seconds: keys of the upstream's calls, and each ingestion's `seq`."""

    at: float
    done: set[str]
    started: set[str]
    seqs: dict[str, int]


class Start(NamedTuple):
    """A batch as the upstream saw it: the keys of the calls that came together."""

    at: float
    keys: list[str]
    is_again: bool


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"CRASH_SEED={seed}")
    return random.Random(seed)


def call_keys(ingestion_id: str, ids: Sequence[int]) -> list[str]:
    """Return the `Idempotency-Key` of the call for each ID."""
    return [f"{uuid5(UUID(ingestion_id), str(position // BATCH_SIZE))}/{item}" for position, item in enumerate(ids)]


def fail_some_once(handler: RecordingHandler) -> None:
    """Answer 500 to the first call for every tenth ID, and 200 to all others."""
    calls = [call for call in handler.server.recorded if call.item == handler.call.item]
    if handler.call.item % 10 == 0 and len(calls) == 1:
        handler.send_error(500)
    else:
        answer_ok(handler)


def post(client: httpx.Client, submission: Submission) -> httpx.Response:
    """Submit, with the same key over and over, until it is acknowledged."""
    body = {"ids": submission.ids, "priority": submission.priority}
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            response = client.post("/ingest", json=body, headers={"Idempotency-Key": submission.key})
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            if response.status_code == 200:
                return response
            assert response.status_code == 409, response.text  # what it sent before is being accepted
        assert time.monotonic() < deadline


class Clients:
    """Threads that submit, each until it is acknowledged, whatever becomes of the server meanwhile."""

    def __init__(self, url: str, upstream: RecordingServer, rng: random.Random) -> None:
        self.acknowledged: list[Acknowledged] = []
        self._url = url
        self._upstream = upstream
        self._rng = rng
        self._first = 1
        self._drawing = threading.Lock()
        self._is_over = threading.Event()

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Submit in the background; leaving the block lets each finish its submission."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(self._run) for _ in range(CLIENTS)]
            try:
                yield
            finally:
                self._is_over.set()
            for each in running:
                each.result()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url) as client:
            while not self._is_over.is_set():
                if self._waiting() > MOST_WAITING:
                    time.sleep(0.05)
                    continue
                self.submit(client)

    def submit(self, client: httpx.Client) -> None:
        """Submit something new and note how it was acknowledged."""
        submission = self._draw()
        ingestion_id = post(client, submission).json()["ingestion_id"]
        self.acknowledged.append(Acknowledged(time.monotonic(), ingestion_id, submission))

    def _draw(self) -> Submission:
        with self._drawing:
            first = self._first
            self._first += self._rng.choice((1, 2, 3, 4, 7, 10))
            ids = tuple(range(first, self._first))
            return Submission(f"key-{first}", ids, self._rng.choice(("HIGH", "MEDIUM", "LOW")))

    def _waiting(self) -> int:
        called = {call.item for call in self._upstream.recorded}
        return sum(len(each.submission.ids) for each in self.acknowledged) - len(called)


def start(file: Path, port: int, interval: float, upstream: RecordingServer) -> subprocess.Popen[str]:
    settings = {"RETRY_BASE": "0.05", "RETRY_MAX": "0.2", "UPSTREAM_URL": upstream.url}
    return spawn(QUIET, PORT=str(port), DATABASE_URL=f"sqlite:///{file}", BATCH_INTERVAL=str(interval), **settings)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process, which must not have ended by itself before."""
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output


def remains_of(file: Path, folder: Path) -> Remains:
    """Read what a crash left, from a copy, so that the next process finds it as it was."""
    at = time.monotonic()
    folder.mkdir()
    for part in file.parent.glob(f"{file.name}*"):
        shutil.copy(part, folder)
    with closing(sqlite3.connect(folder / file.name)) as copy:
        is_empty = copy.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
        query = "SELECT seq, ingestion_id, started, ids FROM ingestions JOIN ids USING (seq)"
        ingestions = [] if is_empty else copy.execute(query).fetchall()
        results = [] if is_empty else copy.execute("SELECT seq, position FROM results").fetchall()
    shutil.rmtree(folder)
    keys = {seq: call_keys(ingestion_id, array("I", ids)) for seq, ingestion_id, _, ids in ingestions}
    return Remains(
        at,
        done={keys[seq][position] for seq, position in results},
        started={key for seq, _, started, _ in ingestions for key in keys[seq][: started * BATCH_SIZE]},
        seqs={ingestion_id: seq for seq, ingestion_id, _, _ in ingestions},
    )


def starts_of(calls: Sequence[Call], crashes: Sequence[Remains]) -> list[Start]:
    """Group calls into batches: `BATCH_SIZE` at most, no key twice, `TOGETHER`.

    First attempts are of one `batch_id`. IDs tried again may be of several, also
    those that a crash kept from being called at all.
    """
    starts: list[Start] = []
    before: set[str] = set()
    for call in sorted(calls):
        crashed = {key for crash in crashes if crash.at < call.at for key in crash.started}
        last = starts[-1] if starts else None
        is_again = call.key in before or call.key in crashed
        if (
            last
            and call.at - last.at < TOGETHER
            and call.key not in last.keys
            and len(last.keys) < BATCH_SIZE
            and (batch_id(call.key) == batch_id(last.keys[0]) or (is_again and last.is_again))
        ):
            last.keys.append(call.key)
        else:
            before.update(last.keys if last else [])
            starts.append(Start(call.at, [call.key], call.key in before or call.key in crashed))
    return starts


def batch_id(call_key: str) -> str:
    return call_key.partition("/")[0]


def interval_at(at: float, lives: Sequence[Life]) -> float:
    # A call that was on its way when its process was killed may come a moment after the next began.
    return [life.interval for life in lives if life.began + START_UP / 4 < at][-1]


def live(process: subprocess.Popen[str], port: int, clients: Clients, rng: random.Random) -> None:
    """Let a process live for a while: at times not until it serves, at times until it has just acknowledged something.

    While it serves, submit something old again.
    """
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, START_UP))
        return
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_until_it_answers(process, client)
        if clients.acknowledged:
            old = rng.choice(clients.acknowledged)
            response = post(client, old.submission)
            assert response.json() == {"ingestion_id": old.ingestion_id}
            assert response.headers["Idempotency-Replayed"] == "true"
        time.sleep(rng.uniform(0, 0.8))
        if rng.random() < 0.5:
            clients.submit(client)
            process.kill()


def test_killed_at_random_instants_it_keeps_every_promise(tmp_path: Path, rng: random.Random) -> None:
    file = tmp_path / "sluice.db"
    lives: list[Life] = []
    crashes: list[Remains] = []
    with recording_upstream(0.05, fail_some_once) as upstream, held_port() as port:
        clients = Clients(f"http://127.0.0.1:{port}", upstream, random.Random(rng.random()))

        with clients.submitting():
            for number in range(KILLS):
                lives.append(Life(time.monotonic(), rng.choice(INTERVALS)))
                process = start(file, port, lives[-1].interval, upstream)
                try:
                    live(process, port, clients, rng)
                finally:
                    kill(process)
                crashes.append(remains_of(file, tmp_path / str(number)))
            lives.append(Life(time.monotonic(), INTERVALS[0]))
            process = start(file, port, lives[-1].interval, upstream)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                wait_until_it_answers(process, client)
                results = {each.ingestion_id: results_of(each, client) for each in clients.acknowledged}
        finally:
            kill(process)

    acknowledged = clients.acknowledged
    end = remains_of(file, tmp_path / "end")
    starts = starts_of(upstream.recorded, crashes)
    print(
        f"{len(acknowledged)} ingestions, {len(starts)} batches, {sum(each.is_again for each in starts)} of them again"
    )
    assert len(starts) > KILLS / 2
    assert_every_ingestion_completed(acknowledged, results, end)
    assert_nothing_done_was_called_again(upstream.recorded, crashes)
    assert_pace(starts, lives)
    assert_order(starts, acknowledged, end)


def results_of(each: Acknowledged, client: httpx.Client) -> list[dict[str, object]]:
    """Return the lines of an ingestion's results once it is completed."""
    response = client.get(f"/results/{each.ingestion_id}", params={"follow": True})
    return [json.loads(line) for line in response.raise_for_status().iter_lines()]


def assert_every_ingestion_completed(
    acknowledged: Sequence[Acknowledged], results: dict[str, list[dict[str, object]]], end: Remains
) -> None:
    # Had a submission that was repeated after a crash been accepted twice, there were more.
    assert end.seqs.keys() == {each.ingestion_id for each in acknowledged}
    assert len(end.seqs) == len(acknowledged)
    for each in acknowledged:
        lines = results[each.ingestion_id]
        assert [(line["id"], line["status"], line["data"]) for line in lines] == [
            (item, "completed", "ok") for item in each.submission.ids
        ]
    assert end.done == {key for each in acknowledged for key in each.call_keys}


def assert_nothing_done_was_called_again(calls: Sequence[Call], crashes: Sequence[Remains]) -> None:
    for crash in crashes:
        assert not crash.done & {call.key for call in calls if call.at > crash.at}


def assert_pace(starts: Sequence[Start], lives: Sequence[Life]) -> None:
    slack = [after.at - before.at - interval_at(after.at, lives) for before, after in pairwise(starts)]
    print(f"no two starts were closer than the interval and {min(slack):.4f} s")
    assert min(slack) > -NETWORK


def assert_order(starts: Sequence[Start], acknowledged: Sequence[Acknowledged], end: Remains) -> None:
    priorities = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
    ranks = {each: (priorities[each.submission.priority], end.seqs[each.ingestion_id]) for each in acknowledged}
    owners = {key: each for each in acknowledged for key in each.call_keys}
    uncalled = {each: set(each.call_keys) for each in acknowledged}
    for batch in starts:
        owner = owners[batch.keys[0]]
        overtaken = [
            each
            for each in acknowledged
            if uncalled[each] and each.at < batch.at - COMMIT and ranks[each] < ranks[owner]
        ]
        assert not overtaken, (batch, owner, overtaken)
        uncalled[owner].difference_update(batch.keys)


@pytest.mark.parametrize(("killed_after", "calls"), [(1.0, [[1, 2, 3], [1, 2, 3], [4]]), (2.0, [[1, 2, 3], [4]])])
def test_first_start_after_a_crash_waits_for_the_interval_since_the_last(
    tmp_path: Path, killed_after: float, calls: list[list[int]]
) -> None:
    interval = 3.0
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path / 'sluice.db'}", "BATCH_INTERVAL": str(interval)}
    with recording_upstream(delay=1.5) as upstream:
        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            ingestion_id = server.submit([1, 2, 3, 4], "LOW")
            time.sleep(killed_after)
            server.process.kill()

        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            restarted = time.monotonic()
            server.wait_until_complete(ingestion_id)

    (first, _), (second, _), *_ = starts = upstream.starts(gap=1.0)
    assert [ids for _, ids in starts] == calls
    assert len({call.key for call in upstream.recorded}) == 4
    # When a call was sent that was cut off, nobody knows: until the restart, as far as that goes.
    due = restarted + interval if len(calls) == 3 else max(first + interval, restarted)
    assert first + interval - NETWORK < second < due + 0.5


def test_killed_while_it_makes_the_file_it_starts_again(tmp_path: Path, rng: random.Random) -> None:
    with recording_upstream() as upstream, held_port() as port:
        for number in range(8):
            file = tmp_path / f"{number}.db"
            process = start(file, port, 0.1, upstream)
            while not file.exists():
                assert process.poll() is None
            time.sleep(rng.uniform(0, 0.02))
            kill(process)

            with serving(DATABASE_URL=f"sqlite:///{file}", BATCH_INTERVAL="0.1", UPSTREAM_URL=upstream.url) as server:
                server.wait_until_complete(server.submit([1, 2, 3, 4], "LOW"))
