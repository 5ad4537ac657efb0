"""Fresh PostgreSQL databases whose clock stands still until it is set."""

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count

import psycopg
from psycopg import sql

from sluice.clock import SystemClock
from sluice.journal.postgres_database import Database
from tests.postgres import PostgresServer, postgres_server
from tests.virtual import EPOCH

TEMPLATE = "template_sluice"
_numbers = count(1)


@cache
def server() -> PostgresServer:
    """Return this process's server, with a template of a database in which no time passes by itself."""
    stack = ExitStack()
    atexit.register(stack.close)
    started = stack.enter_context(postgres_server())
    url = started.create_database(TEMPLATE)
    Database(url, SystemClock(), pool_size=2, timeout=5.0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = sluice")
        connection.execute("CREATE TABLE manual_clock (seconds double precision NOT NULL)")
        connection.execute("INSERT INTO manual_clock VALUES (%s)", (EPOCH,))
        connection.execute(
            "CREATE OR REPLACE FUNCTION database_time() RETURNS double precision LANGUAGE sql VOLATILE"
            " AS 'SELECT seconds FROM sluice.manual_clock'"
        )
    return started


def fresh_database() -> str:
    """Return the URL of a new database."""
    return server().create_database(f"manual_{next(_numbers)}", TEMPLATE)


def set_clock(url: str, seconds: float) -> None:
    """Set a database's clock to Unix seconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE sluice.manual_clock SET seconds = %s", (seconds,))


def sever(url: str) -> None:
    """Throw everybody out of a database."""
    server().terminate(server().sessions(url.rpartition("/")[2]))


@contextmanager
def away(url: str) -> Iterator[None]:
    """Let nobody into a database, and throw everybody out, until the block is left."""
    name = url.rpartition("/")[2]

    def admit(is_admitted: bool) -> None:
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        with psycopg.connect(server().url("postgres"), autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Literal(is_admitted)))

    admit(False)
    try:
        sever(url)
        yield
    finally:
        admit(True)
