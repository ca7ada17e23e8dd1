"""The pictures of what-is-trained.md show what the program does now, and what the rows say."""

from __future__ import annotations

import importlib.util
import re
from html import unescape
from types import ModuleType

import pytest
from page_blocks import ROOT

IMAGES = ROOT / "docs" / "images"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_drawn_again_they_are_the_same(script: ModuleType) -> None:
    drawn = script.pictures()
    kept = {path.name: path.read_text(encoding="utf-8") for path in IMAGES.glob("trained-*.svg")}
    assert kept == drawn, "run: python docs/pictures.py"
    page = (ROOT / "docs" / "what-is-trained.md").read_text(encoding="utf-8")
    assert [name for name in drawn if f"(images/{name})" not in page] == []


def test_what_is_marked_is_what_the_rows_answer(script: ModuleType) -> None:
    for name, (_, _, row) in script.PICTURES.items():
        picture = (IMAGES / f"trained-{name}.svg").read_text(encoding="utf-8")
        marked = "".join(unescape(text) for text in re.findall(r'<text class="t"[^>]*>(.*?)</text>', picture))
        answers = [turn for turn in row["messages"] if turn["role"] == "assistant" and turn.get("train", True)]
        assert marked.count("<|im_end|>") == len(answers)
        for answer in answers:
            assert answer["content"] in marked
            assert answer.get("reasoning_content", "") in marked
        others = [turn["content"] for turn in row["messages"] if turn["role"] != "assistant"]
        assert [text for text in others if text in marked] == []
