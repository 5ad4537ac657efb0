"""How the log is written: a line of JSON per entry, or, on a terminal, a line that people read."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from sluice.events import Ended, Event, Finished, Part, Started
from sluice.lane import Lane

logger = logging.getLogger("sluice.batches")


def configure(level: str) -> None:
    """Write everything that is logged to standard error; `level` is the least that Sluice's own entries must have.

    Libraries' entries are written from warnings on: some of them would log every
    call, and with it a key in the upstream's URL.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_for_people() if sys.stderr.isatty() else _Json())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sluice").setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        # uvicorn gave them handlers of their own before it loaded the app.
        server = logging.getLogger(name)
        if server.handlers:  # else it is switched off, or passes on what it gets
            server.handlers = []  # not emptied: the list may be another logger's as well
            server.propagate = True


class _Json(JsonFormatter):
    """A line of JSON: the event, what is known of it, when (UTC), how bad, and who says so."""

    def __init__(self) -> None:
        # uvicorn gives its texts a second time, with colours.
        super().__init__(
            ["message", "levelname", "name"],
            rename_fields={"message": "event", "levelname": "level", "name": "logger", "exc_info": "exception"},
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],
            timestamp=True,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = log_data["level"].lower()
        log_data["timestamp"] = f"{log_data['timestamp']:%Y-%m-%dT%H:%M:%S.%fZ}"
        return log_data


def _for_people() -> logging.Formatter:
    # Not for a server's log: it loads what draws tables and colours source text, a tenth of all the memory.
    import structlog  # noqa: PLC0415

    def without_colours(_logger: object, _name: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        entry.pop("color_message", None)
        return entry

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            without_colours,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # It shows tracebacks itself; without the values of variables, which may hold a key.
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ],
    )


@contextmanager
def logging_batches(lane: Lane) -> Iterator[None]:
    """Log every batch of a lane that this process runs, until the block is left."""
    observer = _BatchLog(lane)
    lane.observers.append(observer)
    try:
        yield
    finally:
        lane.observers.remove(observer)


class _BatchLog:
    """Looks on at a lane and logs its batches."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def applied(self, event: Event) -> None:
        """Log the start and the end of a batch."""
        if not isinstance(event, Started | Finished) or not logger.isEnabledFor(logging.INFO):
            return
        for part in event.parts:
            self._log(event, part)

    def _log(self, event: Started | Finished, part: Part | Ended) -> None:
        positions = part.positions if isinstance(part, Part) else [each.position for each in part.outcomes]
        ingestion = self._lane.ingestions[part.ingestion_id]
        batch = ingestion.batch(tuple(positions))
        about: dict[str, object] = {
            "lane": self._lane.name,
            "ingestion_id": batch.ingestion_id,
            "batch_ids": batch.distinct_batch_ids,
            "ids": batch.ids,
        }
        if isinstance(part, Part):
            logger.info("batch started", extra={**about, "priority": ingestion.priority.name})
            return
        failed = [ingestion.ids[each.position] for each in part.outcomes if each.error is not None]
        seconds = round(event.at - self._lane.pace.last_start, 6)
        logger.info("batch finished", extra={**about, "seconds": seconds, "failed": failed})

    def restored(self) -> None:
        """Go on: there is nothing to log."""
