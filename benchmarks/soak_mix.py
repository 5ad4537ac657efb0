"""What is asked in a soak: every kind of request that there is, what may be answered, and what was."""

import asyncio
import json
import random
import time
from array import array
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import accumulate, count
from math import inf
from typing import Any

from benchmarks.soak_client import Answer, Client, request

PRIORITIES = ("HIGH", "MEDIUM", "LOW")
BATCH_SIZE = 3
URGENT = 1.5  # ingestions a second that are of each of the two upper priorities: those alone do not fill all slots
YOUNG = 20.0  # seconds for which nothing can have expired
LARGE, HUGE = 10_000, 1_000_000  # IDs
LARGEST_ID = 1_000_000_007
STRANGER = "00000000-0000-4000-8000-000000000000"
CLIENT_TIMEOUT = 5.0  # seconds, the server's setting
LET_GO = 15.0  # seconds, at most, from when a silent client's time is up until it is cut off

OK, BUSY = HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE
# What comes as often as this in a thousand.
MIX = {
    "submit": 230,
    "submit once": 40,
    "submit again": 10,
    "submit 10,000 IDs": 1,
    "status": 295,
    "results": 40,
    "queue": 20,
    "slots": 20,
    "list": 10,
    "forecast": 10,
    "metrics": 3,
    "cancel": 255,
    "reprioritise": 10,
    "retry": 4,
    "wrong": 48,
    "listen": 2,
    "hostile": 2,
}
KINDS, WEIGHTS = [*MIX], [*accumulate(MIX.values())]
WRONG = (
    ("POST", "/ingest", "submit", b'{"ids":[1,"2"],"priority":"LOW"}', 422),
    ("POST", "/ingest", "submit", b'{"ids":[],"priority":"LOW"}', 422),
    ("POST", "/ingest", "submit", b'{"ids":[1],"priority":"LOW","lane":"none"}', 422),
    ("POST", "/ingest", "submit", b'{"ids":[1', 400),
    ("POST", "/ingest", "", b'{"ids":[1],"priority":"LOW"}', 401),
    ("POST", "/ingest", "wrong", b'{"ids":[1],"priority":"LOW"}', 401),
    ("POST", "/ingest", "read", b'{"ids":[1],"priority":"LOW"}', 403),
    ("GET", "/queue", "submit", b"", 403),
    ("GET", f"/status/{STRANGER}", "read", b"", 404),
    ("DELETE", f"/ingestions/{STRANGER}", "admin", b"", 404),
    ("GET", "/nowhere", "read", b"", 404),
    ("PUT", "/ingest", "submit", b"", 405),
    ("GET", "/ingestions?limit=0", "read", b"", 422),
)


@dataclass(slots=True)
class Move:
    """Another priority: when it was asked for, when that was answered, and whether it was made."""

    asked_at: float
    priority: int
    answered_at: float = inf
    is_made: bool = False


