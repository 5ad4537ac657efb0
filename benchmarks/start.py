"""What a start takes: imports beside the framework's own, until the first answer, and memory at rest."""

import os
import subprocess
import sys
import time
import urllib.request
from statistics import median

from benchmarks.plateau import resident_megabytes, the_child
from benchmarks.table import print_table, uvicorn, verdict

FRAMEWORK, OURS = "import fastapi, uvicorn, pydantic_settings", "import main"
ROUNDS = 15
MOST_RATIO = 1.3
MOST_SECONDS = 1.0
MOST_MEGABYTES = 60.0
REST = 3.0  # seconds


def seconds_of(code: str) -> float:
    """Return how long a fresh Python takes for some code; what was compiled before is found compiled."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def seconds_until_answer() -> tuple[float, float]:
    """Return how long a server takes until its first answer, and how many megabytes it has some seconds later."""
    begun = time.perf_counter()
    with uvicorn("main:app", PYTHONDONTWRITEBYTECODE="") as port:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read()
        seconds = time.perf_counter() - begun
        time.sleep(REST)
        return seconds, resident_megabytes(the_child())


def measure() -> list[list[str]]:
    """Take turns, so that a drift of the machine's speed hits both alike."""
    times = [(seconds_of(OURS), seconds_of(FRAMEWORK)) for _ in range(ROUNDS + 1)][1:]
    ours, theirs = (median(each) for each in zip(*times, strict=True))
    runs = [seconds_until_answer() for _ in range(ROUNDS // 3)]
    seconds, megabytes = median(run[0] for run in runs), max(run[1] for run in runs)
    return [
        [f"`{FRAMEWORK}`", f"{theirs:.3f} s", "", ""],
        [f"`{OURS}`", f"{ours:.3f} s", f"{ours / theirs:.2f} x (≤ {MOST_RATIO})", verdict(ours / theirs <= MOST_RATIO)],
        ["first answer", f"{seconds:.2f} s", f"≤ {MOST_SECONDS} s", verdict(seconds <= MOST_SECONDS)],
        ["memory at rest", f"{megabytes:.1f} MB", f"≤ {MOST_MEGABYTES:.0f} MB", verdict(megabytes <= MOST_MEGABYTES)],
    ]


if __name__ == "__main__":
    print_table(f"Start: medians of {ROUNDS}, taking turns", ["what", "figure", "target", ""], measure())
