"""SecureHeaders: what browsers are told with data, with pages, and with what came encrypted."""

import pytest
from fastapi.testclient import TestClient

DATA = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}
PAGES = DATA | {
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize("path", ["/queue", "/ingestions", "/metrics", "/nowhere", "/status/none", "/openapi.json"])
def test_data_is_not_to_be_embedded_taken_for_something_else_or_kept(client: TestClient, path: str) -> None:
    headers = client.get(path).headers

    assert headers.items() >= (DATA | {"cache-control": "no-store"}).items()
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_in_no_frame_and_load_scripts_from_here_alone(client: TestClient, path: str) -> None:
    headers = client.get(path).headers

    assert headers.items() >= PAGES.items()
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")


def test_docs_load_nothing_from_another_host(client: TestClient) -> None:
    assert "//" not in client.get("/docs").text.replace("<!doctype", "")
    for file in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert client.get(f"/docs/{file}").status_code == 200


def test_browser_that_came_encrypted_is_to_come_so_again(client: TestClient) -> None:
    headers = client.get("/queue", headers={"X-Forwarded-Proto": "https"}).headers

    assert headers["strict-transport-security"] == "max-age=15768000"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_no_answer_tells_what_the_server_is_made_of(client: TestClient, method: str) -> None:
    headers = client.request(method, "/queue").headers

    assert {"server", "x-powered-by", "via"}.isdisjoint(headers)
