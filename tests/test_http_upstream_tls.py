"""HttpUpstream over TLS: who cannot prove to be the configured host is told nothing."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trustme

from sluice.http_upstream import HttpUpstream
from sluice.upstream import UpstreamUnavailable
from tests.http_server import MAX_BYTES, TIMEOUT, LocalServer, batch, keep_connections, response
from tests.virtual import EPOCH


@asynccontextmanager
async def serving(
    name: str, authority: trustme.CA, on_sent: Callable[[], object] = lambda: None
) -> AsyncIterator[tuple[HttpUpstream, LocalServer]]:
    """Run an upstream that has a certificate for `name`, and what calls it."""
    server = LocalServer()
    server.responses[200] = response(200, b'"hello"', "Connection: close")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{listening.sockets[0].getsockname()[1]}/items/{{id}}"
    async with listening, HttpUpstream(url, TIMEOUT, MAX_BYTES, lambda: EPOCH, on_sent=on_sent) as upstream:
        yield upstream, server


async def called(
    name: str, authority: trustme.CA, on_sent: Callable[[], object] = lambda: None
) -> tuple[object, list[bytes]]:
    """Call such an upstream; return the answer, and the requests that it saw."""
    async with serving(name, authority, on_sent) as (upstream, server):
        (answer,) = await upstream.process(batch(200))
    return answer, server.heads


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the authority, as an operator who names it to the whole process."""
    monkeypatch.setattr(ssl, "create_default_context", partial(trusted, ssl.create_default_context, authority))


def trusted(
    make: Callable[..., ssl.SSLContext], authority: trustme.CA, *arguments: object, **options: object
) -> ssl.SSLContext:
    context = make(*arguments, **options)
    authority.configure_trust(context)
    return context


@pytest.mark.usefixtures("trusting")
def test_upstream_with_a_good_certificate_is_called(authority: trustme.CA) -> None:
    answer, heads = asyncio.run(called("localhost", authority))

    assert answer == b'"hello"'
    assert len(heads) == 1


def test_upstream_whose_certificate_nobody_vouches_for_is_sent_nothing(authority: trustme.CA) -> None:
    answer, heads = asyncio.run(called("localhost", authority))

    assert isinstance(answer, UpstreamUnavailable)
    assert heads == []


@pytest.mark.usefixtures("trusting")
def test_upstream_with_the_certificate_of_another_host_is_sent_nothing(authority: trustme.CA) -> None:
    answer, heads = asyncio.run(called("elsewhere.example", authority))

    assert isinstance(answer, UpstreamUnavailable)
    assert heads == []


@pytest.mark.usefixtures("trusting")
def test_connection_that_is_made_early_has_its_handshake_behind_it(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_connections(monkeypatch)

    async def act() -> None:
        async with serving("localhost", authority) as (upstream, server):
            await upstream.process(batch(200))
            upstream.prepare(1)
            await server.until(lambda: server.connections >= 2)

            assert await upstream.process(batch(200)) == [b'"hello"']
            assert server.connections == 2

    asyncio.run(act())


@pytest.mark.usefixtures("trusting")
def test_call_through_a_proxy_is_sent_once_the_tunnel_is_there(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        host, _, port = head.split()[1].decode().rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        seen.append("tunnel")
        writer.write(b"HTTP/1.1 200 -\r\n\r\n")
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    async def through_proxy() -> tuple[object, list[bytes]]:
        proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
        async with proxy:
            monkeypatch.setenv("HTTPS_PROXY", "http://{}:{}".format(*proxy.sockets[0].getsockname()))
            return await called("localhost", authority, lambda: seen.append("sent"))

    answer, heads = asyncio.run(through_proxy())

    assert answer == b'"hello"'
    assert len(heads) == 1
    assert seen == ["tunnel", "sent"]


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
