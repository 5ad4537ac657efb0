"""The README's session behaves as printed, its settings are the settings, its upstream runs."""

import os
import re
import subprocess
import time
from pathlib import Path

from sluice.settings import Settings
from tests.e2e.servers import ROOT, serving

README = (ROOT / "README.md").read_text()
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SLEEP = re.compile(r"sleep (\d+); ")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def general(text: str) -> str:
    return TIME.sub("<time>", UUID.sub("<uuid>", text)).strip()


def run(command: str) -> str:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout


def run_until_it_prints(printed: str, command: str, latest: float) -> str:
    """Run a command again and again, until it prints this or it is `latest`, in monotonic seconds."""
    while general(output := run(command)) != general(printed) and time.monotonic() < latest:
        time.sleep(0.05)
    return output


def test_session_behaves_as_printed() -> None:
    commands = [
        (command.replace("\\\n", ""), printed)
        for session in blocks("console")
        for command, printed in re.findall(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    ]
    assert len(commands) > 5
    live: dict[str, str] = {}

    # A batch takes nearly its whole slot, so that one that runs does so for as long as can be.
    with serving(UPSTREAM_DELAY="1.6") as server:
        live["localhost:8000"] = f"localhost:{server.port}"
        begun, slept = time.monotonic(), 0
        for command, printed in commands:
            for old, new in live.items():
                command = command.replace(old, new)  # noqa: PLW2901
            if pause := SLEEP.match(command):
                slept += int(pause[1])
                output = run_until_it_prints(printed, command[pause.end() :], time.monotonic() + int(pause[1]) + 15)
                assert time.monotonic() - begun > slept - 1, command
            else:
                output = run(command)
            live |= dict(zip(UUID.findall(printed)[:1], UUID.findall(output)[:1], strict=True))
            assert general(output) == general(printed), command


def printed(default: object) -> str:
    """Return a default as the README has it: floats without a needless fraction."""
    if default is None:
        return "unset"
    return f"`{int(default) if isinstance(default, float) and default.is_integer() else default}`"


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", README, re.MULTILINE))

    expected = {name.upper(): printed(field.default) for name, field in Settings.model_fields.items()}
    assert {name: default.strip() for name, default in rows.items() if name != "PORT"} == expected


def test_lanes_file_of_the_readme_adds_its_lanes(tmp_path: Path) -> None:
    (example,) = blocks("toml")
    (tmp_path / "lanes.toml").write_text(example)

    lanes = Settings(lanes=tmp_path / "lanes.toml").by_lane

    assert [(name, lane.interval, lane.batch_size) for name, lane in lanes.items()] == [
        ("default", 5.0, 3),
        ("maps", 1.0, 3),
        ("archive", 30.0, 100),
    ]


def test_own_upstream_of_the_readme_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    (tmp_path / "mine.py").write_text(example)
    command = f"uvicorn --app-dir {tmp_path} mine:app --port $PORT"

    with serving(command, PYTHONPATH=os.fspath(ROOT), BATCH_INTERVAL="0.05") as server:
        server.wait_until_complete(server.submit([1, 2, 3, 4], "LOW"))
