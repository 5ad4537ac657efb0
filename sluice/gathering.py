"""How answers are written: all that a turn of the event loop makes, at its end."""

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)

MOST_HELD = 64 * 1024  # bytes of one connection


class Outbox:
    """The connections that have something to write, each once.

    To write is to wake up whoever reads, which takes the kernel as long as making a
    small answer takes us. Many at once wake a client once, or the network's driver.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holding: list[Gathering] = []

    def add(self, gathering: "Gathering", loop: asyncio.AbstractEventLoop) -> None:
        """Have what a connection holds written when this turn of the loop is over."""
        if loop is not self._loop:
            # Another one was there before, which has ended.
            self._loop = loop
            self._holding.clear()
        if not self._holding:
            loop.call_soon(self._write)
        self._holding.append(gathering)

    def _write(self) -> None:
        holding, self._holding = self._holding, []
        for gathering in holding:
            try:
                gathering.write_held()
            except Exception:  # nobody else is to wait for what is one connection's trouble
                logger.exception("an answer could not be written")


class Gathering:
    """A transport that holds what is written, its head and its body and what else may follow, for an outbox."""

    __slots__ = ("_held", "_loop", "_outbox", "_size", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._transport = transport
        self._loop = loop
        self._outbox = outbox
        self._held: list[bytes] = []
        self._size = 0
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Write this soon; at once if there is much of it."""
        if not self._held:
            self._outbox.add(self, self._loop)
        self._held.append(data)
        self._size += len(data)
        if self._size > MOST_HELD:
            self.write_held()

    def write_held(self) -> None:
        """Write what is held."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._size = 0
            if not self.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        """Close once all is written."""
        self.write_held()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Be what the transport is, beside that."""
        return getattr(self._transport, name)
