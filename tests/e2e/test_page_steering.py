"""The live page in a real browser: steering with it, and whoever does."""

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import Visit, violations, visiting
from tests.e2e.servers import Server, fail_2_once, recording_upstream, serving

# Steering


def test_cancel_asks_and_then_cancels_what_has_not_started(still: Visit) -> None:
    ingestion_id = still.submit("1 2 3 4 5 6 7", "HIGH")
    expect(still.row(ingestion_id).locator(".progress")).to_have_attribute("aria-label", "1 completed, of 3 batches")
    still.row(ingestion_id).locator("a").click()
    still.page.click("#cancel")
    dialog = still.page.locator("dialog[open]")
    expect(dialog).to_contain_text("2 batches that have not started will be cancelled for good.")
    still.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert still.server.client.get(f"/status/{ingestion_id}").json()["progress"]["cancelled"] == 0

    still.confirm("#cancel")

    expect(still.page.locator(".ingestion .status").first).to_have_text("✓Completed, 2 cancelled")
    assert still.server.client.get(f"/status/{ingestion_id}").json()["progress"]["cancelled"] == 2


def test_pause_says_why_and_resume_lets_batches_start_again(visit: Visit) -> None:
    page = visit.page
    page.click("#pause")
    page.fill("dialog[open] input[name=reason]", "<b>maintenance</b>")
    page.click("dialog[open] button[type=submit]")
    expect(page.locator(".clock")).to_have_attribute("data-state", "paused")
    expect(page.locator(".clock")).to_contain_text("“<b>maintenance</b>”")
    ingestion_id = visit.server.submit([1], "HIGH")
    expect(visit.row(ingestion_id).locator(".completion")).to_have_text("when resumed")

    visit.confirm("#resume")

    expect(visit.row(ingestion_id).locator(".status")).to_contain_text("Completed")
    assert visit.server.client.get("/queue").json()["paused"] is None


def test_other_priority_moves_an_ingestion_ahead(still: Visit) -> None:
    still.server.submit([1], "LOW")
    still.server.submit([2], "LOW")
    last = still.server.submit([3], "LOW")
    expect(still.row(last).locator(".position")).to_contain_text("1")
    still.row(last).locator("a").click()
    still.page.click("#reprioritise")
    still.page.check("dialog[open] input[value=HIGH]", force=True)
    still.page.click("dialog[open] button[type=submit]")

    still.page.goto(f"{still.server.client.base_url}#/")

    expect(still.row(last).locator(".position")).to_contain_text("0")
    still.expect_coming("HIGH", "LOW")


def test_failures_are_shown_and_tried_again(browser: Browser) -> None:
    with (
        recording_upstream(answer=fail_2_once) as upstream,
        # So slow that what failed is on the timeline for a minute.
        serving(BATCH_INTERVAL="5", UPSTREAM_URL=upstream.url) as server,
        visiting(browser, server) as visit,
    ):
        ingestion_id = visit.submit("1 2 3", "HIGH")
        expect(visit.row(ingestion_id).locator(".status")).to_contain_text("1 failed")
        expect(visit.page.locator(".slot[data-kind=past][data-has-failed]")).to_have_count(1)
        visit.row(ingestion_id).locator("a").click()
        expect(visit.page.locator(".ingestion")).to_contain_text("404")

        visit.confirm("#retry")

        expect(visit.page.locator(".ingestion .status").first).to_have_text("✓Completed")


# For everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("is_phone", [False, True], ids=["desktop", "phone"])
def test_nothing_stands_in_the_way_of_anyone(browser: Browser, slow: Server, scheme: str, is_phone: bool) -> None:
    with visiting(browser, slow, scheme=scheme, is_phone=is_phone) as visit:
        page = visit.page
        found = {"empty": violations(page)}
        ingestion_id = visit.submit("1 2 3 4 5 6 7", "LOW")
        visit.submit("8", "HIGH")
        page.fill("#ids", "9 x")
        expect(page.locator("#count .problems")).to_be_visible()
        found["list"] = violations(page)
        visit.row(ingestion_id).locator("a").click()
        expect(page.locator("#completion")).to_be_visible()
        found["ingestion"] = violations(page)
        page.click("#cancel")
        expect(page.locator("dialog[open]")).to_be_visible()
        found["dialog"] = violations(page)

        assert not any(found.values()), found
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_keyboard_alone_submits_and_opens_an_ingestion(still: Visit) -> None:
    page = still.page
    page.focus("#ids")
    page.keyboard.type("51 52")
    expect(page.locator("#forecast-medium time")).to_be_visible()
    while page.evaluate("document.activeElement.name") != "priority":
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.value") == "HIGH"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".accepted a")).to_be_focused()

    page.keyboard.press("Enter")

    expect(page.locator("#ingestion-title")).to_be_focused()
    expect(page.locator(".ingestion .priority").first).to_contain_text("High")
