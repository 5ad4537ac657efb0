"""The Postman collection: it covers the API, passes against a real server, and fails against a wrong one."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sluice.keys import Role, make_key
from tests.e2e.servers import ROOT, serving

COLLECTION = ROOT / "docs" / "sluice.postman_collection.json"
NEWMAN = ROOT / "tests" / "node" / "node_modules" / ".bin" / "newman"
ENDLESS = "Live"


def folders() -> dict[str, list[dict[str, Any]]]:
    return {folder["name"]: folder["item"] for folder in json.loads(COLLECTION.read_text())["item"]}


def newman(url: str, report: Path, key: str = "") -> tuple[int, list[dict[str, Any]]]:
    """Run all of the collection that ends; return the exit code and what came of each request."""
    variables = {"base_url": url} | ({"key": key} if key else {})
    run = subprocess.run(
        [str(NEWMAN), "run", str(COLLECTION), "--reporters", "json"]
        + [argument for name, value in variables.items() for argument in ("--env-var", f"{name}={value}")]
        + ["--reporter-json-export", str(report), "--timeout-request", "20000"]
        + [argument for name in folders() if name != ENDLESS for argument in ("--folder", name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    executions: list[dict[str, Any]] = json.loads(report.read_text())["run"]["executions"]
    return run.returncode, executions


def authorizations(execution: dict[str, Any]) -> list[str]:
    return [each["value"] for each in execution["request"]["header"] if each["key"] == "Authorization"]


def failures(executions: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['item']['name']}: {assertion['assertion']}: {assertion['error']['message']}"
        for each in executions
        for assertion in each.get("assertions", [])
        if "error" in assertion
    ]


@pytest.mark.parametrize("wants_a_key", [False, True])
def test_collection_passes_against_a_server_however_often(tmp_path: Path, wants_a_key: bool) -> None:
    key, entry = make_key("postman", Role.ADMIN) if wants_a_key else ("", "")
    environment = {"BATCH_INTERVAL": "0.2", "UPSTREAM_DELAY": "0.01", "MAX_BODY_BYTES": "65536"}
    with serving(**environment | ({"API_KEYS": entry} if wants_a_key else {})) as server:
        for _ in range(2):
            code, executions = newman(f"http://127.0.0.1:{server.port}", tmp_path / "report.json", key)

            assert failures(executions) == []
            assert code == 0
            assert {each["item"]["name"] for each in executions} == {
                item["name"] for name, items in folders().items() if name != ENDLESS for item in items
            }
            assert all(each["assertions"] for each in executions)
            codes = {each["item"]["name"]: each["response"]["code"] for each in executions}
            assert codes["A body that is too large"] == 413
            assert codes["A key that is not valid"] == (401 if wants_a_key else 200)
            sent = {each["item"]["name"]: authorizations(each) for each in executions}
            assert sent["Submit IDs"] == ([f"Bearer {key}"] if wants_a_key else [])
            assert sent["Who am I?"] == []


def test_collection_has_every_route_of_the_api(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    requests = [item["request"] for items in folders().values() for item in items]

    covered = {(request["method"], route_of(request["url"], list(paths))) for request in requests}

    assert routes - covered == set()


def route_of(url: dict[str, Any], paths: list[str]) -> str | None:
    """Return the template that a request's path is of."""
    for path in paths:
        parts = path.split("/")[1:]
        if len(parts) == len(url["path"]) and all(
            part == asked or (part.startswith("{") and asked.startswith("{{"))
            for part, asked in zip(parts, url["path"], strict=True)
        ):
            return path
    return None


@pytest.mark.parametrize("status", [200, 500])
def test_collection_fails_against_a_server_that_is_wrong(tmp_path: Path, status: int) -> None:
    class Wrong(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, executions = newman(f"http://127.0.0.1:{server.server_port}", tmp_path / "report.json")
        server.shutdown()

    wrong = {failure.partition(":")[0] for failure in failures(executions)}
    assert code != 0
    # Every request that ran, but for those that this one answer happens to suit.
    assert len(wrong) >= 0.9 * len({each["item"]["name"] for each in executions})
