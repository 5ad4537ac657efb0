"""Results on their way out: whole, or an error."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sluice.cli.client import Client
from sluice.cli.errors import TruncatedError, UnreachableError, UsageError
from sluice.cli.export import COLUMNS, CsvLines, destination, export, least_lines, whole_lines
from sluice.cli.terminal import Terminal
from sluice.schemas import STATUS_EXAMPLE, StatusResponse

ID = STATUS_EXAMPLE["ingestion_id"]


def status(ids: int, *, completed: int = 0, failed: int = 0, cancelled: int = 0, size: int = 3) -> dict[str, object]:
    total = -(-ids // size)
    done = completed + failed + cancelled
    progress = {
        "total_ids": ids,
        "total_batches": total,
        "yet_to_start": total - done,
        "triggered": 0,
        "completed": completed,
        "failed": failed,
        "cancelled": cancelled,
    }
    first = {"batch_id": ID, "ids": list(range(1, min(size, ids) + 1)), "status": "completed"}
    state = "completed" if done == total else "triggered"
    return {**STATUS_EXAMPLE, "status": state, "progress": progress, "batches": [first]}


def lines(count: int) -> bytes:
    return b"".join(b'{"id":%d,"status":"completed","data":{"x":1}}\n' % number for number in range(count))


class Pieces(httpx.SyncByteStream):
    """Sends a body in pieces, and may break off."""

    def __init__(self, body: bytes, *, breaks: bool) -> None:
        self._body = body
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), 7):
            yield self._body[start : start + 7]
        if self._breaks:
            raise httpx.RemoteProtocolError("peer closed connection")


def exported(
    before: dict[str, object], body: bytes, after: dict[str, object] | None = None, *, breaks: bool = False
) -> bytes:
    """Export NDJSON; with `after` it follows."""
    statuses = [before, after or before]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/results/"):
            return httpx.Response(200, stream=Pieces(body, breaks=breaks))
        return httpx.Response(200, json=statuses.pop(0))

    written: list[bytes] = []
    client = Client("http://sluice.test", httpx.MockTransport(answer))
    export(client, ID, written.append, follow=after is not None, as_csv=False)
    return b"".join(written)


def test_what_comes_is_written_as_it_came() -> None:
    assert exported(status(7, completed=3), lines(7)) == lines(7)


def test_more_than_there_was_when_it_was_asked_for_is_fine() -> None:
    assert exported(status(9, completed=1), lines(6)) == lines(6)


def test_fewer_lines_than_finished_ids_are_an_error() -> None:
    with pytest.raises(TruncatedError, match="6 of 7 lines"):
        exported(status(7, completed=2, failed=1), lines(6))


def test_a_connection_that_breaks_is_an_error() -> None:
    with pytest.raises(TruncatedError, match="broke off"):
        exported(status(9, completed=1), lines(3), breaks=True)


def test_a_line_without_an_end_is_an_error() -> None:
    with pytest.raises(TruncatedError, match="within a line"):
        exported(status(9, completed=1), lines(3) + b'{"id"')


def test_following_ends_with_the_ingestion_or_is_an_error() -> None:
    assert exported(status(6), lines(6), status(6, completed=2)) == lines(6)
    with pytest.raises(TruncatedError, match="before the ingestion is completed"):
        exported(status(6), lines(3), status(6, completed=1))
    with pytest.raises(TruncatedError, match="3 of 6"):
        exported(status(6), lines(3), status(6, completed=2))


def test_what_is_cancelled_has_no_line() -> None:
    assert exported(status(7), lines(3), status(7, completed=1, cancelled=2)) == lines(3)


@pytest.mark.parametrize(
    ("described", "least"),
    [
        (status(7), 0),
        (status(7, completed=3), 7),
        (status(7, completed=2, failed=1), 7),
        (status(7, completed=2, cancelled=1), 6),
        (status(7, completed=2), 4),  # one of them may be the last, with one ID
        (status(2, completed=1), 2),
        (status(2, cancelled=1), 0),
    ],
)
def test_the_least_number_of_lines_follows_from_the_counts(described: dict[str, object], least: int) -> None:
    assert least_lines(StatusResponse.model_validate(described)) == least


def test_lines_are_put_together_from_pieces_however_they_are_cut() -> None:
    body = b'{"a":"\xe2\x80\xa8"}\n{"b":1}\n'
    for size in range(1, len(body) + 1):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]

        assert b"".join(whole_lines(pieces)) == body
        assert all(each.endswith(b"\n") for each in whole_lines(pieces))


def test_spaces_before_lines_and_after_the_last_one_are_left_out() -> None:
    body = b'  {"a":" \xe2\x80\xa8  "}\n {"b": 1}\n{"c":1}\n   '
    for size in range(1, len(body) + 1):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]

        assert b"".join(whole_lines(pieces)) == b'{"a":" \xe2\x80\xa8  "}\n{"b": 1}\n{"c":1}\n'


def test_csv_has_a_column_for_each_field_and_keeps_data_as_json() -> None:
    convert = CsvLines()
    result = {
        "id": 1,
        "batch_id": "b",
        "status": "completed",
        "data": {"a": 'x"y,z'},
        "attempts": 1,
        "finished_at": "t",
    }
    failure = {"id": 2, "batch_id": "b", "status": "failed", "error": "two\nlines", "attempts": 3, "finished_at": "t"}

    text = convert.header() + convert(b"%s\n%s\n" % (json.dumps(result).encode(), json.dumps(failure).encode()))

    assert text.decode() == (
        f'{",".join(COLUMNS)}\n1,b,completed,1,t,"{{""a"": ""x\\""y,z""}}",\n2,b,failed,3,t,,"two\nlines"\n'
    )


@pytest.fixture
def errors() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def terminal(errors: io.StringIO) -> Terminal:
    return Terminal(io.StringIO(), errors)


def test_a_file_is_there_once_it_is_whole(tmp_path: Path, terminal: Terminal) -> None:
    path = tmp_path / "out.ndjson"

    with destination(terminal, path) as write:
        write(b"1\n")
        assert not path.exists()

    assert path.read_bytes() == b"1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_there_outlives_what_breaks_off(
    tmp_path: Path, terminal: Terminal, errors: io.StringIO
) -> None:
    path = tmp_path / "out.ndjson"
    path.write_bytes(b"old\n")

    def break_off() -> None:
        with destination(terminal, path) as write:
            write(b"1\n")
            raise TruncatedError("x")

    with pytest.raises(TruncatedError):
        break_off()

    assert path.read_bytes() == b"old\n"
    assert "out.ndjson.part" in errors.getvalue()


def test_nothing_is_left_where_nothing_came(tmp_path: Path, terminal: Terminal, errors: io.StringIO) -> None:
    def be_refused() -> None:
        with destination(terminal, tmp_path / "out.ndjson"):
            raise UsageError("unknown")

    with pytest.raises(UsageError):
        be_refused()

    assert not list(tmp_path.iterdir())
    assert not errors.getvalue()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, terminal: Terminal) -> None:
    with pytest.raises(UsageError, match="nowhere"), destination(terminal, tmp_path / "nowhere" / "out"):
        pass


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path, terminal: Terminal) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    with destination(terminal, path) as write:
        write(b"1\n")

    assert os.read(reader, 10) == b"1\n"
    assert path.is_fifo()
    os.close(reader)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_folder_is_no_place_for_results(terminal: Terminal, name: str) -> None:
    with pytest.raises(UsageError, match="Is a directory"), destination(terminal, Path(name)):
        pass


@pytest.mark.parametrize("line", [b"<html>", b"[1]", b"7", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_line_of_results_is_one_readable_error(line: bytes) -> None:
    with pytest.raises(UnreachableError, match="what came is no line of results: ") as caught:
        CsvLines()(line + b"\n")

    assert len(str(caught.value)) < 200


def test_half_of_a_surrogate_pair_is_shown_as_it_was_escaped() -> None:
    assert b"\\ud800" in CsvLines()(b'{"id":1,"error":"\\ud800"}\n')
