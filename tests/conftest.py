"""Virtual time and recording upstreams, shared by all tests."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.virtual import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """An event loop in virtual time: sleeping costs nothing and is exact."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.finish()
    asyncio.set_event_loop(None)
