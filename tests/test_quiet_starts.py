"""When it is quiet: from shortly before a start until its call is sent."""

import asyncio
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sluice.app import create_app
from sluice.clock import SystemClock
from sluice.events import Paused
from sluice.lane_factory import LaneFactory
from sluice.models import Priority
from sluice.quiet import LEAD
from sluice.settings import Settings
from tests.api_steps import EndlessUpstream
from tests.http_server import LocalServer
from tests.quiet import RecordingGate, approximately, dispatching, quiet_around
from tests.virtual import Bench, RecordingUpstream, VirtualClock, VirtualLoop

# Around the starts of a lane


def test_nothing_else_begins_shortly_before_a_start_until_its_call(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop)
    bench.submit([*range(1, 10)], Priority.LOW)

    bench.start()
    loop.advance(20)

    assert gate.held == approximately((0, 0), (5 - LEAD, 5), (10 - LEAD, 10))


def test_what_begins_is_held_up_while_an_end_is_recorded_that_the_next_start_waits_for(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop, interval=3 + LEAD / 2)
    bench.submit([1, 2, 3, 4], Priority.LOW)

    bench.start()
    loop.advance(10)

    assert gate.held == approximately((0, 0), (3, 3 + LEAD / 2))


def test_end_with_nothing_to_start_after_it_holds_nothing_up(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop, interval=3 + LEAD / 2)
    bench.submit([1, 2, 3], Priority.LOW)

    bench.start()
    loop.advance(10)

    assert gate.held == approximately((0, 0))


def test_start_that_comes_to_nothing_holds_nothing_up_any_longer(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop)
    job = bench.submit([1, 2, 3, 4], Priority.LOW)
    bench.start()
    loop.advance(5 - LEAD / 2)

    # Not a decision: it would be held itself.
    loop.run_until_complete(bench.journal.append([Paused(0.0, "")]))
    loop.advance(20)

    assert gate.held == approximately((0, 0), (5 - LEAD, 5))
    assert bench.statuses(job.ingestion_id) == ["completed", "yet_to_start"]


def test_end_of_a_batch_that_overran_holds_nothing_up_while_paused(loop: VirtualLoop) -> None:
    bench, gate = quiet_around(loop, interval=1.0)
    bench.submit([1, 2, 3, 4], Priority.LOW)
    bench.start()
    loop.advance(2)

    bench.decide(lambda: [Paused(0.0, "")])
    loop.advance(20)

    assert gate.held == approximately((0, 0))


def test_lanes_share_the_quiet_for_as_long_as_they_run(tmp_path: Path) -> None:
    path = tmp_path / "lanes.toml"
    path.write_text('[[lanes]]\nname = "other"\n')
    app = create_app(Settings(lanes=path), EndlessUpstream())
    quiets = []

    for _ in range(2):
        with TestClient(app) as client:
            one, other = client.app_state["lanes"].values()
            assert one.quiet is other.quiet
            quiets.append(one.quiet)

    assert quiets[0] is not quiets[1]


# Until the call is sent, where the upstream tells


def test_simulated_upstream_ends_the_quiet_as_it_is_called(loop: VirtualLoop) -> None:
    factory, gate = LaneFactory(Settings(), VirtualClock(loop), {}), RecordingGate()

    async def scenario() -> None:
        async with dispatching(factory, [1, 2, 3, 4], gate):
            await asyncio.sleep(10)

    loop.run_until_complete(scenario())

    assert gate.held == approximately((0, 0), (5 - LEAD, 5))


def test_first_call_of_a_batch_ends_the_quiet_once_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.quiet.LONGEST", 60.0)
    server = LocalServer()
    gate = RecordingGate(lambda: len(server.paths))

    async def scenario() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/{{id}}"
        factory = LaneFactory(Settings(upstream_url=url, batch_interval=0.3), SystemClock(), {})
        async with dispatching(factory, [200, 201, 202, 203], gate) as lane:
            while not lane.finished:  # noqa: ASYNC110 - it is told by asking
                await asyncio.sleep(0.01)
        listener.close()

    asyncio.run(scenario())

    assert gate.held == [(0, 0), (3, 3)]


def test_call_that_is_not_sent_soon_is_not_waited_for(loop: VirtualLoop) -> None:
    bench, gate = Bench(loop, RecordingUpstream()), RecordingGate()
    bench.lane.quiet.add(gate)
    bench.submit([1, 2, 3, 4], Priority.LOW)

    bench.start()
    loop.advance(20)

    assert gate.held == approximately((0, LEAD), (5 - LEAD, 5 + LEAD))
