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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.e2e.fleet_oracle import FleetCall
from tests.e2e.fleet_upstream import FleetUpstream, fleet_upstream
from tests.e2e.servers import (
    CLOCKS,
    PATIENCE,
    PLAIN,
    answer_when,
    client_of,
    gaps_of,
    held_port,
    recording_upstream,
    serving,
    spawn,
    wait_until,
    wait_until_it_answers,
)
from tests.e2e.submissions import BATCH_SIZE, Acknowledged, Submission, batch_id, call_keys

KILLS = int(os.environ.get("CRASH_KILLS", "30"))
CLIENTS = 4
MOST_WAITING = 60  # IDs
# The longer one outlasts a start-up, so that a pace that was forgotten would show.
INTERVALS = (0.3, 0.3, 1.5)
START_UP = 0.6  # seconds, about
# What two calls may lose against each other on the way through the loopback and two busy schedulers;
# the first of a process most, for it is the one that opens the connections. Stalls come on top.
NETWORK = 0.15
TOGETHER = 0.1  # the calls of one batch come within this many seconds, unless they can be told by their keys
# Nobody reads the pipe while the process lives.
QUIET = f"{PLAIN} --log-level warning"


class Life(NamedTuple):
    """One process: when it began, in monotonic seconds, and its `BATCH_INTERVAL`."""

    began: float
    interval: float


class Stall(NamedTuple):
    """From when until when nobody ran on this machine, in monotonic seconds."""

    began: float
    ended: float


class Remains(NamedTuple):
    """What the file held: keys of the upstream's calls that are done, and each ingestion's `seq`."""

    done: set[str]
    seqs: dict[str, int]


@dataclass
class Start:
    """A batch as the upstream saw it: calls that a process, the `life`th, made together; answered by `ended`."""

    at: float
    ended: float
    life: int
    owner: Acknowledged
    keys: list[str]


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"CRASH_SEED={seed}")
    return random.Random(seed)


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

    def __init__(self, url: str, upstream: FleetUpstream, rng: random.Random) -> None:
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
        called = {call.item for call in self._upstream.noted}
        return sum(len(each.submission.ids) for each in self.acknowledged) - len(called)


