"""A PostgreSQL database as the journals of its lanes use it: connections, its clock, its troubles."""

import asyncio
import logging
import math
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from sluice.clock import Clock, SharedClock
from sluice.journal import JournalError, JournalRefusedError
from sluice.journal.postgres_schema import SCHEMA, migrate

logger = logging.getLogger(__name__)

CHANNEL = "sluice"
RECONNECT = 0.25  # seconds
IDLE_IN_TRANSACTION = 1.0  # seconds that a process may hold a lane's row without saying anything
SAMPLES = 5
PATIENCE = 1.0  # seconds beyond the statement's own limit
AWAY = "the database is away"


class LostError(JournalError):
    """The connection broke: whether what was asked has been done is not known."""


class Database:
    """Connections to one database, which come back by themselves; and what its clock says."""

    def __init__(self, url: str, clock: Clock, pool_size: int, timeout: float) -> None:
        """Bring the database to the current schema; raise `JournalRefusedError` if it cannot be used.

        No statement, and no silence of the network, takes longer than `timeout` seconds.
        """
        self.clock = SharedClock(clock)
        self.trouble: str | None = None
        for library in ("psycopg", "psycopg.pool"):
            # What goes wrong with a connection is told once, in here.
            logging.getLogger(library).setLevel(logging.ERROR)
        self._timeout = timeout
        self._listeners: dict[str, Callable[[str], None]] = {}
        try:
            self._conninfo = _conninfo(url, timeout)
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                migrate(connection)
            self._sample()
        except JournalRefusedError as error:
            raise JournalRefusedError(f"the database {error}") from error
        except psycopg.Error as error:
            raise JournalRefusedError(f"the database cannot be used: {reason(error)}") from error
        # Made anew at the first request after giving up, so that it is back soon after the database is.
        self._pool = AsyncConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=pool_size,
            open=False,
            timeout=timeout,
            reconnect_timeout=RECONNECT,
            kwargs={"autocommit": True},
            configure=self._configure,
        )

    def add_lanes(self, names: Iterable[str]) -> None:
        """Make room for lanes, where there is none yet; raise `JournalRefusedError` if that is impossible."""
        with self._transaction() as connection:
            # In an order that all keep, or two processes could wait for each other.
            connection.execute(
                "INSERT INTO lanes (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (sorted(names),)
            )

    @contextmanager
    def snapshot(self) -> Iterator[psycopg.Connection]:
        """Lend a connection that sees the database as it is now; raise `JournalRefusedError` if it cannot be read.

        Nothing else goes on in the process while it is waited for.
        """
        with self._transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    @asynccontextmanager
    async def running(self, on_reconnect: Callable[[], object]) -> AsyncIterator[None]:
        """Keep connections until the block is left; call `on_reconnect` when notifications may have been missed."""
        async with self._pool:
            listener = asyncio.create_task(self._listen(on_reconnect), name="listener")
            try:
                yield
            finally:
                listener.cancel()
                with suppress(asyncio.CancelledError):
                    await listener

    @asynccontextmanager
    async def connection(self, *, even_in_trouble: bool = False) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend a connection in autocommit mode; raise `JournalError` if there is none or what is done with it fails.

        `LostError` if it broke, or was silent for too long: what was asked may have been
        done. While the database is in trouble it is refused at once, but for whoever
        looks whether it still is, and does not wait for long.
        """
        if not even_in_trouble:
            self.check()
        connection = None
        try:
            async with self._pool.connection(2 * RECONNECT if even_in_trouble else None) as connection:
                # The server ends what takes too long; but it, or what is in between, may not answer at all.
                watch = asyncio.get_running_loop().call_later(self._timeout + PATIENCE, _cut, connection)
                try:
                    yield connection
                finally:
                    watch.cancel()
        except PoolTimeout as error:
            raise JournalError(AWAY) from error
        except psycopg.Error as error:
            logger.warning("the database failed: %s", reason(error))
            if connection is not None and isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                await connection.close()  # the next one may go to the primary
            # What goes wrong without a code of the server's, the driver says: that there is no server any more.
            is_unsaid = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
            is_lost = connection is not None and (connection.broken or is_unsaid)
            raise (LostError if is_lost else JournalError)(AWAY if is_lost else "the database failed") from error

    def check(self) -> None:
        """Raise `JournalError` if the database was in trouble when it was last looked at."""
        if self.trouble is not None:
            raise JournalError(AWAY)

    def add_listener(self, callback: Callable[[str], None], channel: str = CHANNEL) -> None:
        """Have `callback` called with what is notified on a channel from the next connection on."""
        self._listeners[channel] = callback

    def note_trouble(self, trouble: str | None) -> None:
        """Take note of why the database cannot be used, or that it can."""
        if trouble != self.trouble:
            logger.warning("the database is %s", "back" if trouble is None else f"away: {trouble}")
        self.trouble = trouble

    async def leave(self) -> None:
        """Let go of every connection: new ones may lead to a better place."""
        await self._pool.drain()

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        try:
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                connection.execute(f"SET search_path = {SCHEMA}")
                with connection.transaction():
                    yield connection
        except psycopg.Error as error:
            raise JournalRefusedError(f"the database cannot be used: {reason(error)}") from error

    def _sample(self) -> None:
        """Learn what the database's clock says."""
        with self._transaction() as connection:
            for _ in range(SAMPLES):
                sent = self.clock.now()
                row = connection.execute("SELECT database_time()").fetchone()
                assert row is not None
                self.clock.note(sent, row[0], self.clock.now())

    async def _configure(self, connection: psycopg.AsyncConnection[Any]) -> None:
        milliseconds = math.ceil(self._timeout * 1000)
        seconds = max(1, math.ceil(self._timeout / 2))
        await connection.execute(
            f"SET search_path = {SCHEMA}; SET statement_timeout = {milliseconds};"
            # What is asked for of a table that grows is found by an index. The planner would rather read through one
            # that it takes to be as small as when it was last analysed, and would stay with that while it grows.
            # Small ones that have no index are read all the same, at a cost that is made up: nothing to compile for.
            "SET enable_seqscan = off; SET jit = off;"
            f"SET idle_in_transaction_session_timeout = {math.ceil(IDLE_IN_TRANSACTION * 1000)};"
            # The server as well must notice a client that is no longer there: it may hold a lane's row.
            f"SET tcp_user_timeout = {milliseconds}; SET tcp_keepalives_idle = {seconds};"
            f"SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = {seconds}"
        )

    async def _listen(self, on_reconnect: Callable[[], object]) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
                    for channel in self._listeners:
                        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    on_reconnect()
                    async for notification in connection.notifies():
                        self._listeners[notification.channel](notification.payload)
            except psycopg.Error as error:
                logger.warning("the database does not notify: %s", reason(error))
                on_reconnect()  # whoever looks now knows whether it was only this connection
                await asyncio.sleep(RECONNECT)


def _cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """Break a connection, so that whoever waits for it learns that there is no use in it."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def _conninfo(url: str, timeout: float) -> str:
    """Return what to connect to; raise `JournalRefusedError` if the URL is none, without a word of what is in it."""
    try:
        host = str(conninfo_to_dict(url).get("host") or "")
    except psycopg.ProgrammingError:
        host = "@"
    if "@" in host:
        raise JournalRefusedError("cannot be told from the URL: percent-encode special characters, such as %40 for @")
    return make_conninfo(
        url,
        application_name="sluice",
        connect_timeout=max(2, math.ceil(timeout)),
        tcp_user_timeout=math.ceil(timeout * 1000),
        keepalives_idle=max(1, math.ceil(timeout / 2)),
        keepalives_interval=1,
        keepalives_count=max(1, math.ceil(timeout / 2)),
    )


def reason(error: psycopg.Error) -> str:
    """Return what is wrong in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
