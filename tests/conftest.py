"""Fixtures that several files of tests share."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from fastapi.testclient import TestClient

from sluice.app import create_app
from sluice.settings import Settings
from tests.api import BACKENDS, ManualClock, ScriptedUpstream, Service, serving, settings_for
from tests.api_steps import EndlessUpstream, answer
from tests.postgres import database_url, postgres  # noqa: F401, fixtures
from tests.sqlite import Run, SteppedClock
from tests.virtual import VirtualLoop

# What takes long says something of the machine, and of nothing else.
hypothesis.settings.register_profile(
    "sluice", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("sluice")


@pytest.fixture(autouse=True)
def no_settings_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the developer's own shell sets away from the tests, an UPSTREAM_URL above all."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """An event loop in virtual time: sleeping costs nothing and is exact."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.finish()
    asyncio.set_event_loop(None)


@pytest.fixture
def client() -> Iterator[TestClient]:
    settings = Settings(max_ids=10_000, max_body_bytes=100_000, shutdown_grace=0)
    with TestClient(create_app(settings, EndlessUpstream(), ManualClock())) as client:
        yield client


@pytest.fixture
def upstream() -> ScriptedUpstream:
    """An upstream that hangs on ID 1, so that whatever else is submitted waits."""
    return ScriptedUpstream(answer, hanging=[1])


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_for(request.param, tmp_path, retry_base=0)


@pytest.fixture
def service(settings: Settings, upstream: ScriptedUpstream) -> Iterator[Service]:
    with serving(settings, upstream) as service:
        yield service


@pytest.fixture
def hurried(settings: Settings, upstream: ScriptedUpstream) -> Iterator[Service]:
    """A service that does all its work at once."""
    with serving(settings.model_copy(update={"batch_interval": 0.0}), upstream) as service:
        yield service


@pytest.fixture
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sluice.db"


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how much was asked at random."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties:
            if name == "fuzzed" and report.when == "call":
                terminalreporter.write_line(f"fuzzed as {value}")
