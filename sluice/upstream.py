"""Where batches go: the protocol, the simulated default, and HTTP."""

import asyncio
from types import TracebackType
from typing import Protocol, Self

import httpx

from sluice.ingestion import Batch

# Seconds that an idle connection is kept. Shorter than any common server keeps it (gunicorn 2,
# uvicorn, Node and Apache 5): a call on a connection that is just being closed fails.
KEEP_ALIVE = 1.0


class UpstreamError(Exception):
    """The upstream did not take a batch; the text is shown to clients, so it holds no URL and no secret."""


class Upstream(Protocol):
    """What takes batches. One at a time; the IDs of a batch belong to one slot."""

    async def process(self, batch: Batch) -> None:
        """Return when the upstream has done every ID of the batch; raise if it has not."""


class SimulatedUpstream:
    """Stands in for a real upstream: works through a batch one ID after another, `delay` seconds each."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    async def process(self, batch: Batch) -> None:
        """Take `delay` seconds per ID; never fails."""
        await asyncio.sleep(self._delay * len(batch.ids))


class HttpUpstream:
    """A real upstream: `GET` on `url` with `{id}` filled in, the IDs of a batch at the same time.

    A call is done when it is answered 2xx within `timeout` seconds; redirects are
    not followed. An async context manager: leaving it closes the connections.
    """

    def __init__(self, url: str, timeout: float, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._timeout = timeout
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE)
        self._client = httpx.AsyncClient(timeout=timeout, transport=transport, limits=limits)

    async def __aenter__(self) -> Self:
        """Open nothing yet: connections are made, and kept, as calls need them."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the kept connections."""
        await self._client.aclose()

    async def process(self, batch: Batch) -> None:
        """Call the upstream once per ID; raise `UpstreamError` naming every ID that failed."""
        async with asyncio.TaskGroup() as calls:
            tasks = [calls.create_task(self._call(item)) for item in batch.ids]
        if failures := [failure for task in tasks if (failure := task.result())]:
            raise UpstreamError("; ".join(failures))

    async def _call(self, item: int) -> str | None:
        """Return why the call for one ID failed, or None."""
        try:
            # httpx limits each read; a body that trickles in needs a limit on the whole.
            async with asyncio.timeout(self._timeout):
                async with self._client.stream("GET", self._url.replace("{id}", str(item))) as response:
                    # Read to the end so that the connection can be used again, but keep nothing.
                    async for _ in response.aiter_raw():
                        pass
        except (TimeoutError, httpx.TimeoutException):
            return f"ID {item}: no answer within {self._timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"ID {item}: {type(error).__name__}"
        return None if response.is_success else f"ID {item}: answered {response.status_code}"
