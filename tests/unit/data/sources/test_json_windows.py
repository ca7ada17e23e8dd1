"""A list that is read through a window has the rows, lines and errors that it has when it is read as a whole."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data.sources import json_rows, list_parts, parse_sources, read_part
from sft.data.sources.json_rows import read_json_document
from sft.data.sources.json_windows import BrokenList, read_list_values
from sft.data.types import BadRow, Row
from sft.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
documents = st.builds(
    lambda rows, indent, is_ascii: json.dumps(rows, indent=indent, ensure_ascii=is_ascii),
    st.lists(values, max_size=12),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)


def whole(data: bytes) -> list[tuple[Any, str]] | None:
    """Every value that a row was made of, with its place; None where the document is broken."""
    try:
        return told(read_json_document(io.BytesIO(data), "x.json"))
    except DataError:
        return None


def through_a_window(data: bytes, first: int, window: int) -> list[tuple[Any, str]] | None:
    file = io.BytesIO(data)
    head = file.read(first)
    try:
        return told(json_rows._placed(read_list_values(head, file, window), "x.json"))
    except BrokenList:
        return None


def told(rows: Iterator[Row | BadRow]) -> list[tuple[Any, str]]:
    return [(row.reason if isinstance(row, BadRow) else row.values, str(row.source)) for row in rows]


@given(documents, st.integers(0, 30), st.integers(1, 30), st.integers(1, 30))
def test_any_list(document: str, blanks: int, first: int, window: int) -> None:
    data = (" \n" * (blanks % 3) + document + "\n" * (blanks % 4)).encode("utf-8", "surrogatepass")
    first = max(first, 1 + data.index(b"["))
    assert through_a_window(data, first, window) == whole(data)


@given(documents, st.binary(min_size=1, max_size=3), st.integers(0, 200), st.integers(1, 30))
def test_any_broken_list(document: str, noise: bytes, place: int, window: int) -> None:
    data = document.encode()
    place = 1 + place % len(data)
    data = data[:place] + noise + data[place:]
    assert through_a_window(data, 1, window) == whole(data)


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_a_long_file_is_read_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    import gzip

    rows = [{"text": f"number {number} ü"} for number in range(40)]
    written = json.dumps(rows, indent=1, ensure_ascii=False).encode()
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(written) if ending.endswith("gz") else written)
    part = list_parts(parse_sources(str(path))[0])[0][0]
    expected = list(read_part(part))
    monkeypatch.setattr(json_rows, "WINDOW", 100)
    monkeypatch.setattr(json_rows, "_read_whole", lambda *document: pytest.fail("read as a whole"))
    assert list(read_part(part)) == expected
    assert len(expected) == 40


@pytest.mark.parametrize("text", ['{"text": "%s"}\n{"text": "b"}\n{"text": "c"}', '[{"text": "%s"}, {"text": "b"} {]'])
def test_lines_and_errors_are_the_same_whatever_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text % ("long " * 10), encoding="utf-8")
    part = list_parts(parse_sources(str(path))[0])[0][0]
    said = []
    for window in (1 << 20, 70):
        monkeypatch.setattr(json_rows, "WINDOW", window)
        try:
            said.append(str(list(read_part(part))))
        except DataError as error:
            said.append(str(error))
    assert said[0] == said[1]
