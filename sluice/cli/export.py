"""Results on their way out: NDJSON as it comes or CSV, to standard output or a file, never all in memory."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sluice.cli.client import Client
from sluice.cli.errors import TruncatedError, UnreachableError, UsageError
from sluice.cli.terminal import Terminal
from sluice.models import IngestionStatus
from sluice.schemas import StatusResponse

COLUMNS = ("id", "batch_id", "status", "attempts", "finished_at", "data", "error")
HEARTBEATS = re.compile(rb"^ +", re.MULTILINE)
SHOWN = 80  # bytes of a line that is none
Write = Callable[[bytes], object]


def export(client: Client, ingestion_id: str, write: Write, *, follow: bool, as_csv: bool) -> None:
    """Write the results of an ingestion, whole lines at a time.

    Raises `TruncatedError` if fewer came than the status says there are: the stream
    can only end, so it cannot say itself that it ended early.
    """
    before = client.status(ingestion_id, limit=1).content
    convert = CsvLines() if as_csv else None
    if convert:
        write(convert.header())
    count = 0
    with client.results(ingestion_id, follow=follow) as pieces:
        for lines in whole_lines(pieces):
            count += lines.count(b"\n")
            write(convert(lines) if convert else lines)
    least = before
    if follow:
        least = client.status(ingestion_id, limit=1).content
        if least.status != IngestionStatus.COMPLETED:
            raise TruncatedError(f"the results end after {count} lines, before the ingestion is completed")
    if count < (expected := least_lines(least)):
        raise TruncatedError(f"the results end after {count} of {expected} lines")


def least_lines(status: StatusResponse) -> int:
    """Return how many IDs have a result, at least; exact for an ingestion that is completed.

    `status` shows the first batch, which is as large as all but the last. What is
    cancelled, and has no result, are the last batches.
    """
    progress = status.progress
    done = progress.completed + progress.failed
    if not done:
        return 0
    if done == progress.total_batches:
        return progress.total_ids
    size = len(status.batches[0].ids)
    missing = 0 if progress.cancelled else size * progress.total_batches - progress.total_ids
    return done * size - missing


def whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what comes as pieces that end with the end of a line; raise `TruncatedError` if the last line has none.

    Spaces before a line are left out: they say that there was none for a while.
    """
    rest: list[bytes] = []
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            yield HEARTBEATS.sub(b"", b"".join([*rest, piece[:end]]))
            rest = []
        rest.append(piece[end:])
    if b"".join(rest).strip(b" "):
        raise TruncatedError("the results break off within a line")


class CsvLines:
    """Turns lines of JSON into lines of CSV; `data` stays JSON."""

    def __init__(self) -> None:
        self._buffer = io.StringIO(newline="")
        self._writer = csv.writer(self._buffer, lineterminator="\n")

    def header(self) -> bytes:
        """Return the first line, with the names of the columns."""
        self._writer.writerow(COLUMNS)
        return self._taken()

    def __call__(self, lines: bytes) -> bytes:
        """Return lines of CSV for whole lines of JSON."""
        for line in lines.split(b"\n"):
            if line:
                result = _result(line)
                if "data" in result:
                    result["data"] = json.dumps(result["data"], ensure_ascii=False)
                self._writer.writerow([result.get(column, "") for column in COLUMNS])
        return self._taken()

    def _taken(self) -> bytes:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text.encode(errors="backslashreplace")  # half of a surrogate pair, which JSON can have, has no bytes


def _result(line: bytes) -> dict[str, Any]:
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict):
        raise UnreachableError(f"what came is no line of results: {line[:SHOWN].decode(errors='replace')}")
    return result


@contextmanager
def destination(terminal: Terminal, path: Path | None) -> Iterator[Write]:
    """Yield what writes to `path`, or to standard output; a file is there once it is whole, and not before.

    A pipe or a device is written to as it is.
    """
    if path is None:
        yield terminal.write
        return
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as file:
                yield _to_file(file)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield _to_file(file)
        os.replace(part, path)
    except OSError as error:
        raise UsageError(f"{error.filename or part}: {error.strerror}") from error
    except BaseException:
        if part.stat().st_size:
            terminal.say(f"what came so far is in {part}")
        else:
            part.unlink()
        raise


def _to_file(file: BinaryIO) -> Write:
    def write(data: bytes) -> None:
        file.write(data)
        file.flush()

    return write
