"""How much a client may send, how slow it may be and how many there may be, in virtual time."""

from collections.abc import Iterator

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sluice import process
from sluice.connection import Connection, Limits, guard
from tests.connections import CHUNKED, GET, POST, WAIT, Client, Server
from tests.virtual import VirtualLoop

TIMEOUT = 20.0
JUST_BEFORE, JUST_AFTER = TIMEOUT - 1.5, TIMEOUT + 1.5  # a sweep a second


@pytest.fixture
def server(loop: VirtualLoop) -> Server:
    return Server(loop)


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server)


def test_request_within_the_limits_is_answered_and_the_connection_kept(client: Client) -> None:
    client.send(GET).send(GET)

    assert client.statuses == [200, 200]
    assert not client.is_closed


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_head_over_its_size_is_refused_however_it_comes(client: Client, size: int) -> None:
    head = GET[:-2] + b"A: " + b"b" * 16_384 + b"\r\n\r\n"

    for start in range(0, len(head), size):
        client.connection.data_received(head[start : start + size])

    assert client.refusal == 431


def test_head_without_end_is_refused_when_it_has_its_size(client: Client) -> None:
    client.send(GET[:-2] + b"A: " + b"b" * 16_000)
    assert client.statuses == []

    client.send(b"b" * 400)

    assert client.refusal == 431


@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_many_small_headers_count_too_also_behind_another_request(client: Client, end: bytes) -> None:
    client.send(GET + GET[:-2] + b"A:\r\n" * 5000 + end)
    client.send(b"" if end else b"\r\n")

    assert client.statuses == [200, 431]


def test_url_over_its_size_is_refused_whole_or_not(server: Server) -> None:
    whole, endless = Client(server), Client(server)

    whole.send(b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n\r\n")
    endless.send(b"GET /" + b"a" * 8192)

    assert (whole.refusal, endless.refusal) == (414, 414)


def test_trailers_are_bounded_and_no_headers_of_the_request(client: Client, server: Server) -> None:
    client.send(CHUNKED + b"1\r\nx\r\n0\r\nTrailer: 1\r\n")
    headers = client.connection.scope["headers"]
    client.send(b"A: " + b"b" * 16_384)

    assert client.refusal == 431
    assert (b"trailer", b"1") not in headers
    assert server.left == 1


def test_silent_connection_is_closed_without_a_word(client: Client, loop: VirtualLoop) -> None:
    loop.advance(JUST_BEFORE)
    assert not client.is_closed

    loop.advance(3)

    assert client.is_closed
    assert client.transport.written == b""


@pytest.mark.parametrize("before", [b"", GET])
def test_head_that_trickles_is_refused_by_the_timeout(client: Client, loop: VirtualLoop, before: bytes) -> None:
    client.send(before)
    trickle = iter(b"GET / HTTP/1.1\r\nHost: x\r\n"[at : at + 1] for at in range(26))
    for _ in range(int(JUST_AFTER)):
        client.connection.data_received(next(trickle))
        loop.advance(1)
    loop.advance(1)

    assert client.is_closed
    assert client.statuses[-1] == 408


def test_kept_connection_is_closed_when_the_next_request_does_not_come(client: Client, loop: VirtualLoop) -> None:
    client.send(GET)

    loop.advance(7)

    assert client.is_closed
    assert client.statuses == [200]


def test_body_that_stops_is_refused_and_its_request_let_go(client: Client, server: Server) -> None:
    client.send(POST + b"Content-Length: 100\r\n\r\nabc")
    server.loop.advance(JUST_AFTER)

    assert client.refusal == 408
    assert server.left == 1


@pytest.mark.parametrize(("rate", "status"), [(16_384, 200), (4_096, 408)])
def test_body_must_come_on_at_its_rate(client: Client, loop: VirtualLoop, rate: int, status: int) -> None:
    client.send(POST + b"Content-Length: %d\r\n\r\n" % (rate * 90))

    for _ in range(90):
        client.connection.data_received(b"." * rate)
        loop.advance(1)

    assert client.statuses == [status]


def test_body_that_waits_for_the_server_is_in_time(client: Client, server: Server) -> None:
    client.send(b"POST /deaf HTTP/1.1\r\nContent-Length: 100001\r\n\r\n" + b"." * 100_000)
    assert client.transport.is_reading_paused

    server.loop.advance(3 * TIMEOUT)
    server.go.set()
    server.loop.advance(1)
    client.send(b".")

    assert client.statuses == [200]


def test_body_of_a_request_that_is_answered_has_the_timeout_to_end(client: Client, loop: VirtualLoop) -> None:
    client.send(b"POST /early HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n")
    for _ in range(int(JUST_AFTER)):
        client.connection.data_received(b"." * 10_000)
        loop.advance(1)

    assert client.statuses == [200]
    assert client.is_closed


def test_stream_lasts_and_ends_when_its_client_leaves_whatever_came_after_it(server: Server) -> None:
    client = Client(server).send(b"GET /stream HTTP/1.1\r\n\r\n" + GET)

    server.loop.advance(100 * TIMEOUT)
    assert not client.is_closed
    client.connection.connection_lost(ConnectionResetError())
    server.loop.advance(1)

    assert server.left == 1


def test_client_that_does_not_read_is_aborted_and_one_that_does_is_not(server: Server) -> None:
    deaf, slow = Client(server).send(WAIT), Client(server).send(WAIT)
    for client in (deaf, slow):
        client.connection.pause_writing()
    server.loop.advance(JUST_BEFORE)
    slow.connection.resume_writing()

    server.loop.advance(3)

    assert (deaf.transport.is_aborted, slow.transport.is_aborted) == (True, False)


def test_closed_connection_that_is_not_flushed_is_aborted(client: Client, loop: VirtualLoop) -> None:
    client.transport.is_stuck = True
    client.send(b"GET /get HTTP/1.0\r\n\r\n")
    assert client.is_closed

    loop.advance(JUST_AFTER + 1)

    assert client.transport.is_aborted


def test_connection_over_the_limit_is_told_when_to_come_back_and_takes_no_place(server: Server) -> None:
    first, _, third = Client(server), Client(server), Client(server)
    assert third.refusal == 503
    assert b"retry-after: 1\r\n" in third.transport.written

    first.transport.close()
    server.loop.advance(0)

    assert Client(server).send(GET).statuses == [200]


@pytest.fixture
def uvicorns_own() -> Iterator[None]:
    limits = Connection.limits
    yield
    Connection.limits = limits
    HttpToolsProtocol.__new__ = lambda kind, *_, **__: object.__new__(kind)  # type: ignore[method-assign]


@pytest.mark.usefixtures("uvicorns_own")
def test_guard_has_uvicorn_make_limited_connections_however_often_it_is_called(server: Server) -> None:
    guard(Limits())
    guard(Limits(max_url_bytes=5))

    connection = HttpToolsProtocol(server.config, server.state, {}, _loop=server.loop)

    assert type(connection) is Connection
    assert connection.limits.max_url_bytes == 5
    assert type(Client(server).connection) is server.kind


def test_open_files_are_allowed_as_far_as_the_host_does(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits = {"soft": 100, "hard": 1000}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.update(soft=pair[0]))

    reached = []
    for count in (50, 500, 5000):
        process.allow_open_files(count)
        reached.append(limits["soft"])

    assert reached == [100, 500, 1000]
