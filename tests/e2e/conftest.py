"""Servers and browsers that several modules of these tests share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import PACE, PATIENCE, SLOW, Visit, chromium, visiting
from tests.e2e.servers import Server, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    with chromium() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(**PACE) as server:
        yield server


@pytest.fixture(scope="module")
def quick() -> Iterator[Server]:
    """A server of a module's own, for tests that do not mind each other."""
    with serving(**PACE) as server:
        yield server


@pytest.fixture
def slow() -> Iterator[Server]:
    """A server that starts one batch, and the next long after."""
    with serving(**SLOW) as server:
        yield server


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    with visiting(browser, server) as visit:
        yield visit


@pytest.fixture
def still(browser: Browser, slow: Server) -> Iterator[Visit]:
    with visiting(browser, slow) as visit:
        yield visit
