"""What strangers do to a server: each attack is made over a socket of its own and tells what was answered."""

import re
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from itertools import chain, repeat
from typing import NamedTuple

import httpx

CONNECTIONS = 40
MAX_BODY_BYTES = 11_000_000
SETTINGS = {"CLIENT_TIMEOUT": "1", "MAX_CONNECTIONS": str(CONNECTIONS), "MAX_BODY_BYTES": str(MAX_BODY_BYTES)}
PATIENCE = 10.0

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"ids":[1],"priority":"LOW"}'


class Answer(NamedTuple):
    """The statuses that were answered, and whether the connection was closed after them."""

    statuses: tuple[int, ...]
    is_closed: bool = True


class Attack(NamedTuple):
    """What is done, given the server's port, and what may come of it."""

    make: Callable[[int], Answer]
    expected: Answer


def posting(body: bytes) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def listen(connection: socket.socket, count: int) -> Answer:
    """Return what is answered until the connection is closed or, if it is kept, there are `count` answers."""
    data = b""
    statuses: tuple[int, ...] = ()
    with suppress(ConnectionError):
        while received := connection.recv(65_536):
            data += received
            statuses = tuple(int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", data))
            if len(statuses) == count and data.endswith(b"}") and b"connection: close" not in data:
                return Answer(statuses, is_closed=False)
    return Answer(statuses)


def talk(port: int, pieces: Iterable[bytes], *, pause: float = 0.0, count: int = 1, then_shut: bool = False) -> Answer:
    """Send pieces, with a pause after each, as long as the server takes them; then listen."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        deadline = time.monotonic() + PATIENCE
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                if pause:
                    time.sleep(pause)
                    connection.settimeout(0.001)
                    with suppress(TimeoutError):
                        connection.recv(1, socket.MSG_PEEK)
                        break
                    connection.settimeout(PATIENCE)
                assert time.monotonic() < deadline
            if then_shut:
                connection.shutdown(socket.SHUT_WR)
        connection.settimeout(PATIENCE)
        return listen(connection, count)


def sending(data: bytes, *statuses: int, is_closed: bool = False, then_shut: bool = False) -> Attack:
    """Send everything at once."""
    count = 0 if is_closed else len(statuses)
    return Attack(lambda port: talk(port, [data], count=count, then_shut=then_shut), Answer(statuses, is_closed))


def trickling(pieces: Iterable[bytes], *statuses: int) -> Attack:
    """Send a piece every tenth of a second."""
    return Attack(lambda port: talk(port, pieces, pause=0.1), Answer(statuses))


def flooding(head: bytes, piece: bytes) -> Attack:
    """Send the same for as long as the server takes it: the answer may be lost when the connection goes."""
    return Attack(lambda port: Answer((), talk(port, chain([head], repeat(piece))).is_closed), Answer(()))


def send_more_than_a_body_may_have(port: int) -> Answer:
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    return talk(port, [CHUNKED, *[chunk] * 11])


def read_nothing(port: int) -> Answer:
    """Ask for more than the network holds and leave it there; `is_closed` if the rest of it never comes."""
    (ingestion,) = httpx.get(f"http://127.0.0.1:{port}/ingestions?priority=HIGH").json()["ingestions"]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /status/%s HTTP/1.1\r\nHost: x\r\n\r\n" % ingestion["ingestion_id"].encode() * 60)
        time.sleep(3)
        return Answer((), len(listen(connection, 60).statuses) < 60)


def idle_in_a_crowd(port: int) -> Answer:
    """Open more connections than there may be, and say nothing."""
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            for _ in range(CONNECTIONS + 10)
        ]
        answers = [listen(connection, 1) for connection in crowd]
    turned_away = sorted({answer.statuses for answer in answers})
    return Answer(tuple(chain(*turned_away)), all(answer.is_closed for answer in answers))


ATTACKS = {
    "a head byte by byte": trickling([GET[at : at + 1] for at in range(len(GET))], 408),
    "a body below the rate": trickling([POST + b"Content-Length: 9999\r\n\r\n", *[b" " * 20] * 99], 408),
    "line ends only": trickling([b"\r\n"] * 99, 408),
    "part of a request, half-closed": sending(posting(BODY)[:-1], is_closed=True, then_shut=True),
    "a whole request, half-closed": sending(posting(BODY), 200, is_closed=True, then_shut=True),
    "a header too large": sending(GET[:-2] + b"A: " + b"b" * 17_000 + b"\r\n\r\n", 431, is_closed=True),
    "a URL too long": sending(b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", 414, is_closed=True),
    "a header without end": flooding(GET[:-2] + b"A: ", b"b" * 4096),
    "headers without end": flooding(GET[:-2], b"A: b\r\n" * 500),
    "a URL without end": flooding(b"GET /", b"a" * 4096),
    "a chunk extension without end": flooding(CHUNKED + b"1;a=", b"b" * 4096),
    "trailers without end": flooding(CHUNKED + b"0\r\n", b"A: b\r\n" * 500),
    "a chunk of no size": sending(CHUNKED + b"x\r\n", 400, is_closed=True),
    "a chunk without its end": sending(CHUNKED + b"1\r\n{}", 400, is_closed=True),
    "a chunk of a huge size": sending(CHUNKED + b"f" * 17 + b"\r\n", 400, is_closed=True),
    "a chunk of a negative size": sending(CHUNKED + b"-1\r\n", 400, is_closed=True),
    "a body too large": Attack(send_more_than_a_body_may_have, Answer((413,), is_closed=False)),
    "more than was announced": sending(POST + b"Content-Length: 5\r\n\r\n" + BODY, 400, 400, is_closed=True),
    "less than was announced": sending(POST + b"Content-Length: 99\r\n\r\n" + BODY, 408, is_closed=True),
    "a negative length": sending(POST + b"Content-Length: -1\r\n\r\n", 400, is_closed=True),
    "two lengths": sending(POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, is_closed=True),
    "a length and chunks": sending(CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400, is_closed=True),
    "50 requests at once": sending(GET * 50, *[200] * 50),
    "50 requests at once, half-closed": sending(GET * 50, *[200] * 50, is_closed=True, then_shut=True),
    "5,000 requests at once": Attack(lambda port: Answer((), talk(port, [GET * 5000], count=0).is_closed), Answer(())),
    "NUL in the request line": sending(b"GET /\0 HTTP/1.1\r\n\r\n", 400, is_closed=True),
    "NUL in a header": sending(b"GET / HTTP/1.1\r\nHost: \0\r\n\r\n", 400, is_closed=True),
    "NUL in the body": sending(posting(BODY.replace(b"1", b"\0")), 400),
    "a host that is none": sending(GET.replace(b"healthz", b"nowhere").replace(b"Host: x", b"Host: [\xff@:"), 404),
    "deeply nested JSON": sending(posting(b"[" * 100_000), 400),
    "a number of ten million digits": sending(posting(BODY.replace(b"1", b"9" * 10_000_000)), 400),
    "a huge exponent": sending(posting(BODY.replace(b"1", b"1e999999999")), 422),
    "JSON that is not UTF-8": sending(posting(BODY.replace(b"LOW", b"\xff")), 400),
    "a lone surrogate": sending(posting(BODY.replace(b"LOW", b"\\ud800")), 400),
    "a path that is not UTF-8": sending(GET.replace(b"healthz", b"status/%ff%fe%00"), 404),
    "a raw path that is not ASCII": sending(GET.replace(b"healthz", b"\xff"), 400, is_closed=True),
    "TLS": sending(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), 400, is_closed=True),
    "answers that are not read": Attack(read_nothing, Answer(())),
}
# Not beside the others: it leaves no place for them.
CROWD = Attack(idle_in_a_crowd, Answer((503,)))
