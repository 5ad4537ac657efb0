"""Virtual time and recording upstreams, shared by all tests."""

import asyncio
from collections.abc import Iterator

import pytest

from sluice.settings import Settings
from tests.virtual import VirtualLoop


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
