"""What several processes on one PostgreSQL achieve, and what it costs, beside yardsticks on the same database."""

import sys
from collections.abc import Callable
from shutil import which

from benchmarks.fleet_accept import accepting, lag
from benchmarks.fleet_dispatch import dispatches, pace, takeovers
from benchmarks.fleet_waiting import waiting
from benchmarks.table import print_table
from tests.postgres import PostgresServer, postgres_server

HEADER = ["what", "figure", "beside it", "target", ""]
TABLES: dict[str, tuple[str, Callable[[PostgresServer], list[list[str]]]]] = {
    "dispatches": ("Dispatches: two workers, no interval, an upstream that takes no time", dispatches),
    "pace": ("Pace: three workers, 3 calls of 20 ms a batch, as the upstream sees it", pace),
    "takeovers": ("Take-over: from the signal to the next batch, less what the pace asks for anyway", takeovers),
    "accepting": ("Accepting 5-ID jobs: 32 connections, median of the runs, taking turns", accepting),
    "lag": ("Lag: what one process accepted, at another", lag),
    "waiting": ("Waiting work: 1,000,000 ingestions of 5 IDs against 1,000", waiting),
}


if __name__ == "__main__":
    if which("wrk") is None:
        sys.exit("benchmarks.fleet needs wrk: apt-get install wrk")
    with postgres_server(durable=True) as server:
        for name in sys.argv[1:] or TABLES:
            title, measure = TABLES[name]
            print_table(f"Fleet. {title}", HEADER, measure(server))
