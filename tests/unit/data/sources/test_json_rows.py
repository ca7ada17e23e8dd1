from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data.sources.json_rows import read_json_document, read_json_lines
from sft.data.types import BadRow, Row
from sft.errors import DataError


def document(text: str | bytes, split: str = "train") -> list[Row | BadRow]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_json_document(io.BytesIO(data), "d.json", split))


def lines(text: str | bytes) -> list[Row | BadRow]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_json_lines(io.BytesIO(data), "d.jsonl"))


def found(rows: list[Row | BadRow]) -> list[tuple[Any, int]]:
    assert all(isinstance(row, Row) for row in rows), rows
    return [(row.values, row.source.line) for row in rows if isinstance(row, Row)]


A, B = {"q": "1"}, {"q": "2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"q": "1"},\n{"q": "2"}]', [(A, 1), (B, 2)]),
        ('[\n  {\n    "q": "1"\n  },\n  {"q": "2"}\n]\n', [(A, 2), (B, 5)]),
        ('[\r\n{"q": "1"},\r\n\r\n{"q": "2"}]\r\n', [(A, 2), (B, 4)]),
        ('\ufeff[{"q": "1"}\n,{"q": "2"}]', [(A, 1), (B, 2)]),
        ('\n\n{"q": "1"}', [(A, 3)]),
        ('{\n"q": "1"\n}', [(A, 1)]),
        ('{"q": "1"}\n{"q": "2"}\n', [(A, 1), (B, 2)]),
        ('{\n"q": "1"\n}\n{\n"q": "2"}', [(A, 1), (B, 4)]),
        ('{"version": 1,\n "data": [\n{"q": "1"},\n{"q": "2"}]}', [(A, 3), (B, 4)]),
        ('{"test": [{"q": "1"}],\n "train": [\n{"q": "2"}]}', [(B, 3)]),
        ("[]", []),
        (" [ ]\n", []),
        ("", []),
        (" \n\n", []),
    ],
)
def test_documents_of_every_shape_give_rows_with_the_line_they_begin_on(text, expected):
    assert found(document(text)) == expected
    assert all(row.source.unit == "line" for row in document(text))


@pytest.mark.parametrize(
    "text", ['[{"q": "1"}, {"q": "2"}, 3]', '\n{"data": [{"q": "1"}, {"q": "2"},\n3]}', '{"q": "1"} {"q": "2"} 3']
)
def test_rows_that_share_a_line_are_told_by_their_number(text: str) -> None:
    """What json.dump writes. "Line 1" would be said of every row of the file."""
    assert [str(row.source) for row in document(text)] == ["d.json row 1", "d.json row 2", "d.json row 3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"q": "1"}\n{"q": "2"}\n', [(A, 1), (B, 2)]),
        ('{"q": "1"}\r\n\r\n  {"q": "2"}  \r\n', [(A, 1), (B, 3)]),
        ('\ufeff\n{"q": "1"}\n{"q": "2"}', [(A, 2), (B, 3)]),
        ('[{"q": "1"},\n{"q": "2"}]', [(A, 1), (B, 2)]),
        ('{\n  "q": "1"\n}\n', [(A, 1)]),
        ("", []),
    ],
)
def test_lines_are_numbered_from_the_top_of_the_file(text, expected):
    assert found(lines(text)) == expected


def test_lines_that_are_lists_are_bad_rows_and_no_document():
    rows = lines('[{"q": "1"}]\n{"q": "1"}\n["q"]\n')
    assert [(type(row), row.source.line) for row in rows] == [(BadRow, 1), (Row, 2), (BadRow, 3)]


def test_an_object_with_messages_is_a_row_and_no_wrapping_around_rows():
    text = '{"id": 7, "conversations": [{"from": "human", "value": "a"}]}'
    assert found(document(text)) == [(json.loads(text), 1)]


def test_the_list_of_an_object_is_chosen_by_split():
    text = '{"train": [{"q": "1"}], "test": [{"q": "2"}]}'
    assert found(document(text, "test")) == [(B, 1)]
    with pytest.raises(DataError, match=r"d\.json:1: .*several lists of rows \(train, test\).*'dev'.*split"):
        document(text, "dev")


GOOD = '{"q": "1"}\n'


