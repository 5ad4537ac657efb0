"""The live page in a real browser, in front of a service that needs a key: signing in and out, and who sees what."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from sluice.keys import Role, make_key
from tests.e2e.browser import PACE, SLOW, Visit, violations, visiting
from tests.e2e.servers import PLAIN, Server, client_of, held_port, serving, spawn, wait_until_it_answers

PEOPLE = {"alice": Role.SUBMIT, "bob": Role.SUBMIT, "rita": Role.READ, "otto": Role.ADMIN}
MADE = {name: make_key(name, role) for name, role in PEOPLE.items()}
SECRETS = {name: secret for name, (secret, _) in MADE.items()}
KEYS = {"API_KEYS": ",".join(entry for _, entry in MADE.values())}
OVER = re.compile("no longer signed in")
# Longer than the page leaves between two looks at the server.
POLL = 3500  # ms
STATE = "import('/dashboard/store.js').then(({ get }) => JSON.stringify(get()))"


@pytest.fixture
def guarded() -> Iterator[Server]:
    with serving(**PACE, **KEYS) as server:
        yield server


@pytest.fixture
def door(browser: Browser, guarded: Server) -> Iterator[Visit]:
    """A page that asks for a key."""
    with visiting(browser, guarded, is_open=False) as visit:
        yield visit


def sign_in(page: Page, who: str) -> None:
    page.fill("#key", SECRETS[who])
    page.click("#sign-in")
    expect(page.locator("#signed-in")).to_contain_text(f"{who} {PEOPLE[who]}")


def submit_as(server: Server, who: str, ids: list[int]) -> str:
    server.client.headers["Authorization"] = f"Bearer {SECRETS[who]}"
    return server.submit(ids, "LOW")


def asked_of(page: Page) -> list[str]:
    """Return the paths of what the page asks for from now on."""
    paths: list[str] = []
    page.on("request", lambda request: paths.append(urlsplit(request.url).path))
    return paths


# Signing in and out


def test_key_is_asked_for_before_anything_else(door: Visit) -> None:
    paths = asked_of(door.page)

    door.page.reload()
    expect(door.page.get_by_label("Key")).to_be_focused()
    door.page.wait_for_timeout(POLL)

    assert [path for path in paths if path != "/" and not path.startswith("/dashboard/")] == ["/session"]
    expect(door.page.locator("#key")).to_have_attribute("autocomplete", "current-password")


def test_keyboard_alone_signs_in_and_out_and_a_reload_changes_nothing(door: Visit) -> None:
    page = door.page
    page.keyboard.type(SECRETS["otto"])
    page.keyboard.press("Enter")
    expect(page.locator("#signed-in")).to_contain_text("otto admin")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")

    page.reload()

    expect(page.locator("#signed-in")).to_contain_text("otto admin")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    while page.evaluate("document.activeElement.id") != "sign-out":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#key")).to_be_focused()
    page.reload()
    expect(page.locator("#key")).to_be_focused()


def test_wrong_key_is_said_to_be_wrong(door: Visit) -> None:
    page = door.page
    page.fill("#key", "sluice_wrong")
    page.keyboard.press("Enter")

    expect(page.locator("[aria-live=assertive]")).to_contain_text("This key is not valid.")
    expect(page.locator("#key")).to_be_focused()
    expect(page.locator("#key")).to_have_value("")
    sign_in(page, "rita")


def test_server_that_is_away_is_said_to_be(door: Visit) -> None:
    door.trouble.expect()
    door.server.process.kill()
    door.server.process.wait()

    door.page.fill("#key", SECRETS["otto"])
    door.page.keyboard.press("Enter")

    expect(door.page.locator("[aria-live=assertive]")).to_contain_text("The server cannot be reached.")
    expect(door.page.locator("#key")).to_have_value("")


def test_page_asks_again_who_is_signed_in_until_it_is_told(door: Visit) -> None:
    door.trouble.expect()
    door.page.route("**/session", lambda route: route.abort())
    door.page.reload()
    expect(door.page.get_by_role("status")).to_contain_text("The server cannot be reached. It is asked again")
    expect(door.page.locator("#key")).to_have_count(0)

    door.page.unroute("**/session")

    expect(door.page.locator("#key")).to_be_focused()


def test_key_is_nowhere_but_in_one_request(browser: Browser) -> None:
    with (
        serving("uvicorn main:app --port $PORT", **PACE, **KEYS, LOG_LEVEL="DEBUG") as server,
        visiting(browser, server, is_open=False) as visit,
    ):
        page, said = visit.page, []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: said.append(request.url + str(request.headers)))
        bodies: list[str] = []
        page.on("request", lambda request: bodies.append(request.post_data or ""))

        sign_in(page, "otto")
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")

        said += [page.url, page.content(), page.evaluate("document.cookie"), page.evaluate(STATE)]
        said += [page.evaluate(f"JSON.stringify({storage})") for storage in ("localStorage", "sessionStorage")]
        said += [str(cookie) for cookie in page.context.cookies()]
        visit.trouble.expect()
        server.process.kill()
        assert server.process.stdout
        said.append(server.process.stdout.read())
        assert [SECRETS["otto"] in body for body in bodies].count(True) == 1
        assert not [text for text in said if SECRETS["otto"] in text]


def test_signing_out_drops_what_was_fetched_and_asks_for_no_more(door: Visit) -> None:
    page = door.page
    ingestion_id = submit_as(door.server, "alice", [1])
    sign_in(page, "otto")
    door.row(ingestion_id).locator("a").click()
    expect(page.locator("#owner")).to_have_text("alice")

    page.click("#sign-out")

    expect(page.locator("#sign-in-told")).to_have_text("You are signed out.")
    # The form has a picture, which may be asked for anew.
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    paths = asked_of(page)
    page.wait_for_timeout(POLL)
    assert paths == []
    for place in (page.evaluate(STATE), page.content(), page.title(), page.url):
        assert ingestion_id[:8] not in place


def test_page_stays_signed_in_where_the_server_does_not_hear_otherwise(door: Visit) -> None:
    sign_in(door.page, "rita")
    expect(door.page.locator("#connection")).to_have_attribute("data-state", "live")
    door.trouble.expect()
    door.server.process.kill()
    door.server.process.wait()

    door.page.click("#sign-out")

    # It may complain of an answer that was cut off as well.
    told = door.page.get_by_role("alert").filter(has_text="Still signed in. The server cannot be reached.")
    expect(told).to_be_visible()


# Sessions that end


def test_session_that_is_over_leads_back_to_the_form(browser: Browser) -> None:
    with (
        # Long enough to be seen, before the page finds out that it is over.
        serving(**PACE, **KEYS, SESSION_TTL="10") as server,
        visiting(browser, server, is_open=False) as visit,
    ):
        visit.trouble.expect()
        sign_in(visit.page, "alice")

        expect(visit.page.locator("#sign-in-told")).to_have_text(OVER)
        expect(visit.page.locator("#key")).to_be_focused()


def test_key_that_is_gone_ends_the_stream_and_the_session(browser: Browser) -> None:
    with held_port() as port, client_of(port) as client:

        def start(names: list[str]) -> Server:
            keys = ",".join(MADE[name][1] for name in names)
            process = spawn(PLAIN, PORT=str(port), API_KEYS=keys, **PACE)
            wait_until_it_answers(process, client)
            return Server(process, client, port)

        server = start(["otto", "rita"])
        visit = Visit(browser, server, is_open=False)
        sign_in(visit.page, "otto")
        expect(visit.page.locator("#connection")).to_have_attribute("data-state", "live")
        server.process.kill()
        server.process.communicate()
        # What else would find out, so that only the stream is left to.
        visit.page.route(re.compile("/(slots|queue|ingestions|forecast)"), lambda route: route.abort())
        server = start(["rita"])
        try:
            expect(visit.page.locator("#sign-in-told")).to_have_text(OVER)
        finally:
            server.process.kill()
            server.process.communicate()
            visit.page.close()


def test_page_goes_by_the_key_that_another_tab_signed_in_with(door: Visit) -> None:
    sign_in(door.page, "otto")
    expect(door.page.locator("#pause")).to_be_visible()
    door.page.request.post(f"{door.server.client.base_url}/session", data={"key": SECRETS["rita"]})

    door.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    expect(door.page.locator("#signed-in")).to_contain_text("rita read")
    expect(door.page.locator("#pause")).to_have_count(0)


# Who sees what


def test_service_without_keys_has_nothing_to_sign_in_or_out_of(visit: Visit) -> None:
    expect(visit.page.locator("#pause")).to_be_visible()
    expect(visit.page.locator("#sign-out, #signed-in, #key")).to_have_count(0)


def test_reader_sees_all_and_has_no_controls(browser: Browser) -> None:
    with serving(**SLOW, **KEYS) as server, visiting(browser, server, is_open=False) as visit:
        page = visit.page
        submit_as(server, "alice", [1])
        ingestion_id = submit_as(server, "bob", [2])
        sign_in(page, "rita")
        expect(page.locator("tr[data-ingestion]")).to_have_count(2)
        expect(page.locator(".slot[data-kind=coming]")).to_have_count(1)
        expect(page.locator("#pause, #resume, .submit, .skip, .to-form")).to_have_count(0)

        visit.row(ingestion_id).locator("a").click()

        expect(page.locator("#completion")).to_be_visible()
        expect(page.locator("#owner")).to_have_text("bob")
        expect(page.locator("#cancel, #reprioritise, #retry")).to_have_count(0)


def test_submitter_submits_and_sees_its_own_only(door: Visit) -> None:
    page = door.page
    other = submit_as(door.server, "bob", [1, 2])
    paths = asked_of(page)
    sign_in(page, "alice")
    expect(page.locator("#connection")).to_have_attribute("data-state", "asked")
    expect(page.locator("#scope")).to_contain_text("are not for it")

    ingestion_id = door.submit("3 4 5 6", "HIGH")

    expect(door.row(ingestion_id).locator(".status")).to_contain_text("Completed")
    expect(page.locator("tr[data-ingestion]")).to_have_count(1)
    expect(page.locator(".overview, .timeline")).to_have_count(0)
    door.row(ingestion_id).locator("a").click()
    expect(page.locator("#completion")).to_be_visible()
    expect(page.get_by_text('"processed"').first).to_be_visible()
    expect(page.locator("#cancel, #reprioritise, #retry")).to_have_count(0)
    assert not {"/queue", "/slots", "/events"} & set(paths)

    door.trouble.expect()
    page.evaluate(f"location.hash = '#/ingestions/{other}'")
    expect(page.locator(".ingestion .problem")).to_contain_text("No ingestion with this id")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("is_phone", [False, True], ids=["desktop", "phone"])
def test_nothing_stands_in_the_way_of_anyone(browser: Browser, guarded: Server, scheme: str, is_phone: bool) -> None:
    with visiting(browser, guarded, scheme=scheme, is_phone=is_phone, is_open=False) as visit:
        page = visit.page
        found = {"form": violations(page)}
        page.fill("#key", "sluice_wrong")
        page.click("#sign-in")
        expect(page.locator("[aria-live=assertive] .problem")).to_be_visible()
        found["wrong"] = violations(page)
        for who in ("alice", "rita"):
            sign_in(page, who)
            expect(page.locator(".ingestions")).not_to_have_attribute("aria-busy", "true")
            found[who] = violations(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.click("#sign-out")
            expect(page.locator("#sign-in-told")).to_have_text("You are signed out.")

        assert not any(found.values()), found
