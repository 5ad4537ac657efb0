"""What small requests and batch starts feel of million-ID bodies, and what such a body takes by itself."""

import asyncio
import http.client
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import datetime
from http import HTTPStatus
from itertools import pairwise
from multiprocessing import Process, Value
from statistics import median, quantiles
from threading import Thread
from typing import Any, NamedTuple

import httpx
import uvloop
from fastapi import FastAPI

from benchmarks.plateau import resident_megabytes, the_child
from benchmarks.table import print_table, uvicorn, verdict
from sluice.app import create_app
from sluice.schemas import ingest_request
from sluice.settings import Settings

COUNT = 1_000_000
SECONDS = 20
SENDERS = 2
RATE = 100  # small requests a second
CONNECTIONS = 16  # that take turns with them
INTERVAL = 0.2  # seconds
ROUNDS = 15
PIECE = 65_536  # bytes that a server hands on at once
MOST_P99 = 50.0  # ms
MOST_LATE = 20.0  # ms
MOST_BYTES = 6.0  # per waiting ID
MOST_RATIO = 1.3
HEADERS = {"Content-Type": "application/json"}


def large_body() -> bytes:
    """Return a body of a million IDs of all lengths, most of them long."""
    numbers = random.Random(1)
    ids = [numbers.randint(1, 1_000_000_007) for _ in range(COUNT)]
    return json.dumps({"ids": ids, "priority": "LOW"}).encode()


class Felt(NamedTuple):
    """What was felt under load: milliseconds that small requests took, and that batches started late."""

    small: list[float]
    late: list[float]
    bodies: int
    bytes_per_id: float


# Under load


def send_large(port: int, sent: Any) -> None:
    """Send one large body after another, on each of some connections, until the process is ended."""
    body = large_body()

    def send() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            while True:
                connection.request("POST", "/ingest", body, HEADERS)
                response = connection.getresponse()
                response.read()
                assert response.status == HTTPStatus.OK, response.status
                with sent.get_lock():
                    sent.value += 1

    for _ in range(SENDERS):
        Thread(target=send).start()


async def send_small(port: int) -> list[float]:
    """Return how long each small request took, from when it was due, at a steady rate."""
    body = b'{"ids":[1,2,3,4,5],"priority":"HIGH"}'
    head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    took: list[float] = []

    async def take_turns(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, RATE * SECONDS, CONNECTIONS):
            due = begun + number / RATE
            await asyncio.sleep(due - time.perf_counter())
            writer.write(head.encode() + body)
            assert b" 200 " in await reader.readuntil(b"\r\n")
            await reader.readuntil(b"}")
            took.append(1000 * (time.perf_counter() - due))
        writer.close()

    begun = time.perf_counter() + 0.1
    await asyncio.gather(*map(take_turns, range(CONNECTIONS)))
    return took


async def starts_late(port: int) -> list[float]:
    """Return how late, in ms against the interval after the start before, the batches of the last seconds started."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        slots: list[dict[str, Any]] = (await client.get("/slots?past=90")).json()["past"]
    starts = [datetime.fromisoformat(slot["started_at"]).timestamp() for slot in slots]
    return [1000 * (after - before - INTERVAL) for before, after in pairwise(starts)]


def felt(app: str, *, has_slots: bool, senders: bool = True) -> Felt:
    """Run a server under load."""
    settings = {"BATCH_INTERVAL": str(INTERVAL), "UPSTREAM_DELAY": "0.001", "LOG_LEVEL": "WARNING"}
    with uvicorn(app, **settings) as port:
        server = the_child()
        before = resident_megabytes(server)
        sent = Value("i", 0)
        others = Process(target=send_large, args=(port, sent))
        if senders:
            others.start()
            while not sent.value:
                time.sleep(0.05)
        try:
            small = uvloop.run(send_small(port))
            late = uvloop.run(starts_late(port)) if has_slots else []
        finally:
            if senders:
                others.kill()
                others.join()
        time.sleep(0.5)
        kept = (resident_megabytes(server) - before) * 1e6 / max(1, sent.value * COUNT)
        return Felt(small, late, sent.value, kept)


def row(name: str, run: Felt, *, is_judged: bool) -> list[str]:
    """Return what was felt of one server."""
    p50, p99 = median(run.small), quantiles(run.small, n=100)[98]
    holds = p99 < MOST_P99 and max(run.late, default=0) <= MOST_LATE and run.bytes_per_id <= MOST_BYTES
    return [
        name,
        str(run.bodies),
        *(f"{value:.1f}" for value in (p50, p99, max(run.small))),
        f"{max(run.late):.1f}" if run.late else "",
        f"{run.bytes_per_id:.2f}" if is_judged else "",
        verdict(holds) if is_judged else "",
    ]


# By itself


async def seconds_of(act: Callable[[], Awaitable[object]]) -> float:
    """Return how long something takes."""
    begun = time.perf_counter()
    await act()
    return time.perf_counter() - begun


def pieces_of(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return the ASGI `receive` of a request with this body."""
    starts = iter(range(0, len(body), PIECE))

    async def receive() -> dict[str, Any]:
        start = next(starts)
        return {"type": "http.request", "body": body[start : start + PIECE], "more_body": start + PIECE < len(body)}

    return receive


async def by_itself() -> list[list[str]]:
    """Post one body at a time to the app, and validate it in one go, taking turns."""
    app = create_app(Settings(batch_interval=1000, shutdown_grace=0))
    body = large_body()
    model = ingest_request(COUNT)

    async def in_one_go() -> None:
        receive = pieces_of(body)
        pieces = []
        while True:
            message = await receive()
            pieces.append(message["body"])
            if not message["more_body"]:
                break
        model.model_validate_json(b"".join(pieces))

    async with app.router.lifespan_context(app) as state:
        times = [
            (await seconds_of(lambda: post(app, state, body)), await seconds_of(in_one_go)) for _ in range(ROUNDS + 1)
        ]
    ours, theirs = (1000 * median(each) for each in zip(*times[1:], strict=True))
    return [
        ["read, pydantic in one go", f"{theirs:.0f}", "", ""],
        ["POST /ingest", f"{ours:.0f}", f"{ours / theirs:.2f} (≤ {MOST_RATIO})", verdict(ours / theirs <= MOST_RATIO)],
    ]


async def post(app: FastAPI, state: Any, body: bytes) -> None:
    """Post a body to an app, with no server in between."""
    statuses = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    target = {"scheme": "http", "method": "POST", "path": "/ingest", "query_string": b"", "root_path": ""}
    scope = {"type": "http", **target, "headers": headers, "state": dict(state or {})}
    await app(scope, pieces_of(body), send)
    assert statuses[0] == HTTPStatus.OK, statuses


if __name__ == "__main__":
    print_table(
        f"{RATE} small requests a second for {SECONDS} s beside {SENDERS} connections that only post million-ID bodies",
        ["server", "bodies", "p50 ms", "p99 ms", "max ms", "max late start ms", "bytes kept per ID", ""],
        [
            row("FastAPI with a pydantic body", felt("benchmarks.apps:plain", has_slots=False), is_judged=False),
            row("Sluice, no large bodies", felt("main:app", has_slots=True, senders=False), is_judged=False),
            row("Sluice", felt("main:app", has_slots=True), is_judged=True),
        ],
    )
    print_table(
        f"One million-ID body by itself: median of {ROUNDS}, taking turns",
        ["what", "ms", "ratio", ""],
        uvloop.run(by_itself()),
    )