@pytest.mark.parametrize(
    ("line", "reason", "advice"),
    [
        (b'{"q": "1"', "not valid JSON", "ends too early"),
        (b'{"q": "1}', "not valid JSON", "never closed"),
        (b'{"q": "1",}', "not valid JSON", ""),
        (b'{"q": 1 "r": 2}', "not valid JSON", "column 9"),
        (b'{"q": "1"} {"q": "2"}', "not valid JSON", "column 11"),
        (b"{'q': '1'}", "not valid JSON", "double quotes"),
        (b'{"q": "tab\there"}', "not valid JSON", "control character"),
        (b'{"q": "\xff"}', "not UTF-8", "0xff at column 8"),
        (b'{"q": "\xe4\xbd"}', "not UTF-8", "0xe4"),
        (b"\0\0\0\0", "NUL byte", "column 1"),
        (b'{"q": "a\0"}', "NUL byte", "column 9"),
        (b'{"q": "\\ud83d"}', "half a character", ""),
        (b'{"q": "a", "r": ["\\uDE00"]}', "half a character", ""),
        (b"[" * 5000 + b"]" * 5000, "nested too deeply", "100"),
        (b'{"q": ' + b"[" * 200 + b"]" * 200 + b"}", "nested too deeply", "100"),
        (b'{"q": "1", "q": "2"}', "repeated key", "'q'"),
        (b'{"m": [{"a": 1, "b": 1, "a": 1}]}', "repeated key", "'a'"),
        (b'{"q": NaN}', "NaN or Infinity", "NaN"),
        (b'{"q": [-Infinity]}', "NaN or Infinity", "-Infinity"),
        (b'{"q": ' + b"9" * 5000 + b"}", "number too long", ""),
        (b'["a"]', "not an object", "found a list"),
        (b'"text"', "not an object", "found a text"),
        (b"null", "not an object", "null"),
        (b"12", "not an object", "found a number"),
        (b"plain words", "not valid JSON", "found 'p'"),
    ],
)
def test_a_bad_line_is_located_and_reading_goes_on(line: bytes, reason: str, advice: str):
    rows = lines(GOOD.encode() + line + b"\n" + GOOD.encode())
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    assert isinstance(rows[1], BadRow)
    assert rows[1].reason == reason
    assert advice in rows[1].advice
    assert str(rows[1]).startswith(f"d.jsonl:2: {reason}")
    assert rows[2].source.line == 3


def test_numbers_too_long_depend_on_python_only_as_far_as_python_has_a_limit():
    rows = lines('{"q": ' + "9" * 4000 + "}")
    assert found(rows) == [({"q": int("9" * 4000)}, 1)]


def test_a_last_line_that_was_cut_off_is_said_to_be():
    rows = lines('{"q": "1"}\n{"q": "2", "r": "some')
    assert isinstance(rows[1], BadRow)
    assert rows[1].source.line == 2
    assert "cut off" in rows[1].advice


def test_a_whole_emoji_written_as_two_escapes_is_no_half_character():
    assert found(lines('{"q": "\\ud83d\\ude00 \\ud55c"}')) == [({"q": "😀 한"}, 1)]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        (b'[\n{"q": "1"},\n{"q": "2"\n{"q": "3"}\n]', 4, "row begins on line 3"),
        (b'[\n{"q": "1"}\n{"q": "2"}]', 3, "a comma or ] must follow"),
        (b'[\n{"q": "1"},\n]', 3, "comma stands before"),
        (b'[\n{"q": "1"},\n{"q": "tw', 3, "never closed"),
        (b'[\n{"q": "1"}\n', 3, "the list that opens on line 1 is never closed"),
        (b'[{"q": "1"}]\n[{"q": "2"}]', 2, "unexpected '['"),
        (b'[\n{"q": "\xff"}]', 2, "0xff at column 8 is not UTF-8"),
        (b"\xff\xfe[\x00]\x00", 1, "UTF-16"),
        (b"plain words", 1, "unexpected 'p'"),
        (b'[\n{"q": ' + b"[" * 100_000, 2, "nested too deeply"),
        (b'[\n{"q": 1},\n{"q": ' + b"7" * 5000 + b"}]", 3, "number too long"),
        (b"[\n\n\0\0", 3, "NUL byte"),
        (b"[\n{'q': 1}]", 2, "double quotes"),
        (b'{\n "q": "1",\n "r": }', 3, "not valid JSON"),
        (b'{\n "data": [{"q": "1"}, {"q" "2"}]}', 2, "not valid JSON"),
        (b'{"q": "1"}{"q": ', 1, "ends too early"),
    ],
)
def test_a_document_with_broken_structure_is_refused_where_it_breaks(text: bytes, line: int, part: str):
    with pytest.raises(DataError) as caught:
        document(text)
    assert str(caught.value).startswith(f"d.json:{line}: ")
    assert part in str(caught.value)


