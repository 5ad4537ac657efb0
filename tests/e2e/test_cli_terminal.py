"""What the commands show on a terminal, and ask there."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sluice.schemas import STATUS_EXAMPLE
from tests.e2e.command_line import SLOW, on_terminal, sluice
from tests.e2e.servers import Server, serving

ORDER = "\x1b]0;title\x07"
ANSWERS = {
    "status": json.dumps({**STATUS_EXAMPLE, "status": "completed"}),
    "results": json.dumps({"id": 1, "status": "failed", "error": ORDER}) + "\n",
    "ingest": json.dumps({"ingestion_id": ORDER}),
    "queue": f"<html>{ORDER}",
}


@contextmanager
def foreign() -> Iterator[int]:
    """Run a server that would like to give orders to the terminal, and yield its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = ANSWERS[self.path.split("/")[1]].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_terminal_has_a_bar_that_ends_at_100_percent_and_a_summary(quick: Server) -> None:
    code, shown = on_terminal(quick, "submit", "1", "2", "3", "4", "5", "6", "--wait")

    assert code == 0
    assert "\x1b[" in shown
    assert "100%" in shown
    assert "2 of 2 batches" in shown


def test_terminal_asks_before_it_cancels() -> None:
    with serving(**SLOW) as server:
        sluice(server, "submit", "1")
        ingestion_id = sluice(server, "submit", "2").strip()

        code, shown = on_terminal(server, "cancel", ingestion_id, typed="n\n")

        assert code == 1
        assert f"Cancel ingestion {ingestion_id}?" in shown
        assert server.client.get(f"/status/{ingestion_id}").json()["progress"]["cancelled"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["results", "x", "--format", "csv"],
        ["results", "x"],
        ["queue", "--json"],
        ["submit", "1"],
        ["submit", "1", "--json"],
    ],
)
def test_terminal_takes_no_orders_from_a_server(arguments: list[str]) -> None:
    with foreign() as port:
        _, shown = on_terminal(port, *arguments)

    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert "0;title" in shown
