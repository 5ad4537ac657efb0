"""Which requests a connection takes, which it refuses, and in which order it answers them."""

import logging
import re

import pytest

from sluice.connection import MOST_WAITING
from tests.connections import CHUNKED, GET, POST, WAIT, Client, Server
from tests.virtual import VirtualLoop


@pytest.fixture
def server(loop: VirtualLoop) -> Server:
    return Server(loop)


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET http://[::/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"CONNECT host:80 HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n",
        CHUNKED + b"no\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
        CHUNKED + b"1\r\nxy\r\n",
    ],
)
def test_malformed_request_is_a_problem_and_no_warning(
    client: Client, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    client.send(request_bytes).send(GET)

    assert client.refusal == 400
    assert caplog.records == []


def test_refusal_comes_after_the_answers_that_are_due(client: Client, server: Server) -> None:
    client.send(WAIT + CHUNKED + b"no\r\n" + GET)
    assert client.statuses == []

    server.go.set()
    server.loop.advance(0)

    assert client.statuses == [200, 400]
    assert client.is_closed


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    paths = [b"/%d" % number for number in range(MOST_WAITING)]

    client.send(b"".join(b"GET %s HTTP/1.1\r\n\r\n" % path for path in paths))

    assert re.findall(rb"\[(.*?)\]", client.transport.written) == paths
    assert not client.is_closed


def test_no_more_requests_wait_than_may_and_those_are_answered(client: Client) -> None:
    client.send(GET * 1000)

    assert client.statuses == [200] * (MOST_WAITING + 1)
    assert client.is_closed


@pytest.mark.parametrize("token", [b"h2c", b"websocket"])
@pytest.mark.parametrize("connection", [b"Upgrade", b"close, Upgrade"])
def test_upgrade_is_served_as_if_it_were_none(
    client: Client, server: Server, token: bytes, connection: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client.send(POST + b"Connection: %s\r\nUpgrade: %s\r\nContent-Length: 3\r\n\r\nabc" % (connection, token) + GET)

    assert client.statuses == ([200] if b"close" in connection else [200, 200])
    assert server.bodies[0] == b"abc"
    assert caplog.records == []


def test_one_who_has_asked_and_says_no_more_is_answered(client: Client, server: Server) -> None:
    client.send(WAIT)
    assert client.connection.eof_received()

    server.go.set()
    server.loop.advance(0)

    assert client.statuses == [200]
    assert client.is_closed


@pytest.mark.parametrize("part", [b"", GET[:9], CHUNKED, b"GET /stream HTTP/1.1\r\n\r\n"])
def test_one_who_leaves_without_a_question_or_a_stream_is_let_go(client: Client, part: bytes) -> None:
    client.send(part)

    assert not client.connection.eof_received()