def test_trouble_inside_one_row_of_a_document_costs_that_row_only():
    rows = document('[\n{"q": "1"},\n{"q": NaN},\n["q"],\n{"q": "\\ud800"},\n{"q": "1", "q": "2"},\n{"q": "2"}\n]')
    assert [(type(row), row.source.line) for row in rows] == [
        (Row, 2), (BadRow, 3), (BadRow, 4), (BadRow, 5), (BadRow, 6), (Row, 7),
    ]  # fmt: skip
    assert [row.reason for row in rows if isinstance(row, BadRow)] == [
        "NaN or Infinity", "not an object", "half a character", "repeated key",
    ]  # fmt: skip


def test_trouble_inside_one_row_of_a_wrapped_list_costs_that_row_only():
    rows = document('{"data": [\n{"q": "1", "q": "2"},\n{"q": "2"}]}')
    assert [(type(row), row.source.line) for row in rows] == [(BadRow, 2), (Row, 3)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: st.lists(children, max_size=3)
    | st.dictionaries(st.text(st.characters(codec="utf-8")), children, max_size=3),
    max_leaves=8,
)  # fmt: skip
json_rows = st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=4), max_size=6)


@given(json_rows, st.booleans(), st.sampled_from([None, 0, 1, 4]), st.sampled_from(["", "\ufeff"]), st.booleans())
def test_a_written_list_is_read_back_and_every_line_number_leads_to_its_row(rows, ascii_only, indent, mark, crlf):
    text = json.dumps(rows, ensure_ascii=ascii_only, indent=indent)
    data = (mark + (text.replace("\n", "\r\n") if crlf else text)).encode()
    read = found(document(data))
    assert [values for values, _ in read] == rows
    if indent is not None:
        text_lines = text.split("\n")
        for values, line in read:
            assert json.JSONDecoder().raw_decode("\n".join(text_lines[line - 1 :]).lstrip())[0] == values


@given(json_rows, st.booleans())
def test_written_lines_are_read_back(rows, ascii_only):
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    expected = [(row, number) for number, row in enumerate(rows, 1)]
    assert found(lines(text)) == expected


json_like_bytes = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b",", b":", b'"', b'"q"', b"1", b"NaN", b"\\ud800", b"\n", b"\r\n", b" ", b"\xff",
         b"\0", b'{"q": "1"}', b"null", b"\xef\xbb\xbf", b"\xff\xfe", b"'", b"\\", b"1e999", b"-"]
    ),
    max_size=25,
).map(b"".join)  # fmt: skip


@given(st.binary(max_size=60) | json_like_bytes)
def test_any_bytes_give_rows_bad_rows_or_a_located_error(data: bytes):
    for read, name in ((read_json_document, "d.json"), (read_json_lines, "d.jsonl")):
        num_lines = data.count(b"\n") + 1
        try:
            rows = list(read(io.BytesIO(data), name))
        except DataError as error:
            path, line = str(error).split(":")[:2]
            assert path == name
            assert 1 <= int(line) <= num_lines
        else:
            bound = {"line": num_lines, "row": len(rows)}
            assert all(1 <= row.source.line <= bound[row.source.unit] for row in rows)


def test_reading_lines_takes_no_more_of_the_file_than_was_asked_for():
    class Counted(io.BytesIO):
        taken = 0

        def readline(self, size: int | None = -1) -> bytes:
            self.taken += 1
            return super().readline(size)

        def __next__(self) -> bytes:
            self.taken += 1
            return super().__next__()

    file = Counted(GOOD.encode() * 1000)
    rows = read_json_lines(file, "d.jsonl")
    for _ in range(3):
        next(rows)
    assert file.taken <= 4
