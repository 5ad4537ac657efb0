"""The command line as a child process against a real server, through pipes and on a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.servers import (
    ROOT,
    Server,
    fail_2_once,
    free_port,
    held_port,
    recording_upstream,
    serving,
    spawn,
    wait_until_it_answers,
)

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PACE = {"BATCH_INTERVAL": "0.3", "UPSTREAM_DELAY": "0.02"}
SLOW = {"BATCH_INTERVAL": "60", "UPSTREAM_DELAY": "0.02"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def quick() -> Iterator[Server]:
    with serving(**PACE) as server:
        yield server


def url_of(server: Server | int) -> str:
    return f"http://127.0.0.1:{server if isinstance(server, int) else server.port}"


def start(server: Server | int, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sluice", *arguments],
        cwd=ROOT,
        env={**os.environ, "SLUICE_URL": url_of(server)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sluice(server: Server | int, *arguments: str, code: int = 0, given: str = "") -> str:
    """Run a command to its end, with this exit code; return what it printed, or on failure what it complained of."""
    process = start(server, *arguments)
    output, complaint = process.communicate(given, timeout=40)
    assert process.returncode == code, output + complaint
    assert "\x1b" not in output + complaint
    assert "Traceback" not in complaint
    return output if code == 0 else complaint


def on_terminal(server: Server, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal; return its exit code and all that it showed there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sluice", *arguments],
        cwd=ROOT,
        env={**os.environ, "SLUICE_URL": url_of(server), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    return process.wait(timeout=10), shown.decode()


# Through pipes


def test_submit_prints_the_id_alone_and_status_finds_it(quick: Server) -> None:
    printed = sluice(quick, "submit", "1", "2", "3", "4", "--priority", "high")

    assert UUID.fullmatch(printed.strip())
    status = json.loads(sluice(quick, "status", printed.strip(), "--json"))
    assert (status["priority"], status["progress"]["total_ids"]) == ("HIGH", 4)


@pytest.mark.parametrize("name", ["stdin", "file", "column"])
def test_ids_come_from_stdin_a_file_and_the_column_of_a_csv(quick: Server, tmp_path: Path, name: str) -> None:
    (tmp_path / "ids.txt").write_text("11, 12\n13\n")
    (tmp_path / "ids.csv").write_text("name,item\nann,11\nbob,12\neve,13\n")
    arguments = {
        "stdin": ["-"],
        "file": [str(tmp_path / "ids.txt")],
        "column": [str(tmp_path / "ids.csv"), "--column", "item"],
    }

    ingestion_id = sluice(quick, "submit", *arguments[name], given="11 12\n13").strip()

    (batch,) = quick.client.get(f"/status/{ingestion_id}").json()["batches"]
    assert batch["ids"] == [11, 12, 13]


def test_wait_returns_once_all_is_done_and_says_what_came_of_it(quick: Server) -> None:
    process = start(quick, "submit", "1", "2", "3", "4", "5", "--wait")
    output, complaint = process.communicate(timeout=40)

    assert process.returncode == 0
    assert UUID.fullmatch(output.strip())
    assert "completed: 2 of 2 batches" in complaint
    assert quick.client.get(f"/status/{output.strip()}").json()["status"] == "completed"


def test_watch_tells_each_change_as_a_line(quick: Server) -> None:
    ingestion_id = sluice(quick, "submit", "1", "2", "3", "4", "5", "6", "7").strip()

    lines = [json.loads(line) for line in sluice(quick, "watch", ingestion_id, "--json").splitlines()]

    assert lines[-1]["status"] == "completed"
    assert {"started", "finished"} <= {line["event"] for line in lines}


def test_results_go_to_a_file_as_lines_or_as_a_table(quick: Server, tmp_path: Path) -> None:
    ingestion_id = sluice(quick, "submit", "21", "22", "23", "24").strip()

    lines = sluice(quick, "results", ingestion_id, "--follow").splitlines()
    sluice(quick, "results", ingestion_id, "--format", "csv", "--output", str(tmp_path / "results.csv"))

    assert [json.loads(line)["id"] for line in lines] == [21, 22, 23, 24]
    table = (tmp_path / "results.csv").read_text().splitlines()
    assert table[0].startswith("id,")
    assert [row.partition(",")[0] for row in table[1:]] == ["21", "22", "23", "24"]


def test_operators_pause_resume_cancel_and_reprioritise() -> None:
    with serving(**SLOW) as server:
        sluice(server, "submit", "1")
        waiting = sluice(server, "submit", "2", "3", "4", "5", "--priority", "LOW").strip()

        sluice(server, "pause", "--reason", "maintenance")
        assert "maintenance" in sluice(server, "queue")
        sluice(server, "resume")
        assert server.client.get("/queue").json()["paused"] is None
        sluice(server, "priority", waiting, "HIGH")
        assert server.client.get(f"/status/{waiting}").json()["priority"] == "HIGH"
        sluice(server, "cancel", waiting, "--yes")
        assert server.client.get(f"/status/{waiting}").json()["progress"]["cancelled"] == 2
        assert waiting in sluice(server, "list", "--status", "completed")
        assert sluice(server, "watch", waiting, code=1) == ""


def test_forecast_submits_nothing(quick: Server) -> None:
    before = quick.client.get("/ingestions").json()

    forecast = json.loads(sluice(quick, "forecast", "30", "--json"))

    assert forecast["total_batches"] == 10
    assert list(forecast["forecasts"]) == ["HIGH", "MEDIUM", "LOW"]
    assert [each["ingestion_id"] for each in quick.client.get("/ingestions").json()["ingestions"]] == [
        each["ingestion_id"] for each in before["ingestions"]
    ]


# Exit codes


def test_failed_ids_end_with_1_and_are_named_and_can_be_tried_again() -> None:
    with recording_upstream(answer=fail_2_once) as upstream, serving(**PACE, UPSTREAM_URL=upstream.url) as server:
        process = start(server, "submit", "1", "2", "3", "--wait")
        output, complaint = process.communicate(timeout=40)
        assert process.returncode == 1
        assert "404" in complaint

        sluice(server, "retry", output.strip())

        assert "completed" in sluice(server, "watch", output.strip())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["submit", "1", "<script>"], "<script>"),
        (["submit", "12x"], "12x"),
        (["submit", "0"], "0"),
        (["submit"], "IDs|FILE"),
        (["submit", "1", "--priority", "urgent"], "urgent"),
        (["submit", "1", "--lane", "nowhere"], "lane"),
        (["status", UNKNOWN], "unknown or expired"),
        (["watch", UNKNOWN], "unknown or expired"),
        (["retry", "nonsense"], "unknown or expired"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line_that_names_it(quick: Server, arguments: list[str], named: str) -> None:
    complaint = sluice(quick, *arguments, code=2)

    assert named.lower() in complaint.lower()
    assert len(complaint.splitlines()) == 1


def test_wrong_token_in_a_file_is_named_with_its_line(quick: Server, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1\n2\n3 4x\n")

    complaint = sluice(quick, "submit", str(tmp_path / "ids.txt"), code=2)

    assert "'4x'" in complaint
    assert "line 3" in complaint


@pytest.mark.parametrize("command", [["queue"], ["submit", "1"], ["watch", UNKNOWN], ["results", UNKNOWN]])
def test_no_server_ends_with_3(command: list[str]) -> None:
    assert "no answer" in sluice(free_port(), *command, code=3)


def test_waiting_outlasts_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with held_port() as port:
        environment = {**PACE, "PORT": str(port), "DATABASE_URL": f"sqlite:///{tmp_path}/jobs.db"}
        with httpx.Client(base_url=url_of(port)) as client:
            server = spawn("uvicorn main:app --port $PORT", **environment)
            wait_until_it_answers(server, client)
            waiting = start(port, "submit", *map(str, range(1, 25)), "--wait")
            assert waiting.stdout
            ingestion_id = waiting.stdout.readline().strip()
            server.kill()
            server.communicate()
            time.sleep(1.5)
            server = spawn("uvicorn main:app --port $PORT", **environment)
            try:
                _, complaint = waiting.communicate(timeout=40)
            finally:
                server.kill()
                server.communicate()

    assert UUID.fullmatch(ingestion_id)
    assert waiting.returncode == 0, complaint
    assert "the server does not answer; waiting for it to come back" in complaint
    assert "8 of 8 batches" in complaint


def test_interrupted_wait_ends_with_130_and_says_that_the_work_goes_on() -> None:
    with serving(**SLOW) as server:
        process = start(server, "submit", "1", "2", "3", "4", "--wait")
        assert process.stdout
        ingestion_id = process.stdout.readline().strip()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=10)

        assert process.returncode == 130
        assert f"{ingestion_id} goes on" in complaint
        assert "Traceback" not in complaint


# On a terminal


def test_terminal_has_a_bar_that_ends_at_100_percent_and_a_summary(quick: Server) -> None:
    code, shown = on_terminal(quick, "submit", "1", "2", "3", "4", "5", "6", "--wait")

    assert code == 0
    assert "\x1b[" in shown
    assert "100%" in shown
    assert "2 of 2 batches" in shown


def test_terminal_asks_before_it_cancels(quick: Server) -> None:
    with serving(**SLOW) as server:
        sluice(server, "submit", "1")
        ingestion_id = sluice(server, "submit", "2").strip()
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "sluice", "cancel", ingestion_id],
            cwd=ROOT,
            env={**os.environ, "SLUICE_URL": url_of(server)},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.write(ours, b"n\n")
        process.wait(timeout=20)
        os.close(ours)

        assert process.returncode != 0
        assert server.client.get(f"/status/{ingestion_id}").json()["progress"]["cancelled"] == 0


def test_serve_runs_the_service(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "sluice", "serve", "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with httpx.Client(base_url=url_of(port)) as client:
        wait_until_it_answers(process, client)
        assert client.get("/readyz").json() == {"status": "ok"}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    assert process.returncode == 0
