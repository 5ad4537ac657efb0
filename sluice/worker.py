"""A process that answers no requests and runs lanes: `python -m sluice.worker`."""

import asyncio
import signal
from collections.abc import Mapping

from sluice import logs
from sluice.background import in_background
from sluice.clock import SystemClock
from sluice.garbage import keep_out
from sluice.lane_factory import by_lane
from sluice.service import Service, open_service
from sluice.settings import load_settings, refuse_to_start
from sluice.upstream import Upstream


def run(upstream: Upstream | Mapping[str, Upstream] | None = None) -> None:
    """Stand by to run lanes until SIGTERM or SIGINT; refuse to start without a database that processes can share.

    Upstreams come from the settings, unless given: one for the default lane, or several by lane.
    """
    settings = load_settings()
    logs.configure(settings.log_level)
    if not settings.is_shared:
        refuse_to_start("DATABASE_URL: a worker needs postgresql://host/database; anything else one web process does")
    asyncio.run(_run(open_service(settings, SystemClock(), by_lane(upstream))))


async def _run(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with service.running() as lanes, in_background(keep_out(lanes, service.clock), "garbage"):
        await stop.wait()


if __name__ == "__main__":
    run()
