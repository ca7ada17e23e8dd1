from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sft.config.declared import parse_annotation
from sft.config.values import Mismatch, RawValue, convert, shown


def from_file(value: Any, annotation: str) -> Any:
    return convert(RawValue(value, "a.yaml:1"), parse_annotation(annotation))


def from_words(value: Any, annotation: str) -> Any:
    return convert(RawValue(value, "--option"), parse_annotation(annotation))


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("2e-4", "float", 2e-4),
        (" 7 ", "int", 7),
        ("1_000", "int", 1000),
        ("1e3", "int", 1000),
        (3.0, "int", 3),
        (3, "float", 3),
        ("16", "float", 16),
        ("True", "bool", True),
        ("no", "bool", False),
        ("off", "bool", False),
        (True, "bool", True),
        (None, "int | None", None),
        ("none", "str | None", "none"),
        (Path("a") / "b", "str", str(Path("a") / "b")),
        ("a,b", "str | list[str]", "a,b"),
        ("a, b", "list[str]", ["a", "b"]),
        ("one", "list[str]", ["one"]),
        ('["a", "b"]', "str | list[str]", ["a", "b"]),
        (("a", "b"), "list[str]", ["a", "b"]),
        ([Path("a")], "str | list[Any]", ["a"]),
        ([0, "1", 2.0], "list[int] | None", [0, 1, 2]),
        ("0,1", "list[int]", [0, 1]),
        ('{"a": [1, null]}', "dict[str, Any]", {"a": [1, None]}),
        ("deepspeed.json", "dict | str | None", "deepspeed.json"),
        ('{"stage": 3}', "dict | str | None", {"stage": 3}),
        ({"a": {"b": (1, 2.5)}}, "dict[str, Any]", {"a": {"b": [1, 2.5]}}),
    ],
)
def test_becomes(value: Any, annotation: str, expected: Any) -> None:
    converted = from_file(value, annotation)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (True, "bool", True),
        ("None", "str | None", None),
        ("null", "list[str] | None", None),
        ("a,b", "str | list[str]", ["a", "b"]),
        (["a", "b"], "str | list[str]", ["a", "b"]),
        ("(q|v)_proj{1,2}", "str | list[str]", "(q|v)_proj{1,2}"),
        ("-1", "int", -1),
        ("1", "bool", True),
        ("none", "str", "none"),
    ],
)
def test_becomes_on_the_command_line(value: Any, annotation: str, expected: Any) -> None:
    assert from_words(value, annotation) == expected


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        (2.5, "int", "a whole number"),
        ("2.5", "int", "a whole number"),
        (True, "int", "a whole number"),
        (False, "float", "a number"),
        (1, "bool", "true or false"),
        ("maybe", "bool", "true or false"),
        (None, "float", "leave the option out"),
        ("fast", "float", "a number"),
        (math.nan, "float", "finite"),
        (math.inf, "float", "finite"),
        ("nan", "float", "finite"),
        ("1e999", "int", "finite"),
        (10**400, "float", "finite"),
        ("9" * 5000, "int", "finite"),
        (True, "str", 'quote it to make it text: "True"'),
        (7, "str | None", "quote it"),
        ({"a": 1}, "str", "text"),
        ("a\0b", "str", "NUL"),
        ([1], "list[str]", "a list of texts"),
        (["a"], "list[int]", "a list of whole numbers"),
        ([1.5], "list[int]", "a list of whole numbers"),
        ([True], "list[int]", "a list of whole numbers"),
        ({"a": 1}, "dict[str, str]", "text to text"),
        ({1: "a"}, "dict[str, Any]", "text keys"),
        ({"a": math.nan}, "dict[str, Any]", "finite"),
        ({"a": object()}, "dict[str, Any]", "not object"),
        ("q", "dict[str, str]", "mapping"),
        ("{q", "dict[str, str]", "no JSON object"),
        ("[q", "list[str]", "no JSON list"),
        (object(), "ParallelismConfig | None", "cannot be written here"),
    ],
)
def test_is_refused(value: Any, annotation: str, wanted: str) -> None:
    with pytest.raises(Mismatch, match=wanted.replace("(", r"\(")):
        from_file(value, annotation)


def test_a_bare_flag_is_only_a_boolean() -> None:
    with pytest.raises(Mismatch, match="a number"):
        from_words(True, "float")


def test_several_words_are_only_a_list() -> None:
    with pytest.raises(Mismatch, match="a number"):
        from_words(["1", "2"], "float")


def test_nothing_is_shared_with_the_caller() -> None:
    given = {"a": [1]}
    converted = from_file(given, "dict[str, Any]")
    given["a"].append(2)
    assert converted == {"a": [1]}


def test_entries_of_a_mapping_know_their_own_lines() -> None:
    raw = RawValue(
        {"path": "m", "lora": {"r": 8}, "new": 1},
        "a.yaml:1",
        {"path": "a.yaml:2", "lora": "a.yaml:3", "lora.r": "a.yaml:4"},
    )
    entries = raw.entries()
    assert entries["path"] == RawValue("m", "a.yaml:2")
    assert entries["lora"].entries() == {"r": RawValue(8, "a.yaml:4")}
    assert entries["new"].origin == "a.yaml:1"


def test_values_are_shown_as_a_file_writes_them_and_shortened() -> None:
    assert [shown(value) for value in (None, True, False, 1.5, "a")] == ["null", "true", "false", "1.5", "'a'"]
    assert len(shown("x" * 10_000)) < 100
    assert len(shown(list(range(10_000)))) < 100
