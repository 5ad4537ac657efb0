"""What the commands do, through pipes, against a real server."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command_line import SLOW, UUID, sluice, start, submit_and_watch
from tests.e2e.servers import PATIENCE, ROOT, Server, client_of, held_port, serving, wait_until_it_answers


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
    output, complaint = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
    assert UUID.fullmatch(output.strip())
    assert "completed: 2 of 2 batches" in complaint
    assert quick.client.get(f"/status/{output.strip()}").json()["status"] == "completed"


def test_watch_tells_each_change_as_a_line(quick: Server) -> None:
    _, lines = submit_and_watch(quick, 1, 2, 3, 4)

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


def test_serve_runs_the_service(tmp_path: Path) -> None:
    with held_port() as port, client_of(port) as client:
        process = subprocess.Popen(
            [sys.executable, "-m", "sluice", "serve", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until_it_answers(process, client)
        assert client.get("/readyz").json() == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