@dataclass(slots=True)
class Submitted:
    """An acknowledged ingestion with the IDs from `first` on. Times are monotonic seconds."""

    ingestion_id: str
    first: int
    size: int
    priority: int
    sent_at: float
    acknowledged_at: float
    cancel_at: float = inf
    cancelled: int | None = None  # batches
    moves: list[Move] = field(default_factory=list)

    @property
    def batches(self) -> int:
        """How many there are."""
        return -(-self.size // BATCH_SIZE)


@dataclass
class Kind:
    """What came of one kind of request: the milliseconds from when each was due, and the statuses."""

    took: "array[float]" = field(default_factory=lambda: array("f"))
    statuses: Counter[str] = field(default_factory=Counter)


class Mix:
    """Draws requests, makes them, and notes what came of them."""

    def __init__(self, port: int, keys: dict[str, str], seed: int) -> None:
        """Take the secrets of the keys, by their role."""
        self.kinds: dict[str, Kind] = {}
        self.submitted: dict[str, Submitted] = {}
        self.unexpected: list[str] = []
        self.rate = 1000.0  # requests a second, about
        self.tasks: set[asyncio.Future[None]] = set()
        self._headers = {role: {"Authorization": f"Bearer {secret}"} for role, secret in keys.items()}
        self._headers |= {"": {}, "wrong": {"X-API-Key": "sluice_wrong"}}
        self._client = Client(port)
        self._port = port
        self._random = random.Random(seed)
        self._waiting: list[Submitted] = []  # as far as is known here
        self._recent: deque[Submitted] = deque(maxlen=1000)
        self._with_keys: deque[tuple[str, bytes, Submitted]] = deque(maxlen=100)
        self._numbers = count(1)
        # One for all, for it takes a second to make.
        self._huge = body(LARGEST_ID - HUGE, HUGE, "LOW")
        self._acts: dict[str, Callable[[float], Awaitable[object]]] = {
            "submit": lambda due: self._submit("submit", due),
            "submit once": lambda due: self._submit("submit once", due, key=f"soak-{next(self._numbers)}"),
            "submit again": self._submit_again,
            "submit 10,000 IDs": lambda due: self.submit_large("submit 10,000 IDs", due),
            "status": self._status,
            "results": self._results,
            "queue": lambda due: self._look("queue", "/queue", due),
            "slots": lambda due: self._look("slots", "/slots?past=20&coming=20", due),
            "list": lambda due: self._look("list", "/ingestions?limit=20", due),
            "forecast": self._forecast,
            "metrics": lambda due: self._look("metrics", "/metrics", due),
            "cancel": self._cancel_one,
            "reprioritise": self._reprioritise,
            "retry": self._retry,
            "wrong": self._wrong,
            "listen": self._listen,
            "hostile": self._hostile,
        }

    def draw(self) -> str:
        """Return what is to be asked next."""
        return self._random.choices(KINDS, cum_weights=WEIGHTS)[0]

    async def act(self, kind: str, due: float) -> None:
        """Ask it. It was due then: that is when its time begins."""
        await self._acts[kind](due)

    def spawn(self, work: Awaitable[object]) -> None:
        """Do something beside everything else."""
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    async def end(self) -> None:
        """Wait for all that is on its way."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def read(self, path: str) -> Answer:
        """Return what is answered to somebody who may see everything."""
        return await self._client.ask(request("GET", path, self._headers["read"]))

    async def command(self, path: str) -> Answer:
        """Have an administrator post something that needs no body."""
        return await self._client.ask(request("POST", path, self._headers["admin"]))

    def _ended(self, task: asyncio.Future[None]) -> None:
        self.tasks.discard(task)
        if (error := task.exception()) is not None:
            self.unexpected.append(f"the load itself failed: {error!r}")

    # Submissions

    async def submit_large(self, kind: str, due: float) -> None:
        """Submit many IDs, and cancel what is left of them after a while."""
        is_huge = kind == "submit 1,000,000 IDs"
        submitted = await self._submit(
            kind, due, LARGEST_ID - HUGE if is_huge else 1, HUGE if is_huge else LARGE, self._huge if is_huge else b""
        )
        if submitted is not None:
            await asyncio.sleep(self._random.uniform(1, 5))
            await self._cancel(submitted, time.monotonic())

    async def _submit(  # noqa: PLR0913, PLR0917 - what is left out is drawn
        self, kind: str, due: float, first: int = 0, size: int = 0, text: bytes = b"", key: str = ""
    ) -> Submitted | None:
        priority = PRIORITIES.index("LOW") if size else self._draw_priority()
        size = size or self._random.randint(1, 9)
        first = first or self._random.randint(1, LARGEST_ID - 9)
        text = text or body(first, size, PRIORITIES[priority])
        sent_at = time.monotonic()
        answer = await self._ask(kind, due, "POST", "/ingest", "submit", (OK, BUSY), text, key)
        if answer is None or answer.status != OK:
            return None
        ingestion_id = json.loads(answer.body)["ingestion_id"]
        submitted = Submitted(ingestion_id, first, size, priority, sent_at, time.monotonic())
        self.submitted[ingestion_id] = submitted
        if size <= 9:
            self._waiting.append(submitted)
            self._recent.append(submitted)
        if key:
            self._with_keys.append((key, text, submitted))
        return submitted

    async def _submit_again(self, due: float) -> None:
        if not self._with_keys:
            return
        key, text, submitted = self._random.choice(self._with_keys)
        if submitted.acknowledged_at < due - YOUNG:
            return
        if self._random.random() < 0.2:
            await self._ask("submit again", due, "POST", "/ingest", "submit", (422,), text.replace(b"[", b"[7,"), key)
            return
        answer = await self._ask("submit again", due, "POST", "/ingest", "submit", (OK,), text, key)
        if answer and json.loads(answer.body) != {"ingestion_id": submitted.ingestion_id}:
            self.unexpected.append("submit again: another ingestion_id")

    def _draw_priority(self) -> int:
        return self._random.choices((0, 1, 2), (URGENT, URGENT, max(URGENT, self.rate / 4)))[0]

    # Reads

    async def _look(self, kind: str, path: str, due: float) -> None:
        await self._ask(kind, due, "GET", path, "read", (OK,))

    async def _status(self, due: float) -> None:
        if (submitted := self._draw_young(due)) is not None:
            answer = await self._ask("status", due, "GET", f"/status/{submitted.ingestion_id}", "submit", (OK,))
            if answer and json.loads(answer.body)["progress"]["total_ids"] != submitted.size:
                self.unexpected.append("status: another number of IDs")

    async def _results(self, due: float) -> None:
        if (submitted := self._draw_young(due)) is not None:
            await self._ask("results", due, "GET", f"/results/{submitted.ingestion_id}", "submit", (OK,))

    async def _forecast(self, due: float) -> None:
        await self._ask("forecast", due, "POST", "/forecast", "submit", (OK,), b'{"count":30}')

    def _draw_young(self, now: float) -> Submitted | None:
        """Return what cannot have expired yet."""
        submitted = self._random.choice(self._recent) if self._recent else None
        return submitted if submitted and submitted.acknowledged_at > now - YOUNG else None

    # Steering

    def _draw_waiting(self) -> Submitted | None:
        if not self._waiting:
            return None
        place = self._random.randrange(len(self._waiting))
        self._waiting[place], self._waiting[-1] = self._waiting[-1], self._waiting[place]
        return self._waiting.pop()

    async def _cancel_one(self, due: float) -> None:
        if (submitted := self._draw_waiting()) is not None:
            await self._cancel(submitted, due)

    async def _cancel(self, submitted: Submitted, due: float) -> None:
        submitted.cancel_at = now = time.monotonic()
        expected = (OK, 404) if submitted.acknowledged_at < now - YOUNG else (OK,)
        path = f"/ingestions/{submitted.ingestion_id}"
        answer = await self._ask("cancel", due, "DELETE", path, "admin", expected)
        if answer is not None and answer.status == OK:
            submitted.cancelled = json.loads(answer.body)["progress"]["cancelled"]

    async def _reprioritise(self, due: float) -> None:
        if (submitted := self._draw_waiting()) is None:
            return
        now, priority = time.monotonic(), self._draw_priority()
        move = Move(now, priority)
        submitted.moves.append(move)
        expected = (OK, 404, 409) if submitted.acknowledged_at < now - YOUNG else (OK, 409)
        text = b'{"priority":"%s"}' % PRIORITIES[priority].encode()
        path = f"/ingestions/{submitted.ingestion_id}"
        answer = await self._ask("reprioritise", due, "PATCH", path, "admin", expected, text)
        if answer is not None:
            move.answered_at = time.monotonic()
            move.is_made = answer.status == OK
        self._waiting.append(submitted)

    async def _retry(self, due: float) -> None:
        if (submitted := self._draw_young(due)) is not None:
            path = f"/ingestions/{submitted.ingestion_id}/retry"
            await self._ask("retry", due, "POST", path, "admin", (OK, 409))

    async def _wrong(self, due: float) -> None:
        method, path, key, text, status = self._random.choice(WRONG)
        await self._ask("wrong", due, method, path, key, (status,), text)

    # Strangers

    async def _listen(self, due: float) -> None:
        submitted = self._draw_young(due)
        path = f"/events/{submitted.ingestion_id}" if submitted and self._random.random() < 0.7 else "/events"
        until = time.monotonic() + self._random.uniform(0.5, 8)
        reads = self._random.random() < 0.8
        status, _ = await self._talk(request("GET", path, self._headers["read"]), until, reads=reads)
        self._note("listen", due, status, ("200", "204", "not read"))

    async def _hostile(self, due: float) -> None:
        """Send a head byte by byte, half of a body, or nothing, and see to it that the server lets go of it."""
        begun = time.monotonic()
        head = request("POST", "/ingest", self._headers["submit"], b" " * 1000)
        sent, drips = self._random.choice(((b"", False), (head[:40], True), (head[:-500], False)))
        status, is_closed = await self._talk(sent, begun + CLIENT_TIMEOUT + LET_GO, drips=drips)
        what = f"{len(sent)} bytes, drips={drips}, {status}, {time.monotonic() - begun:.1f} s".encode()
        self._note("hostile", due, status if is_closed else "kept", ("408", "closed"), what)

    async def _talk(self, text: bytes, until: float, *, reads: bool = True, drips: bool = False) -> tuple[str, bool]:
        """Send a text, and read until it is time to leave; return the status and whether the server ended it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=4096)
        received, is_closed = b"", False
        writer.write(text)
        while not is_closed and (left := until - time.monotonic()) > 0:
            if not reads:
                await asyncio.sleep(left)
                received = b"HTTP/1.1 not read"
                break
            try:
                async with asyncio.timeout(min(left, 0.5)):
                    data = await reader.read(65_536)
            except TimeoutError:
                pass
            except ConnectionError:
                is_closed = True  # what was still sent had nobody to read it: every further read would fail at once
            else:
                received = received or data[:12]
                is_closed = not data
            if drips and not (received or is_closed):
                writer.write(b"x")
        writer.transport.abort()
        return received.decode()[9:] or "closed", is_closed

    # What came of it

    async def _ask(  # noqa: PLR0913, PLR0917 - all of it is said each time
        self,
        kind: str,
        due: float,
        method: str,
        path: str,
        key: str,
        expected: Sequence[int],
        text: bytes = b"",
        idempotency_key: str = "",
    ) -> Answer | None:
        headers = self._headers[key]
        if idempotency_key:
            headers = {**headers, "Idempotency-Key": idempotency_key}
        try:
            answer = await self._client.ask(request(method, path, headers, text))
        except (ConnectionError, TimeoutError) as error:
            self._note(kind, due, type(error).__name__, ())
            return None
        self._note(kind, due, str(answer.status), [str(int(status)) for status in expected], answer.body)
        if answer.status == BUSY and "retry-after" not in answer.headers:
            self.unexpected.append(f"{kind}: 503 without Retry-After: {answer.body!r}")
        return answer

    def _note(self, kind: str, due: float, status: str, expected: Sequence[str], text: bytes = b"") -> None:
        noted = self.kinds.setdefault(kind, Kind())
        noted.took.append(1000 * (time.monotonic() - due))
        noted.statuses[status] += 1
        if status not in expected:
            self.unexpected.append(f"{kind}: {status} {text[:300].decode(errors='replace')}")


def body(first: int, size: int, priority: str) -> bytes:
    """Return the body of a submission of the IDs from `first` on."""
    return json.dumps({"ids": [*range(first, first + size)], "priority": priority}, separators=(",", ":")).encode()
