"""What the upstream answered, as a stream of lines."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from pydantic_core import to_json

from sluice.clock import utc
from sluice.ingestion import Ingestion
from sluice.journal import JournalError, Result
from sluice.lane import Lane
from sluice.stream import Stream

logger = logging.getLogger(__name__)

WINDOW = 1000  # IDs
# White space before JSON is none of its content, whoever reads the line; an empty line would be an error to some.
HEARTBEAT = b" "


async def lines(
    lane: Lane,
    ingestion: Ingestion,
    stream: Stream | None = None,
    longest_silence: Callable[[], float] = lambda: 0,
) -> AsyncIterator[bytes]:
    """Yield a JSON line per finished ID, in the order of the IDs, some at a time.

    With a `stream` to learn from, wait for each until the ingestion is done (or expired,
    or the server stops), and yield a space whenever there was nothing for
    `longest_silence()` seconds, unless that is 0 or less: the end. What is cancelled has no
    line. Ends early if the journal cannot be read any more.
    """
    position = 0
    while True:
        ingestion = lane.ingestions.get(ingestion.ingestion_id, ingestion)
        limit = min(position + WINDOW, ingestion.started * ingestion.batch_size, len(ingestion.ids))
        end = limit
        if stream:
            end = next((each for each in range(position, limit) if not ingestion.has_ended(each)), limit)
        if end > position:
            try:
                results = await lane.journal.results(ingestion.ingestion_id, position, end)
            except JournalError as error:
                logger.warning("the results of %s end early: %s", ingestion.ingestion_id, error)
                return
            if results:
                yield b"".join(_line(ingestion, result) for result in results)
            position = results[-1].position + 1 if results else end
            await asyncio.sleep(0)
        elif (
            stream is None
            or ingestion.is_done
            or ingestion.ingestion_id not in lane.ingestions
            or lane.is_closing
            or (longest := longest_silence()) <= 0
        ):
            return
        elif not await stream.has_news(lane, ingestion.ingestion_id, longest):
            yield HEARTBEAT


def _line(ingestion: Ingestion, result: Result) -> bytes:
    batch_id = ingestion.batch_id(result.position // ingestion.batch_size)
    content = (
        b'"status":"completed","data":%b' % (result.data or b"null")
        if result.error is None
        else b'"status":"failed","error":%b' % to_json(result.error)
    )
    finished_at = to_json(utc(result.finished_time))
    return b'{"id":%d,"batch_id":"%b",%b,"attempts":%d,"finished_at":%b}\n' % (
        ingestion.ids[result.position],
        batch_id.encode(),
        content,
        result.attempts,
        finished_at,
    )
