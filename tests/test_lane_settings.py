"""The LANES file: what a lane takes from it and from the environment, and what is said of an ill-formed one."""

import json
from pathlib import Path
from typing import Any

import pytest

from sluice.lane_settings import LaneSettings
from sluice.settings import START_REFUSED, load_settings

DEFAULTS = LaneSettings(
    batch_size=3,
    interval=5.0,
    url=None,
    delay=1.0,
    timeout=30.0,
    attempts=3,
    retry_base=1.0,
    retry_max=60.0,
    hold_max=600.0,
    max_result_bytes=65_536,
    priority_aging=None,
    fill_slots=False,
)
URL = "https://maps.example.com/places/{id}?key=secret"


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, LaneSettings]:
    monkeypatch.setenv("LANES", str(path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings().by_lane


def written(folder: Path, content: str | bytes, name: str = "lanes.toml") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def entry(**overrides: Any) -> str:
    """Return a file with a lane `maps` but for the overrides."""
    lines = (f"{key} = {json.dumps(value)}\n" for key, value in {"name": "maps", **overrides}.items())
    return "[[lanes]]\n" + "".join(lines)


def change(**overrides: Any) -> LaneSettings:
    return DEFAULTS.model_copy(update=overrides)


def test_without_a_file_there_is_one_lane_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    by_default = load_settings().by_lane
    monkeypatch.setenv("BATCH_INTERVAL", "7")
    monkeypatch.setenv("UPSTREAM_URL", URL)

    assert by_default == {"default": DEFAULTS}
    assert load_settings().by_lane == {"default": change(interval=7.0, url=URL)}


def test_file_adds_lanes_to_the_default_one_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, entry(name="b") + entry(name="a") + entry(name="0_-z"))

    assert list(loaded(path, monkeypatch)) == ["default", "b", "a", "0_-z"]


KNOBS = {
    "batch_size": 7,
    "interval": 0.5,
    "url": URL,
    "delay": 2.0,
    "timeout": 0.1,
    "attempts": 1,
    "retry_base": 0.0,
    "retry_max": 1.5,
    "hold_max": 30.0,
    "max_result_bytes": 100,
    "priority_aging": 3600.0,
    "fill_slots": True,
}


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_lane_can_set_every_knob_and_the_default_lane_keeps_its_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = entry(**KNOBS) if kind == "toml" else json.dumps({"lanes": [{"name": "maps", **KNOBS}]})
    path = written(tmp_path, content, f"lanes.{kind}")

    assert loaded(path, monkeypatch) == {"default": DEFAULTS, "maps": LaneSettings.model_validate(KNOBS)}


ENVIRONMENT = {
    "BATCH_SIZE": "9",
    "BATCH_INTERVAL": "11",
    "UPSTREAM_URL": "https://host/{id}",
    "UPSTREAM_DELAY": "12",
    "UPSTREAM_TIMEOUT": "13",
    "UPSTREAM_ATTEMPTS": "14",
    "RETRY_BASE": "15",
    "RETRY_MAX": "16",
    "HOLD_MAX": "17",
    "MAX_RESULT_BYTES": "18",
    "PRIORITY_AGING": "19",
    "FILL_SLOTS": "true",
}
AS_THE_ENVIRONMENT_SAYS = LaneSettings(
    batch_size=9,
    interval=11.0,
    url="https://host/{id}",
    delay=12.0,
    timeout=13.0,
    attempts=14,
    retry_base=15.0,
    retry_max=16.0,
    hold_max=17.0,
    max_result_bytes=18,
    priority_aging=19.0,
    fill_slots=True,
)


@pytest.mark.parametrize("knob", [None, *KNOBS])
def test_what_a_lane_leaves_open_is_as_the_environment_says(
    knob: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {knob: KNOBS[knob]} if knob else {}
    path = written(tmp_path, entry(**overrides))

    lanes = loaded(path, monkeypatch, **ENVIRONMENT)

    assert lanes == {
        "default": AS_THE_ENVIRONMENT_SAYS,
        "maps": AS_THE_ENVIRONMENT_SAYS.model_copy(update=overrides),
    }


def test_file_can_set_the_default_lane_too_and_others_do_not_follow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, entry() + entry(name="default", interval=9))

    lanes = loaded(path, monkeypatch, BATCH_INTERVAL="7")

    assert list(lanes) == ["default", "maps"]
    assert (lanes["default"].interval, lanes["maps"].interval) == (9.0, 7.0)


@pytest.mark.parametrize(("name", "content"), [("lanes.toml", "lanes = []"), ("lanes.json", '{"lanes": []}')])
def test_file_with_no_lanes_is_fine(name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(written(tmp_path, content, name), monkeypatch) == {"default": DEFAULTS}


def test_text_of_a_file_is_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "# für Karten ☕\n" + entry())

    assert list(loaded(path, monkeypatch)) == ["default", "maps"]


def refusal(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        loaded(path, monkeypatch)
    assert stop.value.code == START_REFUSED
    complaint = capsys.readouterr().err
    assert complaint.startswith("sluice: LANES: ")
    assert complaint.count("\n") == 1
    assert complaint.endswith("\n")
    assert str(path) in complaint
    assert "secret" not in complaint
    return complaint


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", "lanes: Field required"),
        ("[lanes]\nname = 'maps'", "lanes: "),
        ("lanes = ['secret']", "lanes.0: "),
        (entry() + "[[lane]]\nname = 'secret'", "lane: Extra inputs are not permitted"),
        ("[[lanes]]\ninterval = 5", "lanes[0].name: Field required"),
        (entry() + "[[lanes]]\ninterval = 5", "lanes[1].name: Field required"),
        (entry(name=""), "lanes[0].name: "),
        (entry(name="Maps"), "lanes[0].name: "),
        (entry(name="-maps"), "lanes[0].name: "),
        (entry(name="ma ps"), "lanes[0].name: "),
        (entry(name="maps\n"), "lanes[0].name: "),
        (entry(name="x" * 64), "lanes[0].name: "),
        (entry(name=7), "lanes[0].name: "),
        (entry() + entry(name="other") + entry(), "lanes[2].name: maps is there twice"),
        (entry(batch_size=0), "lanes[0].batch_size: "),
        (entry(batch_size=1.5), "lanes[0].batch_size: "),
        (entry(interval=-1), "lanes[0].interval: "),
        (entry(interval="soon"), "lanes[0].interval: "),
        ("[[lanes]]\nname = 'maps'\ninterval = nan", "lanes[0].interval: "),
        ("[[lanes]]\nname = 'maps'\ninterval = inf", "lanes[0].interval: "),
        (entry(url=""), "lanes[0].url: "),
        (entry(url="ftp://secret@host/{id}"), "lanes[0].url: "),
        (entry(url="https://secret.host/items"), "lanes[0].url: "),
        (entry(url="https://{id}.secret/items/{id}"), "lanes[0].url: "),
        (entry(url="https://secret:port/items/{id}"), "lanes[0].url: "),
        (entry(url=["https://secret.host/{id}"]), "lanes[0].url: "),
        (entry(delay=-0.1), "lanes[0].delay: "),
        (entry(timeout=0), "lanes[0].timeout: "),
        (entry(attempts=0), "lanes[0].attempts: "),
        (entry(retry_base="1s"), "lanes[0].retry_base: "),
        (entry(retry_max=-1), "lanes[0].retry_max: "),
        (entry(hold_max=-1), "lanes[0].hold_max: "),
        (entry(max_result_bytes=0), "lanes[0].max_result_bytes: "),
        (entry(upstream_url=URL), "lanes[0].upstream_url: Extra inputs are not permitted"),
        (entry(url=URL, timeout=0), "lanes[0].timeout: "),
        ("[[lanes]]\nname = maps", "is no TOML: "),
        (f"[[lanes]]\nurl = '{URL}", "is no TOML: "),
        (f"url = '{URL}'\nurl = '{URL}'", "is no TOML: "),
        (b"[[lanes]]\nname = '\xff'", "is no TOML: "),
    ],
)
def test_ill_formed_toml_stops_the_start_with_one_line_that_says_where(
    content: str | bytes,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(tmp_path, content)

    assert place in refusal(path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", "is no JSON: "),
        (entry(), "is no JSON: "),
        (f'{{"lanes": [{{"name": "maps", "url": "{URL}"', "is no JSON: "),
        ("{}", "lanes: Field required"),
        ("[]", "each lane is an entry of the list 'lanes'"),
        ("null", "each lane is an entry of the list 'lanes'"),
        ('"secret"', "each lane is an entry of the list 'lanes'"),
        ('{"lanes": {"maps": {"interval": 1}}}', "lanes: "),
        ('{"lanes": [{"name": "maps"}, null]}', "lanes.1: "),
        ('{"lanes": [{"name": "maps", "interval": NaN}]}', "lanes[0].interval: "),
        ('{"lanes": [{"name": "maps", "interval": null}]}', "lanes[0].interval: "),
        ('{"lanes": [{"name": "maps", "url": {"secret": 1}}]}', "lanes[0].url: "),
    ],
)
def test_ill_formed_json_stops_the_start_with_one_line_that_says_where(
    content: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, content, "lanes.json")

    assert place in refusal(path, monkeypatch, capsys)


def test_missing_file_and_folder_stop_the_start_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, folder = tmp_path / "missing.toml", tmp_path

    assert f"{missing} cannot be read: No such file" in refusal(missing, monkeypatch, capsys)
    assert f"{folder} cannot be read: Is a directory" in refusal(folder, monkeypatch, capsys)


def test_ill_formed_environment_is_named_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, entry())

    with pytest.raises(SystemExit):
        loaded(path, monkeypatch, UPSTREAM_URL="https://secret.host/items")

    complaint = capsys.readouterr().err
    assert complaint.startswith("sluice: UPSTREAM_URL: ")
    assert "LANES" not in complaint
    assert "secret" not in complaint
