"""The commands against the real service in this process: what they print where, and how they end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.cli.commands import submit
from sluice.settings import Settings
from sluice.upstream import UpstreamError
from tests.api import ScriptedUpstream, Service, serving
from tests.command_line import Run, running

UNKNOWN = "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that does all its work at once, but for ID 1, on which it hangs; ID 13 fails."""

    def answer(item: int) -> object:
        return UpstreamError("[b]not\x1b[2J here") if item == 13 else {"id": item}

    settings = Settings(batch_interval=0, upstream_attempts=1, shutdown_grace=0)
    with serving(settings, ScriptedUpstream(answer, hanging=[1])) as service:
        yield service


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch) -> Run:
    return running(service, monkeypatch)


def submitted(run: Run, *arguments: str) -> str:
    result = run("submit", *arguments)
    assert result.code == 0, result.errors
    return result.output.strip()


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_id_is_alone_on_standard_output(run: Run, service: Service) -> None:
    result = run("submit", "2", "3", "--priority", "hIgH")

    assert (result.code, result.errors) == (0, "")
    assert service.status(result.output.removesuffix("\n"))["priority"] == "HIGH"


def test_a_bad_token_sends_nothing(run: Run, service: Service) -> None:
    result = run("submit", "-", standard_input="1\n2 <script>\n")

    assert result.code == 2
    assert result.output == ""
    assert result.errors.startswith("sluice: standard input, line 2: '<script>' is no ID")
    assert result.errors.count("\n") == 1
    assert service.get("/ingestions")["ingestions"] == []


