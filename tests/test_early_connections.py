"""Connections that an HttpUpstream makes shortly before the calls that need them, to a real local server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from sluice import early_connections, http_upstream
from sluice.early_connections import SHORTEST_LEAD
from sluice.http_upstream import TOGETHER, HttpUpstream
from tests.http_server import TIMEOUT, LocalServer, batch, keep_connections, response, serving

HELLO = b'"hello"'
ONCE = response(200, HELLO, "Connection: close")  # after this the connection is of no more use
IDS = (200, 201, 202)

Act = Callable[[HttpUpstream], Awaitable[None]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_connections(monkeypatch)


@pytest.fixture
def server() -> LocalServer:
    """A server that closes each connection once it has answered."""
    server = LocalServer()
    server.responses = dict.fromkeys(IDS, ONCE)
    return server


def visit(server: LocalServer, act: Act) -> None:
    """Do something with an upstream that calls the server."""

    async def visiting() -> None:
        async with serving(server) as upstream:
            await act(upstream)
        await server.until(lambda: server.open == 0)

    asyncio.run(visiting())


@contextmanager
def connecting(connect: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Have connections made once `connect` has returned, or not at all if it raises."""
    loop = asyncio.get_running_loop()
    create_connection = loop.create_connection

    async def connected(*arguments: object, **options: object) -> object:
        await connect()
        return await create_connection(*arguments, **options)  # type: ignore[call-overload]

    loop.create_connection = connected  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        loop.create_connection = create_connection  # type: ignore[method-assign]


async def refuse() -> None:
    raise ConnectionRefusedError


async def hang() -> None:
    await asyncio.sleep(TIMEOUT)


def test_next_batch_goes_out_on_connections_that_are_there(server: LocalServer) -> None:
    async def act(upstream: HttpUpstream) -> None:
        await upstream.process(batch(*IDS))
        upstream.prepare(3)
        await server.until(lambda: server.connections >= 6)

        assert await upstream.process(batch(*IDS)) == [HELLO] * 3
        assert (server.connections, len(server.paths)) == (6, 6)

    visit(server, act)


def test_nothing_is_sent_before_there_is_a_call(server: LocalServer) -> None:
    async def act(upstream: HttpUpstream) -> None:
        await upstream.process(batch(200))
        upstream.prepare(1)
        await server.until(lambda: server.connections >= 2)
        await asyncio.sleep(0.1)

        assert len(server.paths) == 1

    visit(server, act)


def test_as_many_are_made_as_the_batch_has_ids_once_it_is_known_where_to(server: LocalServer) -> None:
    async def act(upstream: HttpUpstream) -> None:
        upstream.prepare(3)
        await asyncio.sleep(0.1)
        assert server.connections == 0

        await upstream.process(batch(200))
        upstream.prepare(2)
        upstream.prepare(2)
        upstream.prepare(3)
        await server.until(lambda: server.connections >= 4)
        await asyncio.sleep(0.1)
        assert server.connections == 4

    visit(server, act)


def test_none_is_made_for_calls_that_find_one_that_was_kept(server: LocalServer) -> None:
    server.responses.clear()

    async def act(upstream: HttpUpstream) -> None:
        for _ in range(2):
            await upstream.process(batch(*IDS))
        for _ in range(3):
            upstream.prepare(3)
            await asyncio.sleep(0.05)
            await upstream.process(batch(*IDS))

        assert server.connections == 3

    visit(server, act)


def test_what_nobody_asks_for_is_closed(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_upstream, "KEEP_ALIVE", 1.0)

    async def act(upstream: HttpUpstream) -> None:
        await upstream.process(batch(200, 201))
        upstream.prepare(2)
        await server.until(lambda: server.connections >= 4)
        await server.until(lambda: server.open == 0)

        assert await upstream.process(batch(200, 201)) == [HELLO] * 2
        assert server.connections == 6

    visit(server, act)


def test_all_are_closed_in_the_end(server: LocalServer) -> None:
    async def act(upstream: HttpUpstream) -> None:
        await upstream.process(batch(*IDS))
        upstream.prepare(3)
        await server.until(lambda: server.connections >= 6)

    visit(server, act)


def test_those_that_the_server_closed_meanwhile_are_not_used(server: LocalServer) -> None:
    async def act(upstream: HttpUpstream) -> None:
        for _ in range(10):
            await upstream.process(batch(*IDS))
            made = server.connections
            upstream.prepare(3)
            await server.until(lambda made=made: server.connections >= made + 3)  # type: ignore[misc]
            server.close_all()
            await server.until(lambda: server.open == 0)

            assert await upstream.process(batch(*IDS)) == [HELLO] * 3

    visit(server, act)


@pytest.mark.parametrize("connect", [refuse, hang])
def test_one_that_comes_to_nothing_costs_no_call(server: LocalServer, connect: Callable[[], Awaitable[None]]) -> None:
    async def act(upstream: HttpUpstream) -> None:
        await upstream.process(batch(*IDS))
        with connecting(connect):
            upstream.prepare(3)
            await asyncio.sleep(0.1)

        assert await upstream.process(batch(*IDS)) == [HELLO] * 3

    visit(server, act)


def test_one_that_hangs_does_not_hold_up_the_end(server: LocalServer) -> None:
    async def act() -> float:
        loop = asyncio.get_running_loop()
        async with serving(server) as upstream:
            await upstream.process(batch(200))
            with connecting(hang):
                upstream.prepare(1)
                await asyncio.sleep(0.1)
            left_at = loop.time()
        return loop.time() - left_at

    assert asyncio.run(act()) < TIMEOUT / 2


def test_lead_is_as_long_as_connecting_takes(server: LocalServer) -> None:
    async def act(upstream: HttpUpstream) -> None:
        assert upstream.lead == SHORTEST_LEAD
        with connecting(lambda: asyncio.sleep(0.1)):
            await upstream.process(batch(200))
        assert upstream.lead >= SHORTEST_LEAD + 0.2

    visit(server, act)


def test_none_is_made_early_while_it_would_come_too_late_all_the_same(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(upstream: HttpUpstream) -> None:
        monkeypatch.setattr(early_connections, "LONGEST_LEAD", 0.1)
        with connecting(lambda: asyncio.sleep(0.1)):
            await upstream.process(batch(200))
        assert upstream.lead == 0.1
        upstream.prepare(1)
        await asyncio.sleep(0.1)
        assert server.connections == 1

        monkeypatch.setattr(early_connections, "LONGEST_LEAD", 600.0)
        upstream.prepare(1)
        await server.until(lambda: server.connections >= 2)

    visit(server, act)


def test_pace_counts_from_calls_that_had_to_wait_for_a_connection(server: LocalServer) -> None:
    sent: list[int] = []

    async def connect_late() -> None:
        await server.until(lambda: len(server.paths) >= 2)
        await asyncio.sleep(2 * TOGETHER)

    async def act() -> None:
        async with serving(server, on_sent=lambda: sent.append(len(server.paths))) as upstream:
            await upstream.process(batch(200))
            upstream.prepare(1)
            await server.until(lambda: server.connections >= 2)
            with connecting(connect_late):
                await upstream.process(batch(*IDS))

    asyncio.run(act())

    assert sent[:3] == [0, 1, 2]
