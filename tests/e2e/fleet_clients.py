"""Clients of a fleet: whatever becomes of its processes, they submit until they are answered, and look."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import httpx

from tests.e2e.fleet import Member
from tests.e2e.fleet_oracle import Sighting
from tests.e2e.fleet_upstream import FleetUpstream
from tests.e2e.servers import PATIENCE
from tests.e2e.submissions import Acknowledged, Submission

CLIENTS = 4
WATCHERS = 2
MOST_WAITING = 90  # IDs
THINKING = 4.0  # seconds between two submissions of a client, at most: together about what the fleet can do

T = TypeVar("T")


class Clients:
    """Threads that submit and threads that look at what became of it, at any web process."""

    def __init__(self, webs: Sequence[Member], upstream: FleetUpstream, rng: random.Random) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.sightings: list[Sighting] = []
        self.refusals = 0
        self._webs = webs
        self._upstream = upstream
        self._rng = rng
        self._first = 1
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Submit and look in the background; leaving the block lets each finish what it is at."""
        with ThreadPoolExecutor(CLIENTS + WATCHERS) as pool:
            running = [pool.submit(self._repeat, self._submit) for _ in range(CLIENTS)]
            running += [pool.submit(self._repeat, self._look) for _ in range(WATCHERS)]
            try:
                yield
            finally:
                self._is_over.set()
            for each in running:
                each.result()

    def _repeat(self, step: Callable[[httpx.Client], None]) -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            while not self._is_over.is_set():
                step(client)

    def _submit(self, client: httpx.Client) -> None:
        called = {call.item for call in self._upstream.noted}
        if sum(len(each.submission.ids) for each in self.acknowledged) - len(called) > MOST_WAITING:
            time.sleep(0.05)
            return
        submission = self._draw()
        self.acknowledged.append(Acknowledged(*self._post(client, submission), submission))
        if self._chance() < 0.1:
            old = self._one_of(self.acknowledged)
            assert self._post(client, old.submission)[1] == old.ingestion_id
        time.sleep(self._chance() * THINKING)

    def _draw(self) -> Submission:
        with self._lock:
            first = self._first
            self._first += self._rng.choice((1, 2, 3, 4, 7, 10))
            priority = self._rng.choice(("HIGH", "MEDIUM", "LOW"))
            return Submission(f"key-{first}", tuple(range(first, self._first)), priority)

    def _post(self, client: httpx.Client, submission: Submission) -> tuple[float, str]:
        """Submit, to one after another, until it is acknowledged; return when it was and the id."""
        body = {"ids": submission.ids, "priority": submission.priority}
        deadline = time.monotonic() + PATIENCE
        while True:
            url = self._one_of(self._webs).url
            try:
                response = client.post(f"{url}/ingest", json=body, headers={"Idempotency-Key": submission.key})
            except httpx.TransportError:
                time.sleep(0.02)
            else:
                if response.status_code == 200:
                    return time.monotonic(), response.json()["ingestion_id"]
                # 409: what it sent before is being accepted.
                assert response.status_code in (409, 503), response.text
                if response.status_code == 503:
                    assert int(response.headers["Retry-After"]) >= 0
                    self.refusals += 1
                time.sleep(0.1)
            assert time.monotonic() < deadline, submission

    def _look(self, client: httpx.Client) -> None:
        """See what is done of something recent: every process knows it, or says that it is unsure."""
        if not self.acknowledged:
            time.sleep(0.1)
            return
        each = self._one_of(self.acknowledged[-40:])
        what = "status" if self._chance() < 0.5 else "results"
        try:
            response = client.get(f"{self._one_of(self._webs).url}/{what}/{each.ingestion_id}")
        except httpx.TransportError:
            time.sleep(0.02)
            return
        if response.status_code == 200:
            keys = keys_in_status(response) if what == "status" else keys_in_results(response)
            self.sightings.append(Sighting(time.monotonic(), frozenset(keys)))
        else:
            assert response.status_code == 503, (response.url, response.text)
        time.sleep(0.1)

    def _chance(self) -> float:
        with self._lock:
            return self._rng.random()

    def _one_of(self, items: Sequence[T]) -> T:
        with self._lock:
            return self._rng.choice(items)


def keys_in_status(response: httpx.Response) -> set[str]:
    batches = response.json()["batches"]
    return {
        f"{batch['batch_id']}/{item}" for batch in batches if batch["status"] == "completed" for item in batch["ids"]
    }


def keys_in_results(response: httpx.Response) -> set[str]:
    lines = [json.loads(line) for line in response.iter_lines()]
    return {f"{line['batch_id']}/{line['id']}" for line in lines}


def listed(web: Member) -> dict[str, str]:
    """Return the status of each ingestion, in the order in which they were accepted."""
    statuses: dict[str, str] = {}
    url: str | None = f"{web.url}/ingestions?limit=100"
    while url:
        response = httpx.get(url, timeout=PATIENCE).raise_for_status()
        statuses |= {each["ingestion_id"]: each["status"] for each in response.json()["ingestions"]}
        cursor = response.json()["next_cursor"]
        url = cursor and f"{web.url}/ingestions?limit=100&cursor={cursor}"
    return dict(reversed(statuses.items()))


def wrong_results(web: Member, each: Acknowledged) -> str | None:
    """Wait until an ingestion is completed; return what is wrong with its results."""
    response = httpx.get(f"{web.url}/results/{each.ingestion_id}", params={"follow": True}, timeout=PATIENCE)
    lines = [json.loads(line) for line in response.raise_for_status().iter_lines()]
    found = [(line["id"], line["status"], line["data"]) for line in lines]
    expected = [(item, "completed", "ok") for item in each.submission.ids]
    return None if found == expected else f"{web.name} says of {each}: {found}"
