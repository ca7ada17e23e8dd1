from __future__ import annotations

import pytest

from sft.errors import DataError
from sft.generation import Completion, Engine, Sampling
from sft.generation.scripted import ScriptedEngine


def test_answers_come_from_the_table_in_order() -> None:
    engine: Engine = ScriptedEngine({"a": "one two", "b": "three", "[1, 2]": "ids"})
    done: list[tuple[int, int]] = []
    completions = engine.complete(
        ["b", "a", [1, 2]], Sampling(max_new_tokens=9), on_progress=lambda *count: done.append(count)
    )
    assert completions == [
        Completion("three", 2, "stop"),
        Completion("one two", 3, "stop"),
        Completion("ids", 2, "stop"),
    ]
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_an_unknown_prompt_is_an_error_unless_there_is_a_default() -> None:
    with pytest.raises(DataError, match="asked 'x'"):
        ScriptedEngine({"a": "one"}).complete(["x"], Sampling(max_new_tokens=3))
    engine = ScriptedEngine({"a": "one"}, default="?")
    assert engine.complete(["x"], Sampling(max_new_tokens=3))[0].text == "?"
    assert engine.asked == [("x", Sampling(max_new_tokens=3))]


def test_a_function_answers_and_long_answers_are_cut() -> None:
    [completion] = ScriptedEngine(lambda prompt: f"{prompt} {prompt} {prompt}").complete(
        ["p"], Sampling(max_new_tokens=2)
    )
    assert completion == Completion("p p", 2, "length")
