"""A real PostgreSQL with a data directory and a port of its own."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.e2e.servers import held_port

Mode = Literal["fast", "immediate"]

# What the server's main process takes each of them as.
SIGNALS: dict[Mode, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
PATIENCE = 60.0  # seconds
USER = "postgres"
MISSING = "PostgreSQL is not there: apt-get install postgresql"


class PostgresServer:
    """One server process. Without `durable`, what is committed outlives a crash of it, but not of the machine.

    It listens on 127.0.0.1, and on the addresses given beside that; whoever reaches it is let in.
    """

    def __init__(self, folder: Path, port: int, durable: bool, addresses: Sequence[str]) -> None:
        self.port = port
        self._bin = binaries()
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        is_synced = "on" if durable else "off"
        settings = {
            "port": port,
            "listen_addresses": ",".join(("127.0.0.1", *addresses)),
            "unix_socket_directories": self._data,
            "max_connections": 200,
            "fsync": is_synced,
            "full_page_writes": is_synced,
        }
        self._options = [f"--{name}={value}" for name, value in settings.items()]
        self._process: subprocess.Popen[bytes] | None = None
        # As root it does not run.
        self._account = _unprivileged() if os.geteuid() == 0 else None
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        options = f"--pgdata {self._data} --username {USER} --auth trust --encoding UTF8 --locale C --no-sync"
        with self._launch("initdb", options.split()) as process:
            assert process.wait() == 0, self._log.read_text()
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")

    def url(self, database: str, host: str = "127.0.0.1") -> str:
        return f"postgresql://{USER}@{host}:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create an empty database, or a copy of another that nobody is connected to; return its URL."""
        # PostgreSQL's own template for an empty one is template1.
        source = sql.Identifier(template or "template1")
        self._administer(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database if it is there, whoever is connected to it."""
        self._administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def sessions(self, database: str) -> list[int]:
        """Return the process ids of the sessions that clients have in a database."""
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
        return [pid for (pid,) in self._ask(query, database)]

    def terminate(self, pids: Sequence[int]) -> None:
        """Sever the connections of sessions."""
        self._ask("SELECT pg_terminate_backend(pid) FROM unnest(%s::integer[]) AS pid", list(pids))

    def start(self) -> None:
        """Run; return once it lets clients in."""
        assert self._process is None
        self._process = self._launch("postgres", ["-D", str(self._data), *self._options])
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._ask("SELECT 1")
                break
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()[-5000:]
                assert time.monotonic() < deadline, self._log.read_text()[-5000:]
                time.sleep(0.02)

    def stop(self, mode: Mode = "fast") -> None:
        """End it, if it runs: `fast` severs the connections and writes all down, `immediate` is a crash."""
        if self._process is None:
            return
        self._process.send_signal(SIGNALS[mode])
        self._process.wait(PATIENCE)
        self._process = None

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start; return once it lets clients in."""
        self.stop(mode)
        self.start()

    def _launch(self, program: str, options: Sequence[str]) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {}
        if account := self._account:
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self._bin / program, *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests alone; they stop it in their own time.
                start_new_session=True,
                **identity,
            )

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _ask(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()


def binaries() -> Path:
    """Return the folder of the newest PostgreSQL; fail the test if there is none."""
    debians = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: float(file.parts[-3]))
    # Debian keeps these programs out of the PATH.
    found = debians[-1] if debians else shutil.which("postgres")
    if found is None:
        pytest.fail(MISSING)
    return Path(found).resolve().parent


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return pwd.getpwnam("nobody")


@contextmanager
def postgres_server(durable: bool = False, addresses: Sequence[str] = ()) -> Iterator[PostgresServer]:
    """Run a new server until the block is left."""
    with ExitStack() as stack:
        # Not among pytest's folders: those are closed to other users.
        folder = Path(tempfile.mkdtemp(prefix="sluice-postgres-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = PostgresServer(folder, stack.enter_context(held_port()), durable, addresses)
        stack.callback(server.stop, "immediate")
        server.start()
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests of this process, which forgets if the machine crashes: that is faster."""
    with postgres_server() as server:
        yield server


_numbers = itertools.count(1)


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """Return the URL of a database that is this test's own, and empty."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)
