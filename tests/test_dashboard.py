"""The files of the live page: how they are served, and that they are what they should be."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sluice.dashboard import HERE, MEDIA_TYPES
from tests.api import assert_problem

NODE = Path(__file__).parent / "node"
OWN = sorted(path for path in HERE.iterdir() if path.suffix in MEDIA_TYPES)
SERVED = sorted(path.relative_to(HERE).as_posix() for path in HERE.rglob("*") if path.suffix in MEDIA_TYPES)
LARGEST = 160_000  # bytes, of everything that the page loads


def test_page_and_its_files_are_served_under_a_strict_policy(client: TestClient) -> None:
    for path in ["/", *(f"/dashboard/{name}" for name in SERVED)]:
        response = client.get(path)

        assert response.status_code == 200, path
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


def test_scripts_and_styles_have_their_types_whatever_the_machine_thinks(client: TestClient) -> None:
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/dashboard/app.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/dashboard/base.css").headers["content-type"] == "text/css; charset=utf-8"


def test_browser_asks_each_time_and_loads_only_what_changed(client: TestClient) -> None:
    first = client.get("/dashboard/app.js")
    again = client.get("/dashboard/app.js", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["cache-control"] == "no-cache"
    assert again.status_code == 304
    assert not again.content


def test_head_tells_the_same_without_the_content(client: TestClient) -> None:
    response = client.head("/")

    assert response.status_code == 200
    assert int(response.headers["content-length"]) == len(client.get("/").content)
    assert not response.content


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard",
        "/dashboard/",
        "/dashboard/missing.js",
        "/dashboard/vendor",
        "/dashboard/vendor/README.md",
        "/dashboard/__init__.py",
        "/dashboard/..%2fapp.py",
        "/dashboard/%2e%2e/%2e%2e/tests/node/page.js",
        "/dashboard/%2fetc%2fhostname.js",
        "/dashboard/a%00.js",
        f"/dashboard/{'a' * 5000}.js",
    ],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert_problem(client.get(path), 404, "Nothing is at ")


@pytest.mark.parametrize("path", ["/", "/dashboard/app.js"])
def test_page_can_only_be_read(client: TestClient, path: str) -> None:
    response = client.post(path)

    assert_problem(response, 405, f"POST is not possible at {path}.")
    assert response.headers["allow"] == "GET, HEAD"


def test_page_is_no_part_of_the_api(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    assert "/" not in paths
    assert not [path for path in paths if path.startswith("/dashboard")]


def test_page_names_no_other_host() -> None:
    for path in OWN:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|@import|url\(", text), path.name


def test_no_markup_is_made_from_text() -> None:
    for path in OWN:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", path.read_text()), path.name


def test_page_is_small() -> None:
    assert sum((HERE / name).stat().st_size for name in SERVED) < LARGEST


@pytest.mark.parametrize(
    ("vendored", "original"),
    [
        ("htm/standalone.module.js", "htm/preact/standalone.module.js"),
        ("htm/LICENSE", "htm/LICENSE"),
        ("papaparse/papaparse.min.js", "papaparse/papaparse.min.js"),
        ("papaparse/LICENSE", "papaparse/LICENSE"),
    ],
)
def test_vendored_files_are_those_of_their_packages(vendored: str, original: str) -> None:
    package = NODE / "node_modules" / original
    assert package.exists(), "run `npm ci --prefix tests/node`"

    assert (HERE / "vendor" / vendored).read_bytes() == package.read_bytes()


def test_ids_slots_and_times_are_read_placed_and_told_right() -> None:
    node = shutil.which("node")
    assert node, "the tests of the page need node"

    run = subprocess.run(
        [node, "--test", str(NODE / "page.test.mjs")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
