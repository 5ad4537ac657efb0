"""What counts as IDs, and what is said of the rest."""

import io
from pathlib import Path

import pytest

from sluice.cli.errors import UsageError
from sluice.cli.ids import is_count, read_ids
from sluice.models import MAX_ID


def read(*sources: str, column: str | None = None, standard_input: str = "") -> list[int]:
    return read_ids(sources, column, io.StringIO(standard_input))


def refusal(*sources: str, column: str | None = None, standard_input: str = "") -> str:
    with pytest.raises(UsageError) as refused:
        read(*sources, column=column, standard_input=standard_input)
    return str(refused.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ids.csv"


def test_arguments_are_ids_with_spaces_or_commas_between() -> None:
    assert read("1", "2,3", "4, 5 6", f"{MAX_ID}") == [1, 2, 3, 4, 5, 6, MAX_ID]


def test_order_and_duplicates_are_kept() -> None:
    assert read("3", "1", "3") == [3, 1, 3]


def test_a_file_has_ids_with_lines_spaces_or_commas_between(file: Path) -> None:
    file.write_text("1 2,3\r\n\n4,\t5\n6")

    assert read(str(file)) == [1, 2, 3, 4, 5, 6]


def test_a_dash_is_standard_input_and_sources_add_up(file: Path) -> None:
    file.write_text("3")

    assert read("1", "-", str(file), standard_input="2\n") == [1, 2, 3]


def test_a_number_is_an_id_even_if_a_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7").write_text("1")
    monkeypatch.chdir(tmp_path)

    assert read("7") == [7]
    assert read("./7") == [1]


@pytest.mark.parametrize(
    "token", ["<script>", "12x", "0", "-1", "+1", "1_0", "1.0", "٣", str(MAX_ID + 1), "9" * 5000, "\x00"]
)
def test_what_is_no_id_is_named_with_its_line(token: str) -> None:
    message = refusal("-", standard_input=f"1 2\n3,{token}\n")

    assert message.startswith("standard input, line 2: ")
    assert repr(token[:40])[:-1] in message
    assert len(message) < 200


def test_an_argument_that_is_neither_an_id_nor_a_file_is_named() -> None:
    assert "'nowhere.txt' is no ID" in refusal("1", "nowhere.txt")
    assert "there is no file 'nowhere.txt'" in refusal("1", "nowhere.txt")


def test_nothing_is_not_enough() -> None:
    assert "no IDs" in refusal("-", standard_input="\n \n")


def test_a_file_that_cannot_be_decoded_is_refused_with_the_line(file: Path) -> None:
    file.write_bytes(b"1\n\xff\xfe\n")

    assert "line 2" in refusal(str(file))


def test_a_csv_gives_the_column_that_is_named(file: Path) -> None:
    file.write_text('name,id\n"a, ""b""",5\nc, 6 \n\n"two\nlines",7\n')

    assert read(str(file), column="id") == [5, 6, 7]


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_a_csv_may_come_from_a_spreadsheet(file: Path, delimiter: str) -> None:
    file.write_bytes(f"\ufeffid{delimiter}name\r\n5{delimiter}x\r\n".encode())

    assert read(str(file), column="id") == [5]


def test_a_csv_of_one_column_needs_no_delimiter() -> None:
    assert read("-", column="id", standard_input="id\n5\n6\n") == [5, 6]


def test_a_column_that_is_not_there_is_answered_with_those_that_are() -> None:
    message = refusal("-", column="ID", standard_input="name,id\nx,5\n")

    assert message == "standard input: there is no column 'ID'; there are: 'name', 'id'"


@pytest.mark.parametrize("row", ["x", "x,", "x,12x"])
def test_a_cell_that_is_no_id_is_named_with_its_line(row: str) -> None:
    assert refusal("-", column="id", standard_input=f"name,id\nx,5\n{row}\n").startswith("standard input, line 3: ")


def test_a_quote_that_never_ends_is_refused() -> None:
    assert "standard input, line 2" in refusal("-", column="id", standard_input='name,id\n"x,5\n')


def test_a_csv_without_its_column_named_is_answered_with_how_to() -> None:
    assert "--column" in refusal("-", standard_input="name,id\nx,5\n")


def test_one_number_is_a_count_and_anything_else_is_ids() -> None:
    assert is_count(["30"])
    assert not any(map(is_count, [["30", "31"], ["30,31"], ["-"], ["ids.txt"]]))


def test_an_argument_may_be_longer_than_the_name_of_a_file_can_be() -> None:
    assert read(",".join(map(str, range(1, 101)))) == list(range(1, 101))


def test_a_long_argument_that_is_wrong_is_named_by_its_beginning() -> None:
    message = refusal("x" * 300)

    assert message.startswith(f"argument: '{'x' * 40}…' is no ID; ")
    assert len(message) < 250
