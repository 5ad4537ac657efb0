"""Reading IDs from arguments, files and standard input, as plain text or a column of a CSV."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sluice.cli.errors import UsageError
from sluice.models import MAX_ID

STANDARD_INPUT = "-"
RULE = f"an ID is an integer from 1 to {MAX_ID}"
SEPARATORS = re.compile(r"[\s,]+")
DELIMITERS = ",;\t"
LONGEST_SHOWN = 40
# Not `int` alone: it takes underscores, signs and other scripts' digits, and refuses thousands of digits by raising.
DIGITS = re.compile(r"0*([0-9]{1,10})", re.ASCII)


def read_ids(sources: Sequence[str], column: str | None, standard_input: TextIO) -> list[int]:
    """Return the IDs that `sources` name, in their order.

    A source is IDs (separated by commas or spaces), the path of a file, or `-` for
    standard input. With `column`, files and standard input are CSVs with a header.
    Raises `UsageError` that names the first token that is no ID, and its line.
    """
    ids: list[int] = []
    for source in sources:
        if source == STANDARD_INPUT:
            ids += _from_lines(standard_input, "standard input", column)
        elif not _is_written_out(source) and _is_file(path := Path(source)):
            with _opened(path) as lines:
                ids += _from_lines(lines, str(path), column)
        else:
            ids += _from_argument(source)
    if not ids:
        raise UsageError("there are no IDs in what was given")
    return ids


def is_count(sources: Sequence[str]) -> bool:
    """Return whether this is one number, to be taken as how many IDs there would be."""
    return len(sources) == 1 and DIGITS.fullmatch(sources[0]) is not None


def parse_id(token: str, where: str) -> int:
    """Return the ID that `token` is; raise `UsageError` with `where` if it is none."""
    match = DIGITS.fullmatch(token)
    if match is None or not 1 <= (number := int(match[1])) <= MAX_ID:
        raise UsageError(f"{where}: {_shown(token)} is no ID; {RULE}")
    return number


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def _is_written_out(source: str) -> bool:
    return all(DIGITS.fullmatch(token) for token in SEPARATORS.split(source) if token)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file has so long a name, or it may not be looked at
        return False


def _from_argument(source: str) -> Iterator[int]:
    for token in filter(None, SEPARATORS.split(source)):
        try:
            yield parse_id(token, "argument")
        except UsageError as error:
            raise UsageError(f"{error}, and there is no file {_shown(source)}") from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        # What is no UTF-8 shows up as a token that is no ID, with its line. Excel's CSVs begin with a mark.
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            yield lines
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _from_lines(lines: Iterable[str], name: str, column: str | None) -> Iterator[int]:
    if column is not None:
        yield from _from_csv(lines, name, column)
        return
    for number, line in enumerate(lines, 1):
        for token in filter(None, SEPARATORS.split(line.removeprefix("\ufeff"))):
            try:
                yield parse_id(token, f"{name}, line {number}")
            except UsageError as error:
                hint = "; of a CSV with a header, name the column with --column" if number == 1 else ""
                raise UsageError(f"{error}{hint}") from None


def _from_csv(lines: Iterable[str], name: str, column: str) -> Iterator[int]:
    iterator = iter(lines)
    header = next(iterator, "").removeprefix("\ufeff")
    delimiter = max(DELIMITERS, key=header.count)

    def whole() -> Iterator[str]:
        yield header
        yield from iterator

    rows = csv.reader(whole(), delimiter=delimiter, strict=True)
    try:
        columns = [each.strip() for each in next(rows, [])]
        if column not in columns:
            there_are = ", ".join(map(repr, columns)) or "none"
            raise UsageError(f"{name}: there is no column {column!r}; there are: {there_are}")
        index = columns.index(column)
        for row in rows:
            if row:
                cell = row[index].strip() if index < len(row) else ""
                yield parse_id(cell, f"{name}, line {rows.line_num}")
    except csv.Error as error:
        raise UsageError(f"{name}, line {rows.line_num}: {error}") from error
