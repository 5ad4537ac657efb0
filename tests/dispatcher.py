"""What several files of the dispatcher's tests need."""

from itertools import pairwise

from sluice.ingestion import Batch
from sluice.upstream import UpstreamError


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


async def refuse(batch: Batch) -> None:
    raise UpstreamError("answered 404")
