"""docs/errors.md has a heading for every message of the program, and every class of error."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from page_blocks import ROOT

import sft.errors
from sft.cli.main import main

PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(messages: ModuleType) -> dict[str, list[str]]:
    """File of the package -> its messages."""
    return messages.all_messages()


@pytest.fixture(scope="module")
def messages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("messages", ROOT / "docs" / "messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_message_has_its_heading(messages: ModuleType, found: dict[str, list[str]]) -> None:
    sections = messages.sections_of(PAGE)
    assert sum(map(len, found.values())) > 500, "the messages are not found where they are written"
    assert [path for path in found if messages.heading_of(path, sections) is None] == []
    headings = {messages.heading_of(path, sections) for path in found}
    assert set(sections) - headings == set(), "headings without a message"
    places = [place for places in sections.values() for place in places]
    assert len(places) == len(set(places))
    assert [place for place in places if not (messages.PACKAGE / place).exists()] == []


def test_every_class_is_named() -> None:
    classes = {
        name for name, value in vars(sft.errors).items() if isinstance(value, type) and name.endswith(("Error",))
    }
    raised = {name for name, value in vars(sft.errors).items() if getattr(value, "__module__", "") == "sft.errors"}
    assert {name for name in classes | raised if f"`{name}`" not in PAGE} == set()
    for code in (sft.errors.EXIT_OURS, sft.errors.EXIT_USER, sft.errors.EXIT_STOPPED):
        assert f"| {code} |" in PAGE


WRONG = {
    "The command line": ["train", "--lora_r"],
    "An option that is not known, or a value that does not fit": ["plan", "--lora_rank_of_it", "8"],
    "A file that cannot be read as options": ["plan", "broken.yaml"],
    "Options that do not go together": ["plan", "--data_path", "rows.jsonl", "--load_in_4bit"],
    "A source that cannot be read": ["inspect", "--data_path", "nowhere.jsonl", "--model_name_or_path", "MODEL"],
    "A row that cannot be used": ["inspect", "--data_path", "odd.jsonl", "--model_name_or_path", "MODEL"],
    "A tokenizer or a model that cannot be loaded": [
        "plan",
        "--data_path",
        "rows.jsonl",
        "--model_name_or_path",
        "./no",
    ],
    "A merge, an export or an upload is refused": ["merge", "--adapter_path", "./no", "--output_path", "merged"],
}


@pytest.mark.parametrize("heading", WRONG)
def test_what_is_said_stands_under_the_heading_where_one_looks(
    heading: str,
    messages: ModuleType,
    found: dict[str, list[str]],
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real mistakes: what is printed fits a message that the site lists there."""
    (tmp_path / "broken.yaml").write_text("lora_r: 8\nlora_r: 9\n")
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "odd.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"text": "c"}\n')
    words = [str(tiny_model_folder) if word == "MODEL" else word for word in WRONG[heading]]
    monkeypatch.chdir(tmp_path)
    assert main(words) == sft.errors.EXIT_USER
    sections, said = messages.sections_of(PAGE), " ".join(capsys.readouterr().err.split())
    fitting = [
        (path, text)
        for path, texts in found.items()
        for text in texts
        if re.search(".*?".join(map(re.escape, text.split(messages.GAP))), said) and len(re.sub(r"\W", "", text)) > 8
    ]
    assert heading in {messages.heading_of(path, sections) for path, _ in fitting}, (said, fitting)