def test_the_same_key_is_the_same_submission(run: Run) -> None:
    assert submitted(run, "2", "--idempotency-key", "k") == submitted(run, "2", "--idempotency-key", "k")

    assert run("submit", "3", "--idempotency-key", "k").code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", "2", "--lane", "nowhere"], "There is no such lane; there are: default"),
        (["status", UNKNOWN], "No ingestion with this id is known"),
        (["watch", UNKNOWN], "No ingestion with this id is known"),
        (["results", UNKNOWN], "No ingestion with this id is known"),
        (["cancel", UNKNOWN], "No ingestion with this id is known"),
        (["priority", UNKNOWN, "HIGH"], "No ingestion with this id is known"),
        (["retry", UNKNOWN], "No ingestion with this id is known"),
        (["queue", "--lane", "nowhere"], "There is no such lane"),
        (["forecast", "0"], "count: Input should be greater than or equal to 1"),
        (["list", "--status", "done"], "'done' is not one of"),
        (["submit", "2", "--priority", "urgent"], "'urgent' is not one of"),
        (["submit"], "Missing argument"),
        (["bogus"], "No such command 'bogus'"),
        (["status", UNKNOWN, "--bogus"], "No such option"),
        (["queue", "--url", "ftp://sluice.test"], "no URL"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(arguments: list[str], words: str, run: Run) -> None:
    result = run(*arguments)

    assert (result.code, result.output) == (2, "")
    assert words in result.errors
    assert result.errors.count("\n") == 1


def test_waiting_ends_with_0_if_all_is_completed(run: Run) -> None:
    result = run("submit", "2", "3", "4", "5", "--wait")

    ingestion_id = result.output.strip()
    assert result.code == 0
    assert f"ingestion: {ingestion_id}\ncompleted: 2 of 2 batches\nduration: " in result.errors


def test_waiting_ends_with_1_and_says_what_failed(run: Run) -> None:
    result = run("submit", "2", "13", "--wait")

    assert result.code == 1
    assert "failed: 1 batches\n" in result.errors
    assert r"failure: 13: [b]not\x1b[2J here" in result.errors


def test_a_cancelled_ingestion_was_not_done_either(run: Run, service: Service) -> None:
    blocking, waiting = submitted(run, "1"), submitted(run, "2")

    assert run("cancel", waiting).code == 0
    assert run("watch", waiting).code == 1
    service.call(lambda: None)
    assert service.status(blocking)["status"] == "triggered"


def test_ctrl_c_ends_the_waiting_and_not_the_ingestion(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> Iterator[object]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(submit, "follow_ingestion", interrupted)

    result = run("submit", "2", "--wait")

    assert result.code == 130
    assert result.errors == f"sluice: waiting no longer; ingestion {result.output.strip()} goes on\n"


def test_json_is_the_api_s_own(run: Run, service: Service) -> None:
    ingestion_id = submitted(run, "2", "13")
    service.until_completed(ingestion_id)

    for arguments, path in [
        (["status", ingestion_id], f"/status/{ingestion_id}"),
        (["list"], "/ingestions?limit=20"),
        (["queue"], "/queue"),
    ]:
        assert run(*arguments, "--json").output == service.client.get(path).text + "\n"


def test_what_is_waited_for_is_one_document_at_the_end(run: Run) -> None:
    result = run("submit", "2", "--wait", "--json")

    [document] = documents(result.output)
    assert document["status"] == "completed"


def test_what_is_watched_is_a_line_for_each_change(run: Run, service: Service) -> None:
    ingestion_id = submitted(run, "2", "3")
    service.until_completed(ingestion_id)

    [only] = documents(run("watch", ingestion_id, "--json").output)
    assert (only["event"], only["ingestion_id"], only["status"]) == ("status", ingestion_id, "completed")


def test_the_status_shows_the_batches_that_failed_or_all(run: Run, service: Service) -> None:
    ingestion_id = submitted(run, "2", "3", "4", "13", "5", "6")
    service.until_completed(ingestion_id)

    failed = run("status", ingestion_id).output
    every = run("status", ingestion_id, "--batches").output

    assert "status: completed\n" in failed
    assert "\tfailed\t13 5 6\t13: [b]not\\x1b[2J here\n" in failed
    assert "2 3 4" not in failed
    assert "\tcompleted\t2 3 4\t\n" in every


def test_every_batch_is_there_however_many_pages_they_take(run: Run, service: Service) -> None:
    ingestion_id = submitted(run, *["2"] * 3100)

    [document] = documents(run("status", ingestion_id, "--batches", "--json").output)

    assert len(document["batches"]) == document["progress"]["total_batches"] == 1034


def test_the_list_goes_on_until_it_has_what_was_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.api.ingestions.LIST_LOOKS", 2)
    ids = [submitted(run, str(number), "--priority", "low" if number % 3 else "high") for number in range(2, 11)]

    rows = run("list", "--priority", "high", "--limit", "2").output.splitlines()
    [document] = documents(run("list", "--priority", "high", "--json").output)

    assert [row.split("\t")[0] for row in rows] == ["ingestion", ids[7], ids[4]]
    assert [each["ingestion_id"] for each in document["ingestions"]] == [ids[7], ids[4], ids[1]]


def test_a_forecast_is_a_row_for_each_priority(run: Run) -> None:
    assert [row.split("\t")[:2] for row in run("forecast", "30").output.splitlines()] == [
        ["priority", "ahead"],
        ["HIGH", "0"],
        ["MEDIUM", "0"],
        ["LOW", "0"],
    ]
    [of_ids] = documents(run("forecast", "30", "31", "--json").output)
    assert of_ids["total_ids"] == 2


def test_results_are_lines_or_a_csv_or_a_file(run: Run, service: Service, tmp_path: Path) -> None:
    ingestion_id = submitted(run, "2", "13")
    service.until_completed(ingestion_id)
    path = tmp_path / "results.csv"

    assert run("results", ingestion_id).output == service.client.get(f"/results/{ingestion_id}").text
    assert run("results", ingestion_id, "--format", "csv", "--output", str(path)).output == ""
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["id", "2", "13"]


def test_scripts_are_taken_at_their_word_and_one_unknown_id_does_not_stop_the_others(
    run: Run, service: Service
) -> None:
    submitted(run, "1")
    waiting = submitted(run, "2")

    result = run("cancel", UNKNOWN, waiting)

    assert result.code == 2
    assert UNKNOWN in result.errors
    assert result.output == f"{waiting} 1 cancelled\n"
    assert service.batch_statuses(waiting) == ["cancelled"]


def test_priority_retry_pause_and_resume_do_what_they_say(run: Run, service: Service) -> None:
    failed = submitted(run, "13")
    service.until_completed(failed)

    assert "paused: since" in run("pause", "--reason", "[b]x").output
    assert service.get("/queue")["paused"]["reason"] == "[b]x"
    assert run("retry", failed).code == 0
    assert "priority: HIGH\n" in run("priority", failed, "high").output
    assert "expected: not while the queue is paused\n" in run("status", failed).output
    assert run("resume").code == 0
    service.until_completed(failed)
    assert run("priority", failed, "low").code == 2


def test_help_is_there_for_every_command(run: Run) -> None:
    overview = run("--help")

    assert overview.code == 0
    for name in [
        "serve",
        "key",
        "submit",
        "forecast",
        "status",
        "watch",
        "results",
        "list",
        "cancel",
        "priority",
        "retry",
        "queue",
        "pause",
        "resume",
    ]:
        assert name in overview.output
        assert run(name, "--help").code == 0
