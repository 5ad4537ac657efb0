"""The live page in a real browser, in front of a real server: submitting, watching, and a stream that is cut."""

from datetime import datetime
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Request, Route, expect

from tests.e2e.browser import PACE, Visit, visiting
from tests.e2e.servers import Server, client_of, held_port, serving, spawn, wait_until_it_answers

INTERVAL = 5.0  # seconds: half of it tells one slot from the next, whatever a busy machine adds
LATENESS = "sluice_start_lateness_seconds_sum"
TIMES = "(times) => times.map((each) => each.dateTime)"

# Submitting and watching


def test_what_is_submitted_through_the_form_moves_its_bar_without_a_reload(visit: Visit) -> None:
    visit.page.evaluate("window.isSamePage = true")

    ingestion_id = visit.submit("1, 2, 3\n4 5 6 7", "LOW")

    row = visit.row(ingestion_id)
    # How far it had come when the browser first showed it depends on the machine.
    expect(row.locator(".counts")).to_have_text("3/3")
    expect(row.locator(".progress")).to_have_attribute("aria-label", "3 completed, of 3 batches")
    expect(row.locator(".status")).to_contain_text("Completed")
    assert visit.page.evaluate("window.isSamePage")
    assert visit.server.client.get(f"/status/{ingestion_id}").json()["status"] == "completed"


def test_what_others_submit_appears_by_itself(visit: Visit) -> None:
    ingestion_id = visit.server.submit([1, 2, 3, 4], "MEDIUM")

    expect(visit.row(ingestion_id)).to_be_visible()
    expect(visit.row(ingestion_id).locator(".counts")).to_have_text("2/2")


def test_later_high_job_jumps_ahead_on_the_timeline(still: Visit) -> None:
    still.server.submit([1, 2, 3], "LOW")
    still.submit("4, 5, 6, 7", "LOW")
    still.expect_coming("LOW", "LOW")

    high = still.submit("8 9 10", "HIGH")

    still.expect_coming("HIGH", "LOW", "LOW")
    expect(still.row(high).locator(".position")).to_contain_text("0")
    expect(still.page.locator("#waiting-high .figure")).to_have_text("1")
    expect(still.page.locator("#waiting-low .figure")).to_have_text("2")


def test_what_if_is_what_then_happens(browser: Browser) -> None:
    with (
        serving(BATCH_INTERVAL=str(INTERVAL), UPSTREAM_DELAY="0.1") as server,
        visiting(browser, server) as visit,
    ):
        server.submit(list(range(1, 13)), "MEDIUM")
        expect(visit.page.locator("#waiting-medium .figure")).not_to_have_text("0")
        late_before = server.metric(LATENESS)
        visit.page.fill("#ids", "11 12 13 14")
        for name in ("high", "medium", "low"):
            expect(visit.page.locator(f"#forecast-{name} time")).to_be_visible()
        times = visit.page.locator(".card .when time").evaluate_all(TIMES)
        high, medium, low = map(datetime.fromisoformat, times)

        ingestion_id = visit.submit("11 12 13 14", "LOW")
        server.wait_until_complete(ingestion_id)

        finished = datetime.fromisoformat(server.client.get(f"/status/{ingestion_id}").json()["finished_time"])
        # Each late start has the later ones be as much later: what was forecast before knew nothing of that.
        late = server.metric(LATENESS) - late_before
        assert -INTERVAL / 2 < (finished - low).total_seconds() < late + INTERVAL / 2
        assert high < medium <= low


def test_page_of_an_ingestion_shows_its_batches_and_results(visit: Visit) -> None:
    ingestion_id = visit.submit("21 22 23 24", "HIGH")

    visit.row(ingestion_id).locator("a").click()

    expect(visit.page.locator("#ingestion-title")).to_contain_text(ingestion_id)
    expect(visit.page.locator("#completion")).to_be_visible()
    expect(visit.page.get_by_text("24", exact=True).first).to_be_visible()
    expect(visit.page.locator(".ingestion .status").first).to_contain_text("Completed")
    expect(visit.page.get_by_text('"processed"').first).to_be_visible()
    with visit.page.expect_download() as download:
        visit.page.click("#download")
    assert len(Path(download.value.path()).read_text().splitlines()) == 4


