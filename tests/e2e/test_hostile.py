"""Strangers at the door of a real server that has batches to start: what they get, and what it costs."""

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.attacks import ATTACKS, CROWD, SETTINGS, Answer
from tests.e2e.servers import Server, serving

INTERVAL = 0.25
IN_TIME = 0.05  # seconds late, at most; a bucket of the histogram
CALM = 3.0  # seconds
MEBIBYTE = 1024 * 1024
# The C library keeps some of what large bodies took; how much depends on which of them were there at once.
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": str(MEBIBYTE)}


class Siege(NamedTuple):
    """What came of two rounds of attacks: the answers of the second, and the server before and after it."""

    answers: dict[str, Answer]
    crowd: Answer
    seconds: float
    grown: int  # bytes
    calm: dict[float, float]  # starts before it, by the lateness that they did not exceed
    starts: dict[float, float]  # starts during it, likewise
    health: int
    log: list[dict[str, Any]]


def memory(server: Server) -> int:
    """Return the bytes that the server holds."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def starts(server: Server) -> dict[float, float]:
    text = server.client.get("/metrics").text
    return {
        float(at): float(count)
        for at, count in re.findall(r'^sluice_start_lateness_seconds_bucket\{.*le="(.*?)".*\} (\S+)$', text, re.M)
    }


def between(before: dict[float, float], after: dict[float, float]) -> dict[float, float]:
    return {bucket: count - before[bucket] for bucket, count in after.items()}


def attack(server: Server) -> tuple[dict[str, Answer], Answer]:
    with ThreadPoolExecutor(8) as attackers:
        made = {name: attackers.submit(each.make, server.port) for name, each in ATTACKS.items()}
        answers = {name: each.result() for name, each in made.items()}
    return answers, CROWD.make(server.port)


@pytest.fixture(scope="module")
def siege() -> Siege:
    with serving(**SETTINGS, **GIVING_BACK, BATCH_INTERVAL=str(INTERVAL), UPSTREAM_DELAY="0.01") as server:
        server.submit(list(range(1, 3000)), "HIGH")
        at_first = starts(server)
        time.sleep(CALM)
        calm = between(at_first, starts(server))
        attack(server)
        before, at, already = memory(server), time.monotonic(), starts(server)
        answers, crowd = attack(server)
        seconds, until_now = time.monotonic() - at, starts(server)
        health = server.client.get("/healthz").status_code
        grown = memory(server) - before
        server.process.send_signal(signal.SIGTERM)
        output, _ = server.process.communicate(timeout=20)
    log = [json.loads(line) for line in output.splitlines()]
    return Siege(answers, crowd, seconds, grown, calm, between(already, until_now), health, log)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_or_cut_off(siege: Siege, name: str) -> None:
    assert siege.answers[name] == ATTACKS[name].expected


def test_crowd_is_turned_away_where_it_is_too_large_and_let_go_where_it_is_silent(siege: Siege) -> None:
    assert siege.crowd == CROWD.expected


def test_server_answers_after_the_attacks(siege: Siege) -> None:
    assert siege.health == 200


def test_batches_start_on_time_during_the_attacks(siege: Siege) -> None:
    slots = siege.seconds / INTERVAL
    # Server and attackers share a machine, with others besides, which may be all it takes to make starts late.
    usual = min(bucket for bucket, count in siege.calm.items() if count >= 0.9 * siege.calm[inf])
    late = max(bucket for bucket in siege.starts if bucket <= max(IN_TIME, 4 * usual))
    assert siege.starts[inf] >= 0.75 * slots - 1
    assert siege.starts[late] >= 0.75 * siege.starts[inf]


def test_attacks_leave_nothing_in_memory(siege: Siege) -> None:
    assert siege.grown < 10 * MEBIBYTE


def test_attacks_leave_nothing_in_the_log(siege: Siege) -> None:
    # But that anyone may do anything, which it says when it starts.
    assert [entry["logger"] for entry in siege.log if entry["level"] != "info"] == ["sluice.app"]
