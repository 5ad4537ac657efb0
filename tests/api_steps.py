"""What several files of tests do with the service, and the upstreams that they do it with."""

import asyncio
import json
from typing import Any

from sluice.ingestion import Batch
from sluice.upstream import UpstreamError, UpstreamUnavailable
from tests.api import INTERVAL, Service


class EndlessUpstream:
    """Fails a batch with ID 666 at once and never answers another."""

    async def process(self, batch: Batch) -> list[object]:
        if 666 in batch.ids:
            raise UpstreamError("ID 666: answered 500")
        await asyncio.Event().wait()
        return []


def answer(item: int) -> object:
    """What the tests' upstream does: 400 fails for good, 500 fails whenever it is asked, all others succeed."""
    if item == 400:
        return UpstreamError("ID 400: answered 404")
    if item == 500:
        return UpstreamUnavailable("ID 500: answered 500")
    return {"id": item, "data": "processed"}


def ids(lines: str | list[dict[str, Any]]) -> list[int]:
    parsed = [json.loads(line) for line in lines.splitlines()] if isinstance(lines, str) else lines
    return [line["id"] for line in parsed]


def work(service: Service, slots: int) -> None:
    for _ in range(slots):
        service.advance(INTERVAL)
