"""create_app: what it takes to import the service."""

import subprocess
import sys


def test_what_only_serving_needs_is_not_imported_with_the_app() -> None:
    names = ("httpx", "prometheus_client", "psycopg", "sqlite3", "structlog", "throttled")
    code = f"import sys, main; print([name for name in {names} if name in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
