"""Connections that are made shortly before the calls that need them, so that no start waits for a handshake."""

import asyncio
from collections.abc import Iterable
from ssl import SSLContext
from typing import NamedTuple

import httpcore

# Seconds before a start. The shorter is what a machine needs that has just woken up.
SHORTEST_LEAD, LONGEST_LEAD = 0.05, 0.5


class EarlyConnections(httpcore.AnyIOBackend):
    """What a pool gets its connections from: made when it asks, or before that, as it asked for the last one.

    One that nobody asks for within `keep` seconds is closed.
    """

    def __init__(self, keep: float) -> None:
        self.took = 0.0  # seconds: TCP and TLS together, of the latest
        self._keep = keep
        self._calls = self._asked = 0  # of the last batch; how many of them had to ask for a connection
        self._latest: _Connection | None = None  # that was asked for
        self._early: list[asyncio.Task[_Connection]] = []
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def lead(self) -> float:
        """How many seconds before a start to prepare for it: a handshake may take twice as long as the last did."""
        return min(LONGEST_LEAD, SHORTEST_LEAD + 2 * self.took)

    def begin_batch(self, calls: int) -> None:
        """Learn how many of its calls find no connection that the pool has kept."""
        self._calls, self._asked = calls, 0

    def prepare(self, calls: int) -> None:
        """Begin to make what a batch will ask for, if it finds as many as the last one; it may have been begun before.

        Nothing if nobody has asked for one yet, or if they take too long to be there in time.
        """
        if self._latest is None or self.took > LONGEST_LEAD:
            return
        for _ in range(calls - (self._calls - self._asked) - len(self._early)):
            making = asyncio.create_task(self._make_like(self._latest))
            self._early.append(making)
            asyncio.get_running_loop().call_later(self._keep, self._give_up, making)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection that was made early, or a new one; raise what httpcore does."""
        self._asked += 1
        target = _Target(host, port, timeout, local_address, socket_options)
        self._latest = await self._made_early(target) or await self._make(target)
        return self._latest

    async def aclose(self) -> None:
        """Close what nobody asked for."""
        for making in [*self._early]:
            self._give_up(making)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _made_early(self, target: "_Target") -> "_Connection | None":
        # One that is still being made is not waited for: who knows what holds it up.
        while (made := next((each for each in self._early if each.done()), None)) is not None:
            self._early.remove(made)
            if made.exception() is None:  # else a new one will say it
                connection = made.result()
                try:
                    is_good = connection.target == target and await connection.stays_open()
                except BaseException:
                    self._discard(made)
                    raise
                if is_good:
                    return connection
                self._discard(made)
        return None

    async def _make(self, target: "_Target") -> "_Connection":
        began = asyncio.get_running_loop().time()
        stream = await super().connect_tcp(*target)
        self.took = asyncio.get_running_loop().time() - began
        return _Connection(self, target, self.took, stream)

    async def _make_like(self, latest: "_Connection") -> "_Connection":
        connection = await self._make(latest.target)
        try:
            if latest.tls is not None:
                await connection.start_tls(*latest.tls)
        except BaseException:
            await connection.aclose()
            raise
        connection.watch()
        return connection

    def _give_up(self, making: "asyncio.Task[_Connection]") -> None:
        if making in self._early:
            self._early.remove(making)
            self._discard(making)

    def _discard(self, making: "asyncio.Task[_Connection]") -> None:
        closing = asyncio.create_task(_close(making))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Target(NamedTuple):
    """What a pool says of the connection that it asks for."""

    host: str
    port: int
    timeout: float | None
    local_address: str | None
    socket_options: Iterable[httpcore.SOCKET_OPTION] | None


class _Connection(httpcore.AsyncNetworkStream):
    """A connection that may have its TLS before it is asked for it."""

    def __init__(
        self, maker: EarlyConnections, target: _Target, took: float, stream: httpcore.AsyncNetworkStream
    ) -> None:
        """Take how many seconds it took to make."""
        self.target = target
        self.tls: tuple[SSLContext, str | None, float | None] | None = None
        self._maker = maker
        self._took = took
        self._stream = stream
        self._watch: asyncio.Task[bytes] | None = None

    def watch(self) -> None:
        """Look whether the other side closes it, and read what TLS 1.3 sends unasked, which would look like that."""
        self._watch = asyncio.create_task(self._stream.read(1))

    async def stays_open(self) -> bool:
        """Look no more; return whether it was not closed until now."""
        watch, self._watch = self._watch, None
        if watch is None:
            return True
        watch.cancel()
        await asyncio.wait([watch])
        if not watch.cancelled():
            watch.exception()  # nobody else will look at it
            return False
        return not self._stream.get_extra_info("is_readable")

    async def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
    ) -> httpcore.AsyncNetworkStream:
        """Shake hands, unless that was done: one URL has one way to do it."""
        if self.tls is None:
            began = asyncio.get_running_loop().time()
            self._stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
            self.tls = (ssl_context, server_hostname, timeout)
            self._maker.took = self._took + asyncio.get_running_loop().time() - began
        return self._stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """Return up to `max_bytes`, none at the end; raise what httpcore does."""
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        """Write it all; raise what httpcore does."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it, and look no more."""
        await self.stays_open()
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> object:
        """Return what httpcore knows of it."""
        return self._stream.get_extra_info(info)


async def _close(making: asyncio.Task[_Connection]) -> None:
    making.cancel()
    await asyncio.wait([making])
    if not making.cancelled() and making.exception() is None:
        await making.result().aclose()
