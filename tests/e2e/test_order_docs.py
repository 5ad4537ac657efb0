"""The sessions of docs/order.md behave as printed, and its lanes are lanes."""

import re
import subprocess
from pathlib import Path

import pytest

from sluice.settings import Settings
from tests.e2e.servers import ROOT, serving

TEXT = (ROOT / "docs" / "order.md").read_text()
SESSIONS: list[str] = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
SETTINGS: list[dict[str, str]] = [{}, {"PRIORITY_AGING": "1"}, {"FILL_SLOTS": "true"}]


@pytest.mark.parametrize(("session", "environment"), [*zip(SESSIONS, SETTINGS, strict=True)])
def test_session_behaves_as_printed(session: str, environment: dict[str, str]) -> None:
    commands = re.findall(r"^\$ (.*)$", session, re.MULTILINE)
    printed = re.sub(r"^\$ .*\n", "", session, flags=re.MULTILINE)

    with serving(**environment) as server:
        script = "\n".join(commands).replace("localhost:8000", f"localhost:{server.port}")
        run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    assert TIME.sub("<time>", run.stdout) == TIME.sub("<time>", printed)


def test_lanes_file_sets_both_for_a_lane(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "lanes.toml").write_text(example)

    lanes = Settings(lanes=tmp_path / "lanes.toml").by_lane

    assert [(lane.priority_aging, lane.fill_slots) for lane in lanes.values()] == [(None, False), (600.0, True)]
