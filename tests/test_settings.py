import pytest

from sluice.settings import START_REFUSED, load_settings


def test_defaults_are_the_missions() -> None:
    settings = load_settings()

    assert (settings.batch_size, settings.batch_interval, settings.upstream_delay) == (3, 5.0, 1.0)
    assert settings.upstream_url is None
    assert settings.max_ids == 1_000_000


def test_environment_sets_every_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SIZE", "7")
    monkeypatch.setenv("BATCH_INTERVAL", "0.05")
    monkeypatch.setenv("UPSTREAM_URL", "https://host:8443/items/{id}?key=k")

    settings = load_settings()

    assert (settings.batch_size, settings.batch_interval) == (7, 0.05)
    assert settings.upstream_url == "https://host:8443/items/{id}?key=k"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "three"),
        ("BATCH_SIZE", "1.5"),
        ("BATCH_INTERVAL", "-1"),
        ("BATCH_INTERVAL", "nan"),
        ("BATCH_INTERVAL", "inf"),
        ("UPSTREAM_DELAY", ""),
        ("UPSTREAM_TIMEOUT", "0"),
        ("UPSTREAM_URL", ""),
        ("UPSTREAM_URL", "ftp://secret@host/{id}"),
        ("UPSTREAM_URL", "https:///secret/{id}"),
        ("UPSTREAM_URL", "https://secret.host/items"),
        ("UPSTREAM_URL", "https://{id}.secret/items/{id}"),
        ("UPSTREAM_URL", "https://secret:port/items/{id}"),
        ("UPSTREAM_URL", "https://secret.host/\x01/{id}"),
        ("MAX_IDS", "0"),
        ("MAX_BODY_BYTES", "1MB"),
        ("SHUTDOWN_GRACE", "-0.1"),
    ],
)
def test_ill_formed_value_stops_the_start_with_one_line_that_names_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as stop:
        load_settings()

    complaint = capsys.readouterr().err
    assert stop.value.code == START_REFUSED
    assert complaint.count("\n") == 1
    assert f"{name}: " in complaint
    assert "secret" not in complaint