# Input that is wrong


def test_markup_in_a_csv_is_an_error_message_and_never_markup(visit: Visit) -> None:
    text = "id,name\n1,ann\n<script>document.title='gotcha'</script>,bob\n<img src=x onerror=alert(1)>,eve\n4,dan\n"
    visit.page.set_input_files("#file", {"name": "<b>jobs.csv", "mimeType": "text/csv", "buffer": text.encode()})

    problems = visit.page.locator("#count .problems")
    expect(problems).to_contain_text("Line 3: <script>document.title='gotcha'</script>")
    expect(problems).to_contain_text("Line 4: onerror=alert(1)> is not a whole number.")
    expect(visit.page.locator("#submit")).to_be_disabled()
    assert visit.page.locator(".submit script, .submit img, .submit b:has(*)").count() == 0
    assert visit.page.title() == "Sluice"


def test_column_of_a_csv_is_submitted(visit: Visit) -> None:
    text = "name,id\nann,31\nbob,32\n"
    visit.page.set_input_files("#file", {"name": "jobs.csv", "mimeType": "text/csv", "buffer": text.encode()})
    visit.page.select_option("#column", label="id")
    expect(visit.page.locator("#count")).to_contain_text("2 IDs")
    expect(visit.page.locator("#forecast-medium time")).to_be_visible()

    visit.page.click("#submit")

    href = visit.page.locator(".accepted a").get_attribute("href")
    assert href
    status = visit.server.client.get(f"/status/{href.rpartition('/')[2]}").json()
    assert [batch["ids"] for batch in status["batches"]] == [[31, 32]]


def test_answer_that_got_lost_is_asked_for_again_and_nothing_is_accepted_twice(visit: Visit) -> None:
    lost: list[httpx.Response] = []

    def lose(route: Route, request: Request) -> None:
        if not lost:
            lost.append(
                visit.server.client.post(
                    "/ingest",
                    content=request.post_data,
                    headers=request.headers,
                )
            )
            route.abort()
        else:
            route.continue_()

    visit.trouble.expect()
    visit.page.route("**/ingest", lose)
    ingestion_id = visit.submit("41 42", "HIGH")

    assert lost[0].json()["ingestion_id"] == ingestion_id
    assert len(visit.server.client.get("/ingestions").json()["ingestions"]) == 1


# The stream


def test_page_says_when_the_stream_is_cut_goes_on_by_polling_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    with held_port() as port:
        environment = {**PACE, "PORT": str(port), "DATABASE_URL": f"sqlite:///{tmp_path}/page.db"}
        with client_of(port) as client:

            def start() -> Server:
                process = spawn("uvicorn main:app --port $PORT", **environment)
                wait_until_it_answers(process, client)
                return Server(process, client, port)

            server = start()
            visit = Visit(browser, server)
            connection = visit.page.locator("#connection")
            server.process.kill()
            server.process.communicate()
            expect(connection).to_have_attribute("data-state", "down")
            expect(connection).to_contain_text("unreachable")

            visit.page.route("**/events*", lambda route: route.abort())
            server = start()
            try:
                expect(connection).to_have_attribute("data-state", "polling")
                expect(connection).to_contain_text("polling")
                polled = server.submit([1], "HIGH")
                expect(visit.row(polled).locator(".status")).to_contain_text("Completed")

                visit.page.unroute("**/events*")
                expect(connection).to_have_attribute("data-state", "live")
                heard = server.submit([2], "HIGH")
                expect(visit.row(heard).locator(".status")).to_contain_text("Completed")
            finally:
                server.process.kill()
                server.process.communicate()
            complaints = [each for each in visit.trouble.seen if "Failed to load resource" not in each]
            visit.page.close()
    assert complaints == []
