"""LaneFactory: what a dispatcher is made of."""

from contextlib import AsyncExitStack

import pytest

from sluice.journal import LeaseLostError
from sluice.journal.memory import MemoryJournal
from sluice.lane_factory import LaneFactory
from sluice.models import Priority
from sluice.quiet import Quiet
from sluice.sequencer import Sequencer
from sluice.settings import Settings
from tests.virtual import RecordingUpstream, VirtualClock, VirtualLoop


def test_dispatcher_calls_no_upstream_whatever_its_kind_without_leave_to(loop: VirtualLoop) -> None:
    upstream = RecordingUpstream()
    factory = LaneFactory(Settings(), VirtualClock(loop), {"default": upstream})

    async def scenario() -> None:
        lane = factory.lane("default", MemoryJournal(), Sequencer(), Quiet())
        await lane.record(lane.accept([1], Priority.LOW, 0.0))
        async with AsyncExitStack() as stack:
            dispatcher = await factory.dispatcher(lane, stack, may_send=lambda: False)
            with pytest.raises(LeaseLostError):
                await dispatcher.run()

    loop.run_until_complete(scenario())

    assert upstream.calls == []
