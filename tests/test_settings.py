from pathlib import Path

import pytest

from sluice.settings import START_REFUSED, load_settings

DAY = 86_400.0


def test_defaults_are_the_missions() -> None:
    settings = load_settings()

    assert (settings.batch_size, settings.batch_interval, settings.upstream_delay) == (3, 5.0, 1.0)
    assert settings.upstream_url is None
    assert settings.max_ids == 1_000_000
    assert (settings.upstream_attempts, settings.retry_base, settings.retry_max, settings.hold_max) == (3, 1, 60, 600)
    assert settings.max_result_bytes == 65_536
    assert settings.idempotency_ttl == DAY
    assert settings.database_path is None


def test_environment_sets_every_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SIZE", "7")
    monkeypatch.setenv("BATCH_INTERVAL", "0.05")
    monkeypatch.setenv("UPSTREAM_URL", "https://host:8443/items/{id}?key=k")
    monkeypatch.setenv("UPSTREAM_ATTEMPTS", "5")
    monkeypatch.setenv("RETRY_BASE", "0.5")
    monkeypatch.setenv("RETRY_MAX", "0")
    monkeypatch.setenv("HOLD_MAX", "30")
    monkeypatch.setenv("MAX_RESULT_BYTES", "100")
    monkeypatch.setenv("IDEMPOTENCY_TTL", "3600")

    settings = load_settings()

    assert (settings.batch_size, settings.batch_interval) == (7, 0.05)
    assert settings.upstream_url == "https://host:8443/items/{id}?key=k"
    assert (settings.upstream_attempts, settings.retry_base, settings.retry_max, settings.hold_max) == (5, 0.5, 0, 30)
    assert (settings.max_result_bytes, settings.idempotency_ttl) == (100, 3600)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///sluice.db", "sluice.db"),
        ("sqlite:///data/sluice.db", "data/sluice.db"),
        ("sqlite:////var/lib/sluice.db", "/var/lib/sluice.db"),
        ("sqlite:///with space and ?.db", "with space and ?.db"),
    ],
)
def test_database_url_names_a_file(url: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    assert load_settings().database_path == Path(path)


@pytest.mark.parametrize(
    ("url", "is_shared"),
    [
        (None, False),
        ("sqlite:///sluice.db", False),
        ("postgresql://host/database", True),
        ("postgres://user:secret@host:5433/database?sslmode=require", True),
        ("postgresql://one,two/database?target_session_attrs=read-write", True),
    ],
)
def test_database_url_of_a_server_is_for_several_processes_and_names_no_file(
    url: str | None, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url:
        monkeypatch.setenv("DATABASE_URL", url)

    settings = load_settings()

    assert settings.is_shared == is_shared
    assert (settings.database_path is None) == (is_shared or url is None)


@pytest.mark.parametrize(
    ("url", "seconds"),
    [(None, DAY), ("sqlite:///sluice.db", 7 * DAY), ("postgresql://host/database", 7 * DAY)],
)
def test_finished_ingestions_are_kept_for_a_day_in_memory_and_seven_in_a_database(
    url: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url:
        monkeypatch.setenv("DATABASE_URL", url)

    by_default = load_settings().retention_seconds
    monkeypatch.setenv("RETENTION", "0")
    as_set = load_settings().retention_seconds

    assert (by_default, as_set) == (seconds, 0)


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
        ("UPSTREAM_ATTEMPTS", "0"),
        ("UPSTREAM_ATTEMPTS", "inf"),
        ("RETRY_BASE", "-1"),
        ("RETRY_BASE", "1s"),
        ("RETRY_MAX", "inf"),
        ("HOLD_MAX", "nan"),
        ("HOLD_MAX", "-0.1"),
        ("MAX_RESULT_BYTES", "0"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "sluice.db"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite://secret.db"),
        ("DATABASE_URL", "sqlite:secret.db"),
        ("DATABASE_URL", "mysql://user:secret@host/sluice"),
        ("DATABASE_URL", "postgres:secret"),
        ("DATABASE_POOL_SIZE", "1"),
        ("DATABASE_POOL_SIZE", "many"),
        ("DATABASE_TIMEOUT", "0"),
        ("DATABASE_TIMEOUT", "inf"),
        ("WORKER", "on"),
        ("WORKER", ""),
        ("LEASE", "0.4"),
        ("LEASE", "nan"),
        ("LANES", ""),
        ("LANES", "missing.toml"),
        ("RETENTION", ""),
        ("RETENTION", "-1"),
        ("RETENTION", "inf"),
        ("IDEMPOTENCY_TTL", "a day"),
        ("MAX_IDS", "0"),
        ("MAX_BODY_BYTES", "1MB"),
        ("MAX_HEADER_BYTES", "0"),
        ("MAX_URL_BYTES", "8KB"),
        ("CLIENT_TIMEOUT", "0"),
        ("CLIENT_TIMEOUT", "inf"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_STREAMS", "0"),
        ("ALLOWED_HOSTS", " , "),
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
