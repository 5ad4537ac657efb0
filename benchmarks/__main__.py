"""Every benchmark, one after another, and at the end a page: every claim, its figures, and whether it holds."""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.table import MISSED, PAGE, VERDICTS, machine, table

NAMES = (
    "start",
    "pace",
    "accept",
    "large_bodies",
    "backlog",
    "recovery",
    "plateau",
    "listeners",
    "flood",
    "fleet",
    "peers",
    "soak",
)
SHORTEST_TITLE = 60


def run(names: list[str], page: Path) -> list[str]:
    """Run benchmarks; return those that failed."""
    failed = []
    for name in names:
        begun = time.monotonic()
        process = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], env={**os.environ, PAGE: os.fspath(page)}, check=False
        )
        print(f"\n({name}: {time.monotonic() - begun:.0f} s)", flush=True)
        if process.returncode:
            failed.append(name)
    return failed


def claims(page: Path) -> list[list[str]]:
    """Return a row for each row of a table that has a verdict."""
    rows = []
    for line in page.read_text().splitlines():
        title, header, cells = json.loads(line)
        named = [
            f"{name} {cell}" for name, cell in zip(header[1:], cells[1:], strict=True) if cell not in ("", *VERDICTS)
        ]
        verdicts = [cell for cell in cells if cell in VERDICTS]
        rows.append([f"{title.partition(':')[0][:SHORTEST_TITLE]}: {cells[0]}", " · ".join(named), ", ".join(verdicts)])
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page"
        path.touch()
        failures = run(sys.argv[1:] or [*NAMES], path)
        found = claims(path)
    print(f"\n# Sluice on {datetime.now(UTC):%Y-%m-%d}\n\n{machine()}\n")
    print(table(["claim", "figures", ""], found))
    missed = sum(MISSED in row[-1] for row in found)
    print(f"\n{len(found) - missed} of {len(found)} hold.")
    if failures:
        sys.exit(f"failed: {', '.join(failures)}")