def start(file: Path, port: int, interval: float, url: str) -> subprocess.Popen[str]:
    settings = {"RETRY_BASE": "0.05", "RETRY_MAX": "0.2", "UPSTREAM_URL": url}
    return spawn(QUIET, PORT=str(port), DATABASE_URL=f"sqlite:///{file}", BATCH_INTERVAL=str(interval), **settings)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process, which must not have ended by itself before."""
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output


def remains_of(file: Path, folder: Path) -> Remains:
    """Read what a crash left, from a copy, so that the next process finds it as it was."""
    folder.mkdir()
    for part in file.parent.glob(f"{file.name}*"):
        shutil.copy(part, folder)
    with closing(sqlite3.connect(folder / file.name)) as copy:
        is_empty = copy.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
        query = "SELECT seq, ingestion_id, ids FROM ingestions JOIN ids USING (seq)"
        ingestions = [] if is_empty else copy.execute(query).fetchall()
        results = [] if is_empty else copy.execute("SELECT seq, position FROM results").fetchall()
    shutil.rmtree(folder)
    keys = {seq: call_keys(ingestion_id, array("I", ids)) for seq, ingestion_id, ids in ingestions}
    return Remains(
        done={keys[seq][position] for seq, position in results},
        seqs={ingestion_id: seq for seq, ingestion_id, _ in ingestions},
    )


@contextmanager
def noting_stalls() -> Iterator[list[Stall]]:
    """Note in the background, until the block is left, when nobody ran."""
    stalls: list[Stall] = []
    is_over = threading.Event()

    def note() -> None:
        at = time.monotonic()
        while not is_over.wait(0.01):
            before, at = at, time.monotonic()
            if at - before > 0.05:
                stalls.append(Stall(before, at))

    noting = threading.Thread(target=note)
    noting.start()
    try:
        yield stalls
    finally:
        is_over.set()
        noting.join()


def starts_of(calls: Sequence[FleetCall], owners: Mapping[str, Acknowledged]) -> list[Start]:
    """Group calls into batches: of one process and one ingestion, `BATCH_SIZE` at most, no key twice.

    A batch begins when the one before has ended, and what a process calls for the
    first time for one `batch_id` is not split. IDs tried again may be of several.
    """
    starts: list[Start] = []
    made: set[tuple[int, str]] = set()
    for call in sorted(calls):
        life, owner, last = int(call.caller), owners[call.key], starts[-1] if starts else None
        is_first = (life, call.key) not in made
        made.add((life, call.key))
        if (
            last
            and (last.life, last.owner) == (life, owner)
            and call.key not in last.keys
            and len(last.keys) < BATCH_SIZE
            and (
                call.at < max(last.ended, last.at + TOGETHER)
                or (is_first and batch_id(call.key) in map(batch_id, last.keys))
            )
        ):
            last.keys.append(call.key)
            last.ended = max(last.ended, call.until)
        else:
            starts.append(Start(call.at, call.until, life, owner, [call.key]))
    return starts


def earliest_next(before: Start, interval: float, stalls: Sequence[Stall]) -> float:
    """Return when the next batch can be called: its interval counts from when this one was, which is noted later.

    If nobody ran meanwhile, that had just ended when the call was noted.
    """
    lost = sum(stall.ended - stall.began for stall in stalls if abs(stall.ended - before.at) < NETWORK)
    return before.at - lost - NETWORK + interval


def live(process: subprocess.Popen[str], port: int, clients: Clients, rng: random.Random) -> None:
    """Let a process live for a while: at times not until it serves, at times until it has just acknowledged something.

    While it serves, submit something old again.
    """
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, START_UP))
        return
    with client_of(port) as client:
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
    with noting_stalls() as stalls, fleet_upstream() as upstream, held_port() as port:
        clients = Clients(f"http://127.0.0.1:{port}", upstream, random.Random(rng.random()))

        def begin(interval: float) -> subprocess.Popen[str]:
            lives.append(Life(time.monotonic(), interval))
            return start(file, port, interval, upstream.url_for(str(len(lives) - 1)))

        with clients.submitting():
            for number in range(KILLS):
                process = begin(rng.choice(INTERVALS))
                try:
                    live(process, port, clients, rng)
                finally:
                    kill(process)
                crashes.append(remains_of(file, tmp_path / str(number)))
            process = begin(INTERVALS[0])
        try:
            with client_of(port) as client:
                wait_until_it_answers(process, client)
                results = {each.ingestion_id: results_of(each, client) for each in clients.acknowledged}
        finally:
            kill(process)

    acknowledged = clients.acknowledged
    end = remains_of(file, tmp_path / "end")
    assert_every_ingestion_completed(acknowledged, results, end)
    assert_nothing_done_was_called_again(upstream.noted, crashes)
    starts = starts_of(upstream.noted, {key: each for each in acknowledged for key in each.call_keys})
    print(f"{len(acknowledged)} ingestions, {len(starts)} batches, {len(stalls)} stalls")
    assert len(starts) > KILLS / 2
    assert_pace(starts, lives, stalls)
    assert_order(starts, lives, stalls, acknowledged, end)


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


def assert_nothing_done_was_called_again(calls: Sequence[FleetCall], crashes: Sequence[Remains]) -> None:
    for life, crash in enumerate(crashes):
        assert not crash.done & {call.key for call in calls if int(call.caller) > life}


def assert_pace(starts: Sequence[Start], lives: Sequence[Life], stalls: Sequence[Stall]) -> None:
    slack = [after.at - earliest_next(before, lives[after.life].interval, stalls) for before, after in pairwise(starts)]
    print(f"no start was early, nor less than {min(slack):.4f} s from what would be")
    assert min(slack) > 0


def assert_order(
    starts: Sequence[Start],
    lives: Sequence[Life],
    stalls: Sequence[Stall],
    acknowledged: Sequence[Acknowledged],
    end: Remains,
) -> None:
    priorities = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
    ranks = {each: (priorities[each.submission.priority], end.seqs[each.ingestion_id]) for each in acknowledged}
    uncalled = {each: set(each.call_keys) for each in acknowledged}
    before: Start | None = None
    for batch in starts:
        # Between a decision and its calls lie a commit and more, but no decision comes before all this.
        life = lives[batch.life]
        decided_after = life.began
        if before:
            decided_after = max(decided_after, earliest_next(before, life.interval, stalls))
            if before.life == batch.life:
                decided_after = max(decided_after, before.ended)
        overtaken = [
            each
            for each in acknowledged
            if uncalled[each] and each.at < decided_after and ranks[each] < ranks[batch.owner]
        ]
        assert not overtaken, (batch, overtaken)
        uncalled[batch.owner].difference_update(batch.keys)
        before = batch


@pytest.mark.parametrize(("is_recorded", "calls"), [(False, [[1, 2, 3], [1, 2, 3], [4]]), (True, [[1, 2, 3], [4]])])
def test_first_start_after_a_crash_waits_for_the_interval_since_the_last(
    tmp_path: Path, is_recorded: bool, calls: list[list[int]]
) -> None:
    interval = 4.0
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path / 'sluice.db'}", "BATCH_INTERVAL": str(interval)}
    may_answer = threading.Event()

    with recording_upstream(1.5 if is_recorded else 0.0, answer_when(may_answer)) as upstream:
        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            ingestion_id = server.submit([1, 2, 3, 4], "LOW")
            if is_recorded:
                may_answer.set()
                status = f"/status/{ingestion_id}"
                wait_until(lambda: server.client.get(status).json()["progress"]["completed"] == 1)
            else:
                wait_until(lambda: len(upstream.calls) == 3)
            before = server.slots()
            server.process.kill()
        may_answer.set()

        with serving(**settings, UPSTREAM_URL=upstream.url) as server:
            restarted = time.monotonic()
            server.wait_until_complete(ingestion_id)
            slots = [*before, *server.slots()]

        batches = upstream.batches()
    assert [ids for _, ids in batches] == calls
    assert len({call.key for call in upstream.recorded}) == 4
    assert min(gaps_of(slots, batches)) > interval - CLOCKS
    # When a call was sent that was cut off, nobody knows: until the restart, as far as that goes.
    due = max(slots[0][0] + interval, restarted) if is_recorded else restarted + interval
    assert slots[1][0] < due + 2.0


def test_killed_while_it_makes_the_file_it_starts_again(tmp_path: Path, rng: random.Random) -> None:
    with recording_upstream() as upstream, held_port() as port:
        for number in range(8):
            file = tmp_path / f"{number}.db"
            process = start(file, port, 0.1, upstream.url)
            while not file.exists():
                assert process.poll() is None
            time.sleep(rng.uniform(0, 0.02))
            kill(process)

            with serving(DATABASE_URL=f"sqlite:///{file}", BATCH_INTERVAL="0.1", UPSTREAM_URL=upstream.url) as server:
                server.wait_until_complete(server.submit([1, 2, 3, 4], "LOW"))
