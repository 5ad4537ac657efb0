"""A real browser on the live page: Debian's Chromium, driven with Playwright."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from tests.e2e.servers import ROOT, Server

AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
PACE = {"BATCH_INTERVAL": "1", "UPSTREAM_DELAY": "0.1"}
# One batch, and the next one long after any test.
SLOW = {"BATCH_INTERVAL": "3600", "UPSTREAM_DELAY": "0.1"}
# Seconds that a browser on two busy cores may take to show what happened.
PATIENCE = 60.0
# What comes or goes by degrees has, on its way, not the contrast that it has in the end.
SETTLED = """
Promise.allSettled(
    document.getAnimations()
        .filter((each) => each.effect.getComputedTiming().endTime < Infinity)
        .map((each) => each.finished)
).then(() => null)
"""


class Trouble:
    """What a page complains of: on its console, in its scripts, about what it cannot load, and where it goes."""

    def __init__(self, page: Page, origin: str) -> None:
        self.seen: list[str] = []
        self._origin = origin
        self._is_expected = False
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.seen.append(f"error: {error}"))
        page.on("request", self._on_request)

    def expect(self) -> None:
        """From here on the test gives the browser reason to complain on its console, until the page is closed."""
        self._is_expected = True

    def _on_console(self, message: ConsoleMessage) -> None:
        # Its only way to find out that nobody is signed in; the browser complains whatever the page makes of it.
        is_refusal = "status of 401" in message.text and message.location["url"] == f"{self._origin}/session"
        if message.type in ("error", "warning") and not is_refusal and not self._is_expected:
            self.seen.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self._origin, "data:")):
            self.seen.append(f"went to {request.url}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless browser."""
    path = shutil.which("chromium")
    assert path, "the tests of the page need Debian's chromium"
    with sync_playwright() as playwright:
        # Its own sandbox is not to be had by root in a container; it only ever sees the page under test.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=PATIENCE * 1000
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(
    browser: Browser, server: Server, *, is_phone: bool = False, scheme: str = "light", is_open: bool = True
) -> Iterator["Visit"]:
    """Have a page open; it must complain of nothing. `is_open`: it shows everything without a key."""
    visit = Visit(browser, server, is_phone=is_phone, scheme=scheme, is_open=is_open)
    yield visit
    visit.page.close()
    assert visit.trouble.seen == []


def violations(page: Page) -> list[dict[str, Any]]:
    """Return what axe-core finds wrong on the page as it is, the serious and critical."""
    page.evaluate(SETTLED)
    # Through the debugger's door: the page's own policy would let no script in.
    page.evaluate(AXE.read_text())
    found = json.loads(page.evaluate("axe.run().then((results) => JSON.stringify(results.violations))"))
    return [
        {"id": each["id"], "impact": each["impact"], "nodes": [node["html"] for node in each["nodes"]]}
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


class Visit:
    """A page that is open, and what it complained of."""

    def __init__(
        self, browser: Browser, server: Server, *, is_phone: bool = False, scheme: str = "light", is_open: bool = True
    ) -> None:
        self.server = server
        origin = str(server.client.base_url).rstrip("/")
        self.page = browser.new_page(viewport=PHONE if is_phone else DESKTOP, color_scheme=scheme)  # type: ignore[arg-type]
        self.page.set_default_timeout(PATIENCE * 1000)
        self.trouble = Trouble(self.page, origin)
        self.page.goto(origin)
        if is_open:
            expect(self.page.locator("#connection")).to_have_attribute("data-state", "live")
        else:
            expect(self.page.locator("#key")).to_be_focused()

    def submit(self, ids: str, priority: str) -> str:
        """Submit through the form; return the id."""
        page = self.page
        page.fill("#ids", ids)
        page.click(f".card[data-priority={priority}]")
        expect(page.locator(f"input[name=priority][value={priority}]")).to_be_checked()
        expect(page.locator(f"#forecast-{priority.lower()} time")).to_be_visible()
        page.click("#submit")
        href = page.locator(".accepted a").get_attribute("href")
        assert href
        return href.rpartition("/")[2]

    def row(self, ingestion_id: str) -> Locator:
        return self.page.locator(f"tr[data-ingestion='{ingestion_id}']")

    def expect_coming(self, *priorities: str) -> None:
        """Expect slots of these priorities to come, the next first."""
        slots = self.page.locator(".slot[data-kind=coming]")
        expect(slots).to_have_count(len(priorities))
        for slot, priority in enumerate(priorities):
            expect(slots.nth(slot)).to_have_attribute("data-priority", priority)

    def confirm(self, button: str) -> None:
        """Press a button and, in the dialog that asks, the one that does it."""
        self.page.click(button)
        dialog = self.page.locator("dialog[open]")
        expect(dialog).to_be_visible()
        dialog.locator("button[type=submit]").click()
        expect(dialog).to_be_hidden()
