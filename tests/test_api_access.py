"""Who may ask for what: every route, every role, own ingestions and others', with a key, a session, or neither."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Route

from sluice.api import access
from sluice.app import create_app
from sluice.keys import Keys, Role, make_key
from sluice.settings import Settings
from tests.api import BACKENDS, JSON, ManualClock, Service, assert_problem, serving, settings_for

PEOPLE = {"alice": Role.SUBMIT, "bob": Role.SUBMIT, "rita": Role.READ, "otto": Role.ADMIN}
MADE = {name: make_key(name, role) for name, role in PEOPLE.items()}
SECRETS = {name: secret for name, (secret, _) in MADE.items()}
API_KEYS = ", ".join(entry for _, entry in MADE.values())

ENCRYPTED = {"X-Forwarded-Proto": "https"}
EVERYONE = {"nobody", "alice", "bob", "rita", "otto"}
WITH_KEY = EVERYONE - {"nobody"}
# Who is let in, by route; where it is about an ingestion, that is alice's.
LET_IN = {
    "POST /ingest": {"alice", "bob", "otto"},
    "POST /forecast": WITH_KEY,
    "GET /status/{ingestion_id}": WITH_KEY - {"bob"},
    "GET /results/{ingestion_id}": WITH_KEY - {"bob"},
    "GET /events/{ingestion_id}": WITH_KEY - {"bob"},
    "GET /ingestions": WITH_KEY,
    "PATCH /ingestions/{ingestion_id}": {"otto"},
    "DELETE /ingestions/{ingestion_id}": {"otto"},
    "POST /ingestions/{ingestion_id}/retry": {"otto"},
    "GET /events": {"rita", "otto"},
    "GET /queue": {"rita", "otto"},
    "GET /slots": {"rita", "otto"},
    "GET /metrics": {"rita", "otto"},
    "POST /queue/pause": {"otto"},
    "POST /queue/resume": {"otto"},
    "GET /session": WITH_KEY,
    "POST /session": EVERYONE,
    "DELETE /session": EVERYONE,
    "GET /healthz": EVERYONE,
    "GET /readyz": EVERYONE,
    "GET /": EVERYONE,
    "HEAD /": EVERYONE,
    "GET /dashboard/{path:path}": EVERYONE,
    "HEAD /dashboard/{path:path}": EVERYONE,
    "GET /docs": WITH_KEY,
    "GET /docs/start.js": EVERYONE,
    "GET /docs/{name}": EVERYONE,
    "GET /openapi.json": WITH_KEY,
    "HEAD /openapi.json": WITH_KEY,
}
# bob may follow ingestions, but to him there is none.
UNKNOWN_TO = {"bob": {"GET /status/{ingestion_id}", "GET /results/{ingestion_id}", "GET /events/{ingestion_id}"}}
BODIES: dict[str, dict[str, Any]] = {
    "POST /ingest": {"ids": [1], "priority": "LOW"},
    "POST /forecast": {"count": 1},
    "PATCH /ingestions/{ingestion_id}": {"priority": "LOW"},
    "POST /session": {"key": SECRETS["alice"]},
}


class Guarded(NamedTuple):
    """A service with keys, and what alice has submitted."""

    service: Service
    ingestion_id: str

    def ask(self, name: str, **options: Any) -> Any:
        method, _, path = name.partition(" ")
        path = path.replace("{ingestion_id}", self.ingestion_id)
        path = path.replace("{name}", "swagger-ui.css").replace("{path:path}", "app.js")
        if name == "GET /events":
            # It would go on for ever: what is asked for is refused only once the key is good.
            path += "?lane=none"
        if name in BODIES:
            options["json"] = BODIES[name]
        return self.service.client.request(method, path, **options)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with serving(Settings(api_keys=API_KEYS, shutdown_grace=0)) as service:
        response = service.client.post("/ingest", json={"ids": [1, 2], "priority": "LOW"}, headers=key("alice"))
        ingestion_id = response.json()["ingestion_id"]
        service.until(lambda: completed(service, ingestion_id))
        yield Guarded(service, ingestion_id)


def completed(service: Service, ingestion_id: str) -> bool:
    response = service.client.get(f"/status/{ingestion_id}", headers=key("otto"))
    return bool(response.json()["status"] == "completed")


def key(who: str) -> dict[str, str]:
    return {} if who == "nobody" else {"Authorization": f"Bearer {SECRETS[who]}"}


def test_every_route_has_a_row() -> None:
    routes = create_app(Settings(api_keys=API_KEYS)).routes

    assert {f"{method} {each.path}" for each in routes if isinstance(each, Route) for method in each.methods or ()} == (
        LET_IN.keys()
    )


def test_route_without_a_rule_ends_the_start() -> None:
    with pytest.raises(LookupError, match="there is no rule for GET /new"):
        access.guard([Route("/new", lambda request: None)], Keys((), 1.0, lambda: 0.0))


@pytest.mark.parametrize("who", sorted(EVERYONE))
@pytest.mark.parametrize("name", LET_IN)
def test_route_lets_in_whom_it_is_for(guarded: Guarded, name: str, who: str) -> None:
    response = guarded.ask(name, headers=key(who))

    if who in LET_IN[name]:
        assert response.status_code in (200, 204, 409, 422)
    elif name in UNKNOWN_TO.get(who, ()):
        assert_problem(response, 404, "No ingestion with this id")
    elif name.startswith("HEAD"):
        assert response.status_code == 401
    elif who == "nobody":
        assert_problem(response, 401, "Send a key")
        assert response.headers["www-authenticate"].startswith("Bearer")
    else:
        assert_problem(response, 403, f"A key with the role {PEOPLE[who]} is not for that")


@pytest.mark.parametrize("name", [name for name in LET_IN if "nobody" not in LET_IN[name] and name[:4] != "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sluice_wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {SECRETS['otto']}"},
        {"Authorization": SECRETS["otto"]},
        {"X-API-Key": SECRETS["otto"][:-1]},
        {"X-API-Key": ""},
        {"Cookie": f"{access.COOKIE}={SECRETS['otto']}"},
        {"Authorization": "Bearer sluice_wrong", "X-API-Key": SECRETS["otto"]},
    ],
)
def test_bad_key_opens_nothing(guarded: Guarded, name: str, headers: dict[str, str]) -> None:
    assert guarded.ask(name, headers=headers).status_code == 401


def test_key_can_come_in_a_header_of_its_own(guarded: Guarded) -> None:
    assert guarded.ask("GET /queue", headers={"X-API-Key": SECRETS["rita"]}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "OPTIONS"])
def test_what_is_not_there_tells_strangers_nothing(guarded: Guarded, method: str) -> None:
    assert guarded.service.client.request(method, "/admin").status_code == 404


def test_submitters_list_their_own_ingestions_and_readers_all(guarded: Guarded) -> None:
    client = guarded.service.client
    client.post("/ingest", json={"ids": [3], "priority": "LOW"}, headers=key("bob"))

    listed = {
        who: {each["owner"] for each in client.get("/ingestions", headers=key(who)).json()["ingestions"]}
        for who in WITH_KEY
    }

    assert (listed["alice"], listed["bob"]) == ({"alice"}, {"bob"})
    assert {"alice", "bob"} <= listed["rita"] == listed["otto"]


def test_idempotency_keys_of_two_owners_are_two(guarded: Guarded) -> None:
    def submit(who: str, item: int) -> Any:
        headers = key(who) | {"Idempotency-Key": "same"}
        return guarded.service.client.post("/ingest", json={"ids": [item], "priority": "LOW"}, headers=headers)

    first, other, again = submit("alice", 1), submit("bob", 2), submit("alice", 1)

    assert first.json() == again.json() != other.json()
    assert "Idempotency-Replayed" not in other.headers


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_ingestion_still_has_its_owner_after_a_restart(backend: str, tmp_path: Path) -> None:
    settings = settings_for(backend, tmp_path, api_keys=API_KEYS)
    with serving(settings) as service:
        submitted = service.client.post("/ingest", json={"ids": [1], "priority": "LOW"}, headers=key("alice")).json()

    with serving(settings) as service:
        path = f"/status/{submitted['ingestion_id']}"
        found = {who: service.client.get(path, headers=key(who)).status_code for who in WITH_KEY}

    assert found == {"alice": 200, "bob": 404, "rita": 200, "otto": 200}


# Sessions


def sign_in(client: TestClient, who: str) -> Any:
    client.cookies.clear()
    return client.post("/session", json={"key": SECRETS[who]})


def session_of(guarded: Guarded, who: str) -> str:
    cookie: str = sign_in(guarded.service.client, who).headers["set-cookie"]
    guarded.service.client.cookies.clear()
    return cookie.partition("=")[2].partition(";")[0]


def test_browser_that_signed_in_needs_no_key_and_has_none(guarded: Guarded) -> None:
    client = guarded.service.client

    response = sign_in(client, "rita")

    assert response.json() == {"name": "rita", "role": "read"} == client.get("/session").json()
    cookie = response.headers["set-cookie"]
    assert SECRETS["rita"] not in cookie
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert client.get("/queue").status_code == 200
    assert client.post("/queue/pause").status_code == 403
    client.delete("/session")
    assert client.get("/queue").status_code == 401


def test_cookie_of_an_encrypted_page_travels_only_encrypted_and_is_this_hosts_own(guarded: Guarded) -> None:
    response = guarded.ask("POST /session", headers=ENCRYPTED)

    name, *attributes = response.headers["set-cookie"].replace("=", "; ", 1).split("; ")
    assert name == "__Host-sluice_session"
    assert {"Secure", "Path=/", "HttpOnly"} <= set(attributes)
    assert not any(attribute.startswith("Domain") for attribute in attributes)
    guarded.service.client.cookies.clear()


def test_cookie_that_another_host_can_set_signs_nobody_in_where_all_is_encrypted(guarded: Guarded) -> None:
    session = session_of(guarded, "rita")

    planted = {"Cookie": f"sluice_session={session}"}
    both = {"Cookie": f"sluice_session=planted; __Host-sluice_session={session}"}

    assert guarded.ask("GET /queue", headers=ENCRYPTED | planted).status_code == 401
    assert guarded.ask("GET /queue", headers=ENCRYPTED | both).status_code == 200


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("fields", [1, 2])
def test_two_session_cookies_sign_nobody_in(guarded: Guarded, encrypted: bool, fields: int) -> None:
    name = "__Host-sluice_session" if encrypted else "sluice_session"
    own, planted = (f"{name}={session_of(guarded, who)}" for who in ("otto", "rita"))
    one_field, two_fields = [("Cookie", f"{planted}; {own}")], [("Cookie", planted), ("Cookie", own)]
    scheme = list(ENCRYPTED.items()) if encrypted else []

    response = guarded.ask("GET /queue", headers=[*scheme, *(one_field if fields == 1 else two_fields)])

    assert_problem(response, 401, "Send a key")


def test_sign_out_takes_the_cookie_back_that_sign_in_gave(guarded: Guarded) -> None:
    client = guarded.service.client
    for headers in ({}, ENCRYPTED):
        given = client.post("/session", json={"key": SECRETS["rita"]}, headers=headers).headers["set-cookie"]
        taken = client.delete("/session", headers=headers).headers["set-cookie"]

        assert taken.partition("=")[0] == given.partition("=")[0]
        assert ("Secure" in taken) == ("Secure" in given)


def test_wrong_key_signs_nobody_in(guarded: Guarded) -> None:
    response = guarded.service.client.post("/session", json={"key": "sluice_wrong"})

    assert_problem(response, 401, "not, or no longer, valid")
    assert "set-cookie" not in response.headers


def test_session_is_over_after_its_time() -> None:
    clock = ManualClock()
    with serving(Settings(api_keys=API_KEYS, session_ttl=60, shutdown_grace=0), clock=clock) as service:
        sign_in(service.client, "rita")
        cookie = {"Cookie": f"{access.COOKIE}={service.client.cookies[access.COOKIE]}"}
        service.client.cookies.clear()
        statuses = []
        for seconds in (59, 2):
            service.advance(seconds)
            statuses.append(service.client.get("/queue", headers=cookie).status_code)

    assert statuses == [200, 401]


def test_session_ends_with_its_key(guarded: Guarded) -> None:
    client = guarded.service.client
    sign_in(client, "rita")
    cookie = {"Cookie": f"{access.COOKIE}={client.cookies[access.COOKIE]}"}
    client.cookies.clear()

    with serving(Settings(api_keys=make_key("rita", Role.READ)[1], shutdown_grace=0)) as service:
        assert service.client.get("/queue", headers=cookie).status_code == 401


@pytest.mark.parametrize("api_keys", [API_KEYS, None])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_page_of_another_site_can_change_nothing(api_keys: str | None, headers: dict[str, str]) -> None:
    with serving(Settings(api_keys=api_keys, shutdown_grace=0)) as service:
        if api_keys:
            sign_in(service.client, "otto")
        for name in LET_IN:
            if name.split()[0] in ("POST", "PATCH", "DELETE"):
                method, path = name.split()
                assert_problem(service.client.request(method, path, headers={**headers, **JSON}), 403, "another site")
        own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}
        assert service.client.post("/queue/pause", headers=own).status_code == 200


@pytest.mark.parametrize("api_keys", [API_KEYS, None])
def test_service_with_names_answers_to_them_alone(api_keys: str | None) -> None:
    settings = Settings(api_keys=api_keys, allowed_hosts="sluice.example, [::1]", shutdown_grace=0)
    with serving(settings) as service:
        for host in ("evil.example", "testserver", "sluice.example.evil", "", "evil.example:80"):
            headers = {"Host": host, **key("otto")}
            for path in ("/", "/queue", "/openapi.json"):
                assert_problem(service.client.get(path, headers=headers), 421, "another name")
            assert_problem(service.client.post("/queue/pause", headers=headers), 421, "another name")
            assert service.client.get("/healthz", headers=headers).status_code == 200
        for host in ("sluice.example", "Sluice.Example:8000", "[::1]:8000"):
            assert service.client.get("/queue", headers={"Host": host, **key("otto")}).status_code == 200


def test_service_without_keys_is_open_and_says_who_everyone_is() -> None:
    with serving(Settings(shutdown_grace=0)) as service:
        assert service.client.get("/session").json() == {"name": None, "role": "admin"}
        assert service.client.post("/session", json={"key": "any"}).json() == {"name": None, "role": "admin"}
        assert "owner" not in service.status(service.submit([1]))
