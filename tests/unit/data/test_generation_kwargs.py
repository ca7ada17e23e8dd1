"""The variables that chat and evaluation send are those of the answers that are trained on, not of those left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.config import SFTConfig
from sft.data.prepare import prepare


def row(*turns: str, thoughts: str | None = None) -> dict[str, Any]:
    messages = [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(turns)]
    if thoughts is not None:
        messages[-1]["reasoning_content"] = thoughts
    return {"messages": messages}


@pytest.mark.parametrize(
    ("rows", "overlong", "expected"),
    [
        ([row("Hi", "Hello"), row("Why?", "So.", thoughts="hm")], "drop", {}),
        ([row("Hi", "Hello"), row("Why?", "So.", thoughts="long " * 200)], "drop", {"enable_thinking": False}),
        ([row("Hi", "Hello"), row("Why?", "So.", thoughts="long " * 200)], "cut_start", {"enable_thinking": False}),
        ([row("long " * 200, "Hello", "Why?", "So.", thoughts="hm")], "cut_start", {}),
        ([row("Hi", "Hello"), row("long " * 200, "Hello", "Why?", "So.")], "cut_start", {"enable_thinking": False}),
    ],
    ids=["thoughts that fit", "dropped", "nothing of it fits", "cut with thoughts", "cut without thoughts"],
)
def test_only_examples_that_are_kept_tell_the_variables(
    new_tokenizer: Any, tmp_path: Path, rows: list[dict[str, Any]], overlong: str, expected: dict[str, Any]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(values) + "\n" for values in rows))
    config = SFTConfig(data_path=str(path), cache_dir=str(tmp_path / "cache"), max_length=128, overlong=overlong)
    prepared = prepare(config, new_tokenizer("qwen3"), quiet=True)
    assert prepared.train.report.generation_kwargs == expected
