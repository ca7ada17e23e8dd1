"""What the documents say is true: examples are read as they claim, links lead somewhere, commands exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sft.cli.main import VERBS
from sft.config.data import FORMAT_TYPES
from sft.config.load import load_config
from sft.data.formats import FORMATS, PAIR_FORMATS, FormatOptions, detect_format, detect_pairs
from sft.data.sources import parse_sources
from sft.data.types import Row, Source

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/README.md")])
STAGES_PAGE = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
DATA_PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def examples_of_formats() -> list[tuple[str, str]]:
    sections = re.split(r"^### ", DATA_PAGE.split("## Sources")[0], flags=re.MULTILINE)[1:]
    return [
        (section.split("\n", 1)[0].strip(), line)
        for section in sections
        for block in blocks(section, "jsonl")
        for line in block.splitlines()
    ]


@pytest.mark.parametrize(("format_type", "line"), examples_of_formats())
def test_example_of_a_format_is_read_as_that_format(format_type: str, line: str) -> None:
    row = Row(json.loads(line), Source("docs/data.md", 1))
    assert detect_format([row], {}).format_type == format_type
    conversation = FORMATS[format_type](row, FormatOptions())
    assert conversation.tokens or conversation.text or conversation.messages[-1].role == "assistant"


def test_every_format_has_an_example() -> None:
    assert {name for name, _ in examples_of_formats()} == set(FORMAT_TYPES)


@pytest.mark.parametrize("block", blocks(DATA_PAGE, "yaml"))
def test_yaml_of_the_data_page_is_a_configuration(block: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(block, encoding="utf-8")
    config = load_config(path, [])
    assert parse_sources(config.data_path, columns=config.columns)


@pytest.mark.parametrize("line", [line for block in blocks(STAGES_PAGE, "jsonl") for line in block.splitlines()])
def test_example_of_a_pair_is_read_as_one(line: str) -> None:
    row = Row(json.loads(line), Source("docs/stages.md", 1))
    pair = PAIR_FORMATS[detect_pairs([row], {}).format_type](row, FormatOptions(pairs=True))
    assert pair.rejected is not None
    last = [side.text or side.messages[-1].content for side in (pair, pair.rejected)]
    assert [text[-1] for text in last] == ["4", "5"]


@pytest.mark.parametrize("block", blocks(STAGES_PAGE, "yaml"))
def test_yaml_of_the_stages_page_is_a_configuration(block: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(block, encoding="utf-8")
    assert load_config(path, []).stage in ("pretrain", "dpo")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_verbs_exist(page: Path) -> None:
    shown = "\n".join(blocks(page.read_text(encoding="utf-8"), "bash"))
    verbs = re.findall(r"^\s*(?:\.venv/bin/)?sft +([a-z]+)", shown, flags=re.MULTILINE)
    assert [verb for verb in verbs if verb not in VERBS] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [target for target in shown if target not in targets] == []


def test_quickstart_config_is_valid() -> None:
    config = load_config(ROOT / "examples" / "quickstart" / "quickstart.yaml", [])
    assert (ROOT / config.data_path).exists()
    assert (ROOT / config.eval_data_path).exists()
