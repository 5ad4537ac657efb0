"""HttpUpstream against a real local server that answers, refuses, hangs, trickles, resets and lies."""

import asyncio
import gzip
from email.utils import formatdate

import pytest

from sluice import http_upstream
from sluice.http_upstream import KEEP_ALIVE, HttpUpstream
from sluice.ingestion import Batch
from sluice.upstream import UpstreamError, UpstreamUnavailable
from tests.http_server import (
    FLOOD,
    GARBAGE,
    HANG,
    MAX_BYTES,
    RESET,
    SHORT,
    SHORT_TIMEOUT,
    TIMEOUT,
    TRICKLE,
    LocalServer,
    batch,
    only,
    process,
    response,
    serving,
)
from tests.virtual import EPOCH

TOO_LARGE = "the answer has more than 1000 bytes (MAX_RESULT_BYTES)"


@pytest.fixture
def server() -> LocalServer:
    return LocalServer()


def test_ids_of_a_batch_are_called_once_each_at_the_same_time(server: LocalServer) -> None:
    server.delay = 0.5

    results = process(server, batch(200, 201, 299))

    assert results == ["ok"] * 3
    assert sorted(server.paths) == ["/items/200", "/items/201", "/items/299"]
    assert server.most_waiting == 3


def test_first_call_of_each_batch_is_told_once_it_was_sent_and_no_sooner(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_upstream, "TOGETHER", TIMEOUT)
    told: list[int] = []

    async def act() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/{{id}}"
        async with HttpUpstream(
            url, 5.0, MAX_BYTES, lambda: EPOCH, on_sent=lambda: told.append(len(server.paths))
        ) as upstream:
            await upstream.process(batch(200, 201, 299))
            await upstream.process(batch(200, 201))
        listener.close()

    asyncio.run(act())

    assert told == [0, 3]


def test_refused_connection_tells_of_no_call() -> None:
    told: list[str] = []

    async def act() -> None:
        async with HttpUpstream(
            "http://127.0.0.1:1/{id}", 5.0, MAX_BYTES, lambda: EPOCH, on_sent=lambda: told.append("sent")
        ) as upstream:
            await upstream.process(batch(200))

    asyncio.run(act())

    assert told == []


def test_every_attempt_of_an_id_has_the_same_idempotency_key(server: LocalServer) -> None:
    first = Batch("an ingestion", (0, 1, 3), [200, 500, 200], ["batch 0", "batch 0", "batch 1"])
    again = Batch("an ingestion", (1,), [500], ["batch 0"])

    process(server, first, again)

    assert sorted(server.keys) == ["batch 0/200", "batch 0/500", "batch 0/500", "batch 1/200"]


def test_connections_are_kept_from_batch_to_batch(server: LocalServer) -> None:
    process(server, *(batch(200, 201) for _ in range(3)))

    assert len(server.paths) == 6
    assert server.connections == 2


def test_idle_connection_is_given_up_before_a_server_would_close_it(server: LocalServer) -> None:
    process(server, batch(200), batch(200), pause=KEEP_ALIVE + 0.1)

    assert KEEP_ALIVE < 2  # gunicorn's
    assert server.connections == 2


@pytest.mark.parametrize("item", [HANG, TRICKLE, RESET, GARBAGE, SHORT, FLOOD, 302, 500])
def test_call_that_failed_leaves_nothing_behind_for_the_next(server: LocalServer, item: int) -> None:
    results = process(server, batch(item), batch(200, 201, 202))

    assert results == ["ok"] * 3


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"id": 7, "data": [1, 2.5, null]}', {"id": 7, "data": [1, 2.5, None]}),
        (b" 12\n", 12),
        (b"", None),
        (b"plain text", "plain text"),
        ("ümlaut".encode(), "ümlaut"),
        (b"\xff\x00garbage", "\ufffd\x00garbage"),
        (b'{"cut": ', '{"cut": '),
        (b"NaN", "NaN"),
        (b'"\\ud800"', '"\\ud800"'),
        (b"[" * 900, "[" * 900),
        (b"x" * (MAX_BYTES - 2), "x" * (MAX_BYTES - 2)),
    ],
)
def test_body_is_json_or_else_text(server: LocalServer, body: bytes, answer: object) -> None:
    server.responses[7] = response(200, body)

    assert process(server, batch(7)) == [answer]


