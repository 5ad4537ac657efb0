"""How the commands end: the exit code, and one line that says why."""

import signal
from pathlib import Path

import pytest

from tests.e2e.command_line import PACE, SLOW, UNKNOWN, UUID, sluice, start
from tests.e2e.servers import (
    PATIENCE,
    Server,
    client_of,
    fail_2_once,
    held_port,
    recording_upstream,
    serving,
    spawn,
    wait_until_it_answers,
)


def test_failed_ids_end_with_1_and_are_named_and_can_be_tried_again() -> None:
    with recording_upstream(answer=fail_2_once) as upstream, serving(**PACE, UPSTREAM_URL=upstream.url) as server:
        process = start(server, "submit", "1", "2", "3", "--wait")
        output, complaint = process.communicate(timeout=PATIENCE)
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
    with held_port() as port:
        assert "no answer" in sluice(port, *command, code=3)


def test_waiting_outlasts_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with held_port() as port, client_of(port) as client:
        environment = {"PORT": str(port), "DATABASE_URL": f"sqlite:///{tmp_path}/jobs.db"}
        server = spawn("uvicorn main:app --port $PORT", **environment, **SLOW)
        wait_until_it_answers(server, client)
        waiting = start(port, "submit", *map(str, range(1, 25)), "--wait")
        assert waiting.stdout
        assert waiting.stderr
        ingestion_id = waiting.stdout.readline().strip()
        server.kill()
        server.communicate()
        said = waiting.stderr.readline()
        server = spawn("uvicorn main:app --port $PORT", **environment, **PACE)
        try:
            _, complaint = waiting.communicate(timeout=PATIENCE)
        finally:
            server.kill()
            server.communicate()

    assert UUID.fullmatch(ingestion_id)
    assert said == "sluice: the server does not answer; waiting for it to come back\n"
    assert waiting.returncode == 0, complaint
    assert "8 of 8 batches" in complaint


def test_interrupted_wait_ends_with_130_and_says_that_the_work_goes_on() -> None:
    with serving(**SLOW) as server:
        process = start(server, "submit", "1", "2", "3", "4", "--wait")
        assert process.stdout
        ingestion_id = process.stdout.readline().strip()
        server.wait_for_listeners(1)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)

        assert process.returncode == 130
        assert f"{ingestion_id} goes on" in complaint
        assert "Traceback" not in complaint
