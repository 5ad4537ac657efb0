"""Several lanes in a file: those that nobody took up, and those that something was moved to."""

import sqlite3
from pathlib import Path

import pytest

from sluice.journal import JournalRefusedError
from sluice.journal.sqlite import SqliteFile
from sluice.settings import Settings
from tests.lanes import lanes_settings, serving_both
from tests.sqlite import SteppedClock


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return lanes_settings("sqlite", tmp_path)


def test_lanes_that_nobody_took_up_are_told(settings: Settings, tmp_path: Path) -> None:
    with serving_both(settings) as both:
        both.service.submit([101], lane="maps")
        both.service.submit([1])
    file = SqliteFile(tmp_path / "x.db", SteppedClock())

    before = file.left
    file.journal("default")
    file.journal("other")

    assert before == {"default", "maps"}
    assert file.left == {"maps"}
    file.journal("maps")
    assert file.left == set()
    file._thread.shutdown()
    file._database.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ingestions SET lane = 'default'",
        "UPDATE ingestions SET lane = 'nap'",
        "UPDATE lanes SET name = 'nap' WHERE name = 'maps'",
        "DELETE FROM lanes WHERE name = 'maps'",
        "UPDATE keys SET lane = 'nap'",
    ],
)
def test_file_in_which_something_is_in_another_lane_than_it_was_is_refused(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    with serving_both(settings) as both:
        body = {"ids": [101], "priority": "LOW", "lane": "maps"}
        both.service.client.post("/ingest", json=body, headers={"Idempotency-Key": "k"})
    database = sqlite3.connect(tmp_path / "x.db")
    database.execute(damage)
    database.commit()
    database.close()

    with pytest.raises(JournalRefusedError, match="is damaged: "):
        SqliteFile(tmp_path / "x.db", SteppedClock())