@pytest.mark.parametrize("body", [b"x" * (MAX_BYTES - 1), b"\n" * (MAX_BYTES // 2), b"\x00" * (MAX_BYTES // 6 + 1)])
def test_text_whose_json_is_over_max_bytes_fails_for_good(server: LocalServer, body: bytes) -> None:
    server.responses[7] = response(200, body)

    assert str(only(process(server, batch(7)))) == TOO_LARGE


def test_answer_without_content_is_null(server: LocalServer) -> None:
    server.responses[7] = b"HTTP/1.1 204 No Content\r\n\r\n"

    assert process(server, batch(7)) == [None]


def test_chunked_body_is_put_together(server: LocalServer) -> None:
    server.responses[7] = (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n'
    )

    assert process(server, batch(7)) == [{"a": 1}]


def test_compressed_body_that_nobody_asked_for_is_read_and_counted_uncompressed(server: LocalServer) -> None:
    server.responses[7] = response(200, gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip")
    server.responses[8] = response(200, gzip.compress(b"0" * 10_000_000), "Content-Encoding: gzip")
    server.responses[9] = response(200, b"no gzip", "Content-Encoding: gzip")

    plain, bomb, broken = process(server, batch(7, 8, 9))

    assert plain == {"a": 1}
    assert str(bomb) == TOO_LARGE
    assert isinstance(broken, UpstreamUnavailable)
    assert str(broken) == "DecodingError"


@pytest.mark.parametrize("item", [7, FLOOD])
def test_body_over_max_bytes_fails_for_good_as_soon_as_that_is_known(server: LocalServer, item: int) -> None:
    server.responses[7] = response(200, b"x" * (MAX_BYTES + 1))

    error = only(process(server, batch(item)))

    assert str(error) == TOO_LARGE
    assert not isinstance(error, UpstreamUnavailable)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (HANG, f"no answer within {SHORT_TIMEOUT:g} s"),
        (TRICKLE, f"no answer within {SHORT_TIMEOUT:g} s"),
        (RESET, ""),
        (GARBAGE, "RemoteProtocolError"),
        (SHORT, "RemoteProtocolError"),
        *((status, f"answered {status}") for status in (408, 425, 429, 500, 502, 503, 504, 599)),
    ],
)
def test_failure_that_may_pass_is_worth_another_attempt_and_spares_the_other_ids(
    server: LocalServer, item: int, text: str
) -> None:
    other, error = process(server, batch(200, item))

    assert other == "ok"
    assert isinstance(error, UpstreamUnavailable)
    assert str(error).startswith(text)
    assert "127.0.0.1" not in str(error)
    assert error.retry_after is None
    assert sorted(server.paths) == sorted(["/items/200", f"/items/{item}"])


@pytest.mark.parametrize("status", [302, 307, 400, 401, 404, 410, 422])
def test_refusal_is_final_and_spares_the_other_ids(server: LocalServer, status: int) -> None:
    other, error = process(server, batch(200, status))

    assert other == "ok"
    assert isinstance(error, UpstreamError)
    assert not isinstance(error, UpstreamUnavailable)
    assert str(error) == f"answered {status}"


@pytest.mark.parametrize("location", ["/items/302", "/items/200", "http://[", "nonsense://", "//"])
def test_redirect_is_not_followed_wherever_it_leads(server: LocalServer, location: str) -> None:
    server.responses[302] = response(302, b"", f"Location: {location}")

    error = only(process(server, batch(302)))

    assert str(error) == "answered 302"
    assert not isinstance(error, UpstreamUnavailable)
    assert server.paths == ["/items/302"]


def test_refused_connection_is_worth_another_attempt() -> None:
    async def act() -> list[object]:
        async with HttpUpstream("http://127.0.0.1:1/items/{id}", 5.0, MAX_BYTES, lambda: EPOCH) as upstream:
            return await upstream.process(batch(7))

    error = only(asyncio.run(act()))

    assert isinstance(error, UpstreamUnavailable)
    assert str(error) == "ConnectError"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("9" * 400, 366 * 86_400.0),
        (formatdate(EPOCH + 90, usegmt=True), 90.0),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90.0),  # the obsolete forms that RFC 9110, 5.6.7, has accepted
        ("Fri Jan 15 08:01:30 2027", 90.0),
    ],
)
def test_retry_after_asks_for_a_hold(server: LocalServer, status: int, value: str, seconds: float) -> None:
    server.responses[7] = response(status, b"", f"Retry-After: {value}")

    error = only(process(server, batch(7)))

    assert isinstance(error, UpstreamUnavailable)
    assert error.retry_after == seconds
    assert str(error) == f"answered {status}, Retry-After {seconds:.0f} s"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5",
        "1.5",
        "1e3",
        "٣",
        "15 Jan",
        "Fri, 99 Foo 2027 25:61:61 GMT",
        "0",
        formatdate(EPOCH - 90, usegmt=True),
    ],
)
def test_retry_after_of_no_time_or_without_sense_is_an_ordinary_failure(server: LocalServer, value: str) -> None:
    server.responses[7] = response(429, b"", f"Retry-After: {value}".encode().decode("latin-1"))

    error = only(process(server, batch(7)))

    assert isinstance(error, UpstreamUnavailable)
    assert error.retry_after is None
    assert str(error) == "answered 429"


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_retry_after_holds_nothing_with_another_status(server: LocalServer, status: int) -> None:
    server.responses[7] = response(status, b"", "Retry-After: 120")

    (result,) = process(server, batch(7))

    assert getattr(result, "retry_after", None) is None


def test_json_is_kept_as_it_came_but_on_one_line(server: LocalServer) -> None:
    server.responses[7] = response(200, b'{"price":\r\n 1.000000000000000000001,\n"price": 1e999}')

    async def act() -> list[object]:
        async with serving(server) as upstream:
            return await upstream.process(batch(7))

    assert asyncio.run(act()) == [b'{"price": 1.000000000000000000001,"price": 1e999}']


def test_no_cookie_is_kept_from_one_call_to_the_next(server: LocalServer) -> None:
    server.responses[7] = response(200, b"1", "Set-Cookie: session=secret; Path=/")

    process(server, batch(7), batch(7))

    assert not any(b"secret" in head for head in server.heads)


def test_retry_after_with_a_date_that_no_calendar_has_is_an_ordinary_failure(server: LocalServer) -> None:
    server.responses[7] = response(503, b"", "Retry-After: Mon, 01 Jan 99999999999999999999 00:00:00 GMT")

    error, other = process(server, batch(7, 200))

    assert str(error) == "answered 503"
    assert other == "ok"
