"""A process that answers no requests and runs lanes: `python -m sluice.worker`."""

import asyncio
import gc
import logging
import signal
from collections.abc import Mapping

from sluice.clock import SystemClock
from sluice.lane_factory import by_lane
from sluice.service import Service, open_service
from sluice.settings import load_settings, refuse_to_start
from sluice.upstream import Upstream


def run(upstream: Upstream | Mapping[str, Upstream] | None = None) -> None:
    """Stand by to run lanes until SIGTERM or SIGINT; refuse to start without a database that processes can share.

    Upstreams come from the settings, unless given: one for the default lane, or several by lane.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    # Not the libraries' as well: one of them would log every call, and with it a key in the upstream's URL.
    logging.getLogger("sluice").setLevel(logging.INFO)
    settings = load_settings()
    if not settings.is_shared:
        refuse_to_start("DATABASE_URL: a worker needs postgresql://host/database; anything else one web process does")
    asyncio.run(_run(open_service(settings, SystemClock(), by_lane(upstream))))


async def _run(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with service.running():
        gc.freeze()
        await stop.wait()


if __name__ == "__main__":
    run()
