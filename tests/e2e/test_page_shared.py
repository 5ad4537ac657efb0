"""The live page in a real browser, in front of a server that fills its slots: what shares one is one block."""

import threading

from playwright.sync_api import Browser, expect

from tests.e2e.browser import SLOW, violations, visiting
from tests.e2e.servers import RecordingHandler, answer_ok, recording_upstream, serving


def test_what_shares_a_slot_is_one_block_from_the_forecast_to_the_end(browser: Browser) -> None:
    # Each slot lasts until it has been looked at, however long that takes.
    may_end = threading.Semaphore(0)

    def answer(handler: RecordingHandler) -> None:
        may_end.acquire()
        answer_ok(handler)

    with (
        recording_upstream(answer=answer) as upstream,
        serving(UPSTREAM_URL=upstream.url, UPSTREAM_TIMEOUT="300", FILL_SLOTS="true") as server,
        visiting(browser, server) as visit,
    ):
        page = visit.page
        server.submit([901, 902, 903], "HIGH")  # a full slot: nothing else gets into it, however late it starts
        jobs = [server.submit([1], "LOW"), server.submit([2], "MEDIUM"), server.submit([3], "LOW")]
        coming = page.locator(".slot[data-kind=coming]")
        expect(coming).to_have_count(1)
        expect(coming.locator(".bar")).to_have_count(3)
        label = coming.locator("a").first.get_attribute("aria-label")
        assert label
        assert label.startswith(f"3 jobs: 2, 1, 3. MEDIUM, ingestion {jobs[1][:8]}, expected at ")
        expect(page.locator(".slot a[tabindex='0']")).to_have_count(1)
        coming.locator("a").first.focus()
        expect(page.locator("#inspector")).to_contain_text("3 jobs: 2, 1, 3")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#inspector")).to_contain_text(jobs[0][:8])
        assert violations(page) == []

        may_end.release(3)
        running = page.locator(".running")
        for job in (jobs[1], jobs[0], jobs[2]):
            expect(running.locator(f"a[href='#/ingestions/{job}']")).to_be_visible()
            expect(visit.row(job).locator(".status")).to_contain_text("Running")
        expect(running).to_contain_text("3 IDs")

        may_end.release(3)
        expect(page.locator(".slot[data-kind=past]")).to_have_count(2)
        expect(page.locator(".slot[data-kind=past]").last.locator(".bar")).to_have_count(3)
        expect(page.locator(".slot")).to_have_count(2)


def test_while_paused_each_waits_by_itself(browser: Browser) -> None:
    with serving(**SLOW, FILL_SLOTS="true") as server, visiting(browser, server) as visit:
        server.client.post("/queue/pause")
        for number in (1, 2, 3):
            server.submit([number], "LOW")

        expect(visit.page.locator(".parked .slot")).to_have_count(3)
        expect(visit.page.locator(".bar")).to_have_count(0)
