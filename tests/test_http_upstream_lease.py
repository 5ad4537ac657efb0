"""HttpUpstream when it may not send: what it is told at the last instant before each call."""

import asyncio

import pytest

from sluice.upstream import UpstreamUnavailable
from tests.http_server import HANG, SHORT_TIMEOUT, LocalServer, batch, process, serving

NOT_CALLED = "not called: another process runs the lane now"


@pytest.fixture
def server() -> LocalServer:
    return LocalServer()


def test_nothing_reaches_the_upstream_and_every_id_may_be_tried_again(server: LocalServer) -> None:
    results = process(server, batch(200, 201, 404), may_send=lambda: False)

    assert [type(each) for each in results] == [UpstreamUnavailable] * 3
    assert {str(each) for each in results} == {NOT_CALLED}
    assert [each.retry_after for each in results if isinstance(each, UpstreamUnavailable)] == [None] * 3
    assert (server.paths, server.heads) == ([], [])


def test_everything_reaches_it_while_it_may(server: LocalServer) -> None:
    results = process(server, batch(200, 201), batch(202), may_send=lambda: True)

    assert results == ["ok"]
    assert sorted(server.paths) == ["/items/200", "/items/201", "/items/202"]


def test_each_call_is_decided_by_itself(server: LocalServer) -> None:
    answers = iter([True, False, True])

    results = process(server, batch(200, 201, 202), may_send=lambda: next(answers))

    assert len(server.paths) == 2
    assert sorted(str(each) for each in results) == [NOT_CALLED, "ok", "ok"]


def test_connection_that_was_kept_is_no_way_around_it(server: LocalServer) -> None:
    may_send = True

    async def act() -> list[object]:
        nonlocal may_send
        async with serving(server, lambda: may_send) as upstream:
            await upstream.process(batch(200, 201))
            may_send = False
            return await upstream.process(batch(202, 203))

    results = asyncio.run(act())

    assert {str(each) for each in results} == {NOT_CALLED}
    assert sorted(server.paths) == ["/items/200", "/items/201"]


def test_it_is_asked_when_the_connection_is_there_and_not_before(server: LocalServer) -> None:
    asked: list[float] = []

    async def act() -> float:
        loop = asyncio.get_running_loop()
        connect = loop.create_connection
        connected: list[float] = []

        async def connect_slowly(*arguments: object, **options: object) -> object:
            await asyncio.sleep(0.05)
            connection = await connect(*arguments, **options)  # type: ignore[call-overload]
            connected.append(loop.time())
            return connection

        def may_send() -> bool:
            asked.append(loop.time())
            return False

        async with serving(server, may_send) as upstream:
            loop.create_connection = connect_slowly  # type: ignore[method-assign,assignment]
            await upstream.process(batch(200))
        (at,) = connected
        return at

    connected_at = asyncio.run(act())

    assert len(asked) == 1
    assert asked[0] >= connected_at
    assert server.paths == []


def test_refused_call_leaves_nothing_behind_for_the_next(server: LocalServer) -> None:
    answers = iter([False, False, True, True])

    results = process(server, batch(200, 201), batch(200, 201), may_send=lambda: next(answers))

    assert results == ["ok", "ok"]
    assert len(server.paths) == 2


def test_call_that_was_sent_while_it_might_be_ends_as_any_other(server: LocalServer) -> None:
    answers = iter([True, False])

    results = process(server, batch(HANG, 200), may_send=lambda: next(answers))

    assert sorted(str(each) for each in results) == [f"no answer within {SHORT_TIMEOUT:g} s", NOT_CALLED]
