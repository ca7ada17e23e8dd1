from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data.sources.csv_rows import read_csv
from sft.data.types import BadRow, Row
from sft.errors import DataError


def read(text: str | bytes, delimiter: str = ",") -> list[Row | BadRow]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_csv(io.BytesIO(data), "d.csv", delimiter))


def test_rows_begin_on_the_line_they_are_said_to():
    rows = read('\ufeffquestion,answer\r\na,"two\r\nlines, with ""quotes"""\r\n\r\nb,\r\n')
    assert [(row.values, row.source.line) for row in rows if isinstance(row, Row)] == [
        ({"question": "a", "answer": 'two\r\nlines, with "quotes"'}, 2),
        ({"question": "b", "answer": ""}, 5),
    ]


def test_tabs_divide_a_tsv_and_values_stay_text():
    assert [row.values for row in read("a\tb\n1\t2.50\n", "\t") if isinstance(row, Row)] == [{"a": "1", "b": "2.50"}]


def test_a_field_may_be_longer_than_the_limit_of_the_csv_module():
    (row,) = read(f"a\n{'x' * 300_000}\n")
    assert isinstance(row, Row)
    assert len(row.values["a"]) == 300_000


def test_a_row_with_more_or_fewer_fields_is_bad():
    rows = read("a,b\n1\n1,2\n1,2,3\n")
    assert [str(row) for row in rows if isinstance(row, BadRow)] == [
        "d.csv:2: wrong number of columns. The header has 2, this row 1",
        "d.csv:4: wrong number of columns. The header has 2, this row 3",
    ]
    assert [row.source.line for row in rows] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        (b'a,b\n1,"2\n3,4\n', 2, "unexpected end of data"),
        (b'a,b\n1,2\n"3"x,4\n', 3, "not valid CSV"),
        (b"a,b\n1,2\n3,\xff\n", 3, "0xff at column 3 is not UTF-8"),
        (b"a,b\n1,2\0\n", 2, "NUL byte"),
        (b"a,b,a\n1,2,3\n", 1, "two columns called 'a'"),
        (b"a,,b\n1,2,3\n", 1, "a column without a name"),
        (b"a;b\n1;2\n", 1, "seem to be by ';'"),
        (b"\xff\xfea\x00", 1, "UTF-16"),
    ],
)
def test_what_breaks_the_whole_file_is_refused_where_it_does(text: bytes, line: int, part: str):
    with pytest.raises(DataError) as caught:
        read(text)
    assert str(caught.value).startswith(f"d.csv:{line}: ")
    assert part in str(caught.value)


# Surrogates cannot be stored as UTF-8, and a NUL is refused on purpose.
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(cells, cells), max_size=5))
def test_what_the_csv_module_writes_is_read_back_unchanged(pairs: list[tuple[str, str]]):
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *pairs])
    rows = read(text.getvalue())
    assert [row.values for row in rows if isinstance(row, Row)] == [{"a": a, "b": b} for a, b in pairs]


@given(
    st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\0", b"\xff", b";", b" "]), max_size=20).map(b"".join)
)
def test_any_bytes_give_rows_or_a_located_error(data: bytes):
    try:
        rows = read(b"a,b\n" + data)
    except DataError as error:
        line = int(str(error).split(":")[1])
        assert 1 <= line <= data.count(b"\n") + data.count(b"\r") + 2
    else:
        assert all(row.source.line >= 2 for row in rows)
